package schedule

import (
	"slices"
	"time"

	"aisle.dev/aisle/activator/broker/cron"
)

// day is a date: days since 1 January 1970.
type day int32

// noDay is after every date that can be written: a window without a last date.
const noDay day = 1 << 30

func dayOf(year int, month time.Month, d int) day {
	return day(time.Date(year, month, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

// localDay is the date that the clock of a zone shows at t.
func localDay(t time.Time, loc *time.Location) day {
	year, month, d := t.In(loc).Date()
	return dayOf(year, month, d)
}

func (d day) weekday() time.Weekday { return time.Weekday((int(d)%7 + 4 + 7) % 7) }

// at is when the clock of a zone reaches a minute of the date, which may be one
// of the next day's.
func (d day) at(minute int, loc *time.Location) time.Time {
	return cron.Reach(time.Unix(int64(d)*86400+int64(minute)*60, 0).UTC(), loc)
}

const (
	minutesOfDay = 24 * 60
	everyDay     = 1<<7 - 1
)

// window is one window of a schedule. Its times come from days and start and
// end, or from cron.
type window struct {
	name       string
	index      int // its place in the schedule: order for who reads
	floor, cap int // 0: none
	closed     bool

	loc         *time.Location
	first, last day   // the dates on which it may begin
	except      []day // sorted: dates on which it does not begin
	only        []day // sorted: the only dates on which it begins; nil: any

	days       uint8 // by time.Weekday's bit
	start, end int   // minutes of the date; end is after start, up to two days

	cron *cronTimes // in place of days, start and end
}

type cronTimes struct{ start, end cron.Schedule }

// span is when a window holds once: from begin up to before end.
type span struct {
	begin, end time.Time // end zero: it never ends
}

// over says whether the span has ended at t.
func (s span) over(t time.Time) bool { return !s.end.IsZero() && !t.Before(s.end) }

// spanAt is the first span of the window that is not over at t: one that holds,
// or the next one.
func (w *window) spanAt(t time.Time) (span, bool) {
	if w.cron != nil {
		return w.cronSpan(t)
	}
	// One that begins two dates before has ended, even where the clock was set
	// back over a midnight.
	from := localDay(t, w.loc) - 2
	for {
		d, ok := w.beginsFrom(from)
		if !ok {
			return span{}, false
		}
		last := w.unbrokenTo(d)
		s := span{begin: d.at(w.start, w.loc)}
		if last < noDay {
			s.end = last.at(w.end, w.loc)
		}
		// Empty where it lies within what the clock leaves out.
		if !s.over(t) && !s.begin.Equal(s.end) {
			return s, true
		}
		from = last + 1
	}
}

// begins says whether the window may begin on a date, its weekdays aside.
func (w *window) begins(d day) bool {
	if d < w.first || d > w.last {
		return false
	}
	if _, excepted := slices.BinarySearch(w.except, d); excepted {
		return false
	}
	if w.only != nil {
		_, in := slices.BinarySearch(w.only, d)
		return in
	}
	return true
}

// beginsFrom is the first date from d on, on which a window by days begins.
func (w *window) beginsFrom(d day) (day, bool) {
	if w.only != nil {
		i, _ := slices.BinarySearch(w.only, d)
		if i == len(w.only) {
			return 0, false
		}
		return w.only[i], true
	}
	// Every date but some is tried: those of other weekdays, and exceptions.
	for d = max(d, w.first); d <= w.last; d++ {
		if w.days&(1<<d.weekday()) != 0 && w.begins(d) {
			return d, true
		}
		if w.days == 0 {
			break
		}
	}
	return 0, false
}

// unbrokenTo is the last of the dates from d on, on each of which the window
// begins when it ends; noDay if they do not end.
func (w *window) unbrokenTo(d day) day {
	if w.end-w.start != minutesOfDay {
		return d
	}
	if w.only == nil && w.days == everyDay {
		i, _ := slices.BinarySearch(w.except, d)
		if i < len(w.except) {
			return min(w.except[i]-1, w.last)
		}
		return w.last
	}
	for w.begins(d+1) && (w.only != nil || w.days&(1<<(d+1).weekday()) != 0) {
		d++
	}
	return d
}

// cronSpan is spanAt of a window by cron. It begins with the first tick of its
// start after the end before, and ends with the next tick of its end. Where both
// tick at once it does not begin: so it is where the clock leaves out both.
func (w *window) cronSpan(t time.Time) (span, bool) {
	begin, ok := w.cronBegin(w.cron.end.Prev(t))
	if !ok {
		return span{}, false
	}
	if begin.After(t) {
		t = begin
	}
	return span{begin: begin, end: w.cron.end.Next(t)}, true
}

// maxTogether is how many ticks of a start in a row may be ones of the end as
// well, until the window counts as one that never begins again.
const maxTogether = 64

// cronBegin is the first tick of the window's start after t at which it begins.
func (w *window) cronBegin(t time.Time) (time.Time, bool) {
	if from := w.first.at(0, w.loc).Add(-time.Second); w.first > 0 && from.After(t) {
		t = from
	}
	for together := 0; together < maxTogether; {
		t = w.cron.start.Next(t)
		d := localDay(t, w.loc)
		if d > w.last {
			break
		}
		if !w.begins(d) {
			// To the end of the exception's date at once.
			if next := (d + 1).at(0, w.loc).Add(-time.Second); next.After(t) {
				t = next
			}
			continue
		}
		if !w.cron.end.Next(t.Add(-time.Second)).Equal(t) {
			return t, true
		}
		together++
	}
	return time.Time{}, false
}
