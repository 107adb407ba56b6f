// Package cron says when a schedule ticks, as Knative's PingSource writes it.
//
// It is pure. robfig/cron, by which Knative validates schedules, is not used:
// it panics on some, and where the clock is changed it leaves ticks out or
// gives them twice.
package cron

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// maxSchedule bounds the bytes of a schedule. Every minute of an hour listed
// one by one is shorter.
const maxSchedule = 512

// Schedule says when there is a tick. It is a value; its methods are pure.
//
// Ticks lie on whole seconds. Where the clock of the schedule's zone is
// changed, it depends on the hour field:
//   - Hours are named ("30 2 * * *"): a tick is a time of day, and each comes
//     once. One that the clock leaves out is at the moment of the change; of
//     one that the clock shows twice, the first showing counts.
//   - Every hour ("*/5 * * * *", "@hourly"): ticks are at their distances in
//     elapsed time. An hour that the clock shows twice has them twice, and one
//     that it leaves out has none.
type Schedule struct {
	second, minute, hour uint64 // sets of values, by bit
	dom, month, dow      uint64
	anyHour              bool // the hour field is "*"
	eitherDay            bool // neither day field is "*": one that matches suffices
	loc                  *time.Location
}

// Parse reads a schedule as Knative's PingSource has it: five fields, six
// with seconds in front, or a descriptor (@yearly, @annually, @monthly,
// @weekly, @daily, @midnight, @hourly), after TZ=ZONE or CRON_TZ=ZONE where
// timezone is empty. Without any zone it is this machine's.
//
// Knative refuses @every, and so does Parse. It also refuses what Knative
// would take and never fire, such as 31 February.
func Parse(schedule, timezone string) (Schedule, error) {
	var s Schedule
	if len(schedule) > maxSchedule {
		return s, fmt.Errorf("the schedule has %d bytes; at most %d are read", len(schedule), maxSchedule)
	}
	zone, rest, err := splitZone(schedule, timezone)
	if err != nil {
		return s, err
	}
	if s.loc, err = loadZone(zone); err != nil {
		return s, err
	}
	if strings.HasPrefix(rest, "@") {
		var known bool
		if rest, known = descriptors[rest]; !known {
			return s, fmt.Errorf("schedule %q: there is no such descriptor; use @yearly, @monthly, @weekly, @daily, @hourly or five fields", schedule)
		}
	}
	values := strings.Fields(rest)
	if len(values) == len(fields)-1 {
		values = append([]string{"0"}, values...) // seconds may be left out
	}
	if len(values) != len(fields) {
		return s, fmt.Errorf("schedule %q has %d fields; it has five (minute, hour, day of month, month, day of week), or six with the second in front", schedule, len(values))
	}
	if err := s.set(schedule, values); err != nil {
		return Schedule{}, err
	}
	return s, nil
}

// ParseFive reads five fields alone, in a zone that is at hand: without
// seconds, descriptor or zone of their own.
func ParseFive(schedule string, loc *time.Location) (Schedule, error) {
	if len(schedule) > maxSchedule {
		return Schedule{}, fmt.Errorf("it has %d bytes; at most %d are read", len(schedule), maxSchedule)
	}
	values := strings.Fields(schedule)
	switch {
	case strings.Contains(schedule, "="):
		return Schedule{}, fmt.Errorf("%q names a zone; the schedule's time zone holds: leave it out", schedule)
	case strings.HasPrefix(schedule, "@"):
		return Schedule{}, fmt.Errorf("%q is a descriptor; write five fields (minute, hour, day of month, month, day of week), such as \"0 8 * * 1-5\"", schedule)
	case len(values) != len(fields)-1:
		return Schedule{}, fmt.Errorf("%q has %d fields; write five (minute, hour, day of month, month, day of week), such as \"0 8 * * 1-5\"", schedule, len(values))
	}
	s := Schedule{loc: loc}
	if err := s.set(schedule, append([]string{"0"}, values...)); err != nil {
		return Schedule{}, err
	}
	return s, nil
}

// set takes the six fields that a schedule has, and refuses one that never
// comes.
func (s *Schedule) set(schedule string, values []string) error {
	var sets [len(fields)]uint64
	var all [len(fields)]bool
	for i, f := range fields {
		var err error
		if sets[i], all[i], err = f.parse(values[i]); err != nil {
			return fmt.Errorf("schedule %q: %s: %w", schedule, f.name, err)
		}
	}
	s.second, s.minute, s.hour, s.dom, s.month, s.dow = sets[0], sets[1], sets[2], sets[3], sets[4], sets[5]
	s.anyHour, s.eitherDay = all[2], !all[3] && !all[5]
	if _, ok := s.reading(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); !ok {
		return fmt.Errorf("schedule %q never comes: there is no such date", schedule)
	}
	return nil
}

// splitZone takes the zone off a schedule's front.
func splitZone(schedule, timezone string) (zone, rest string, err error) {
	name, after, ok := strings.Cut(schedule, "=")
	if !ok || name != "TZ" && name != "CRON_TZ" {
		return timezone, schedule, nil
	}
	if timezone != "" {
		return "", "", fmt.Errorf("schedule %q names a zone and timezone says %q; name it once", schedule, timezone)
	}
	zone, rest, ok = strings.Cut(after, " ")
	if !ok || zone == "" {
		return "", "", fmt.Errorf("schedule %q ends after its zone; say when it ticks", schedule)
	}
	return zone, strings.TrimSpace(rest), nil
}

func loadZone(name string) (*time.Location, error) {
	if name == "" {
		return time.Local, nil
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time zone %q: %w; use a name of the IANA database, such as Europe/Berlin", name, err)
	}
	return loc, nil
}

var descriptors = map[string]string{
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
	"@monthly":  "0 0 1 * *",
	"@weekly":   "0 0 * * 0",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@hourly":   "0 * * * *",
}

// field is what one position of a schedule may say.
type field struct {
	name     string
	min, max int
	words    map[string]int
}

var fields = [...]field{
	{name: "second", min: 0, max: 59},
	{name: "minute", min: 0, max: 59},
	{name: "hour", min: 0, max: 23},
	{name: "day of month", min: 1, max: 31},
	{name: "month", min: 1, max: 12, words: map[string]int{
		"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
		"jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12}},
	{name: "day of week", min: 0, max: 6, words: map[string]int{
		"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}},
}

// parse reads a list of ranges into the set of values that it names. Star
// says that one of them is all there are, written as such.
func (f field) parse(list string) (set uint64, star bool, err error) {
	for item := range strings.SplitSeq(list, ",") {
		if item == "" {
			continue // as Knative: "1,,2" is "1,2"
		}
		s, all, err := f.parseRange(item)
		if err != nil {
			return 0, false, err
		}
		set, star = set|s, star || all
	}
	if set == 0 {
		return 0, false, errors.New("names nothing")
	}
	return set, star, nil
}

// parseRange reads "*", "?", N, N-M, each with "/STEP" or without. N/STEP
// goes from N to the end.
func (f field) parseRange(item string) (set uint64, star bool, err error) {
	span, by, stepped := strings.Cut(item, "/")
	step := 1
	if stepped {
		if step, err = strconv.Atoi(by); err != nil || step < 1 {
			return 0, false, fmt.Errorf("%q: the step is a number from 1", item)
		}
	}
	low, high, isRange := strings.Cut(span, "-")
	from, to := f.min, f.max
	if span == "*" || span == "?" {
		star = step == 1
	} else {
		if from, err = f.value(low); err != nil {
			return 0, false, err
		}
		switch {
		case isRange:
			if to, err = f.value(high); err != nil {
				return 0, false, err
			}
		case !stepped:
			to = from
		}
	}
	if from > to {
		return 0, false, fmt.Errorf("%q begins after its end", item)
	}
	for v := from; v <= to; v += min(step, f.max+1) {
		set |= 1 << v
	}
	return set, star, nil
}

func (f field) value(s string) (int, error) {
	if v, ok := f.words[strings.ToLower(s)]; ok {
		return v, nil
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < f.min || v > f.max {
		return 0, fmt.Errorf("%q is not a number from %d to %d", s, f.min, f.max)
	}
	return v, nil
}

// Next returns the first tick after a moment.
func (s Schedule) Next(after time.Time) time.Time {
	at := time.Unix(after.Unix(), 0).In(s.loc) // to the whole second
	if s.anyHour {
		return s.nextElapsed(at.Add(time.Second))
	}
	r, ok := s.reading(s.highest(at).Add(time.Second))
	if !ok {
		panic("cron: a schedule that was parsed always comes again")
	}
	return Reach(r, s.loc)
}

// Prev returns the last tick at a moment or before it.
func (s Schedule) Prev(at time.Time) time.Time {
	// Nothing that was parsed stays away for longer than eight years, so this
	// ends after a handful of turns.
	for back := time.Hour; ; back *= 8 {
		if tick, ok := s.Last(at.Add(-back), at); ok {
			return tick
		}
	}
}

// Last returns the latest tick after one moment and up to another; false if
// there is none between them.
func (s Schedule) Last(after, upTo time.Time) (time.Time, bool) {
	last := s.Next(after)
	if last.After(upTo) {
		return time.Time{}, false
	}
	// Next never goes back when its argument goes on: halve what lies between a
	// tick and a time from which on none is within. Ticks that come seldom leave
	// little to halve.
	for none := upTo; ; {
		next := s.Next(last)
		if next.After(upTo) {
			return last, true
		}
		last = next
		if mid := last.Add(none.Sub(last) / 2); mid.After(last) {
			if t := s.Next(mid); t.After(upTo) {
				none = mid
			} else {
				last = t
			}
		}
	}
}

// A reading is what a clock on the wall shows. It is held as a time in UTC,
// where every reading exists once.

// wall is the reading of the schedule's clock at t.
func (s Schedule) wall(t time.Time) time.Time {
	_, offset := t.In(s.loc).Zone()
	return time.Unix(t.Unix()+int64(offset), 0).UTC()
}

// widest is more than any two offsets from UTC lie apart.
const widest = 30 * time.Hour

// highest is the highest reading that the clock has shown up to t: after it
// was set back, not what it shows now.
func (s Schedule) highest(t time.Time) time.Time {
	high := s.wall(t)
	for at := t; ; {
		start, _ := at.In(s.loc).ZoneBounds()
		if start.IsZero() || t.Sub(start) > widest {
			return high
		}
		at = start.Add(-time.Second)
		if w := s.wall(at); w.After(high) {
			high = w
		}
	}
}

// Reach is the first moment at which the clock of a zone shows a reading, which
// is held as a time in UTC, or a later one.
func Reach(reading time.Time, loc *time.Location) time.Time {
	for at := reading.Add(-widest).In(loc); ; {
		_, end := at.ZoneBounds()
		_, offset := at.Zone()
		t := time.Unix(reading.Unix()-int64(offset), 0).In(loc)
		if t.Before(at) {
			t = at // the clock went over the reading when it was changed, at at
		}
		if end.IsZero() || t.Before(end) {
			return t
		}
		at = end
	}
}

// nextElapsed is the first moment from t on whose reading matches.
func (s Schedule) nextElapsed(t time.Time) time.Time {
	for {
		_, end := t.ZoneBounds()
		_, offset := t.Zone()
		r, ok := s.reading(s.wall(t))
		if !ok {
			panic("cron: a schedule that was parsed always comes again")
		}
		next := time.Unix(r.Unix()-int64(offset), 0).In(s.loc)
		if end.IsZero() || next.Before(end) {
			return next
		}
		t = end // the clock is changed before it shows that
	}
}

// eightYears is the most days from one 29 February to the next: a year that
// a century ends is mostly no leap year.
const eightYears = 8*366 + 1

// reading is the first matching reading from r on, if there is one.
func (s Schedule) reading(r time.Time) (time.Time, bool) {
	day := time.Date(r.Year(), r.Month(), r.Day(), 0, 0, 0, 0, time.UTC)
	from := int(r.Sub(day) / time.Second)
	for last := day.AddDate(0, 0, eightYears); day.Before(last); {
		if s.month&(1<<day.Month()) == 0 {
			day, from = time.Date(day.Year(), day.Month()+1, 1, 0, 0, 0, 0, time.UTC), 0
			continue
		}
		if s.day(day) {
			if at, ok := s.ofDay(from); ok {
				return day.Add(time.Duration(at) * time.Second), true
			}
		}
		day, from = day.AddDate(0, 0, 1), 0
	}
	return time.Time{}, false
}

// day says whether the schedule has ticks on a day of one of its months.
func (s Schedule) day(d time.Time) bool {
	dom, dow := s.dom&(1<<d.Day()) != 0, s.dow&(1<<d.Weekday()) != 0
	if s.eitherDay {
		return dom || dow
	}
	return dom && dow
}

// ofDay is the first matching second of a day from one on, if there is one.
func (s Schedule) ofDay(from int) (int, bool) {
	h, m, sec := from/3600, from/60%60, from%60
	if s.hour&(1<<h) == 0 {
		m, sec = 0, 0
	} else if s.minute&(1<<m) == 0 {
		sec = 0
	}
	// Each field is raised to its next value; one that has none left goes
	// back to its first and raises the one before it.
	sec, carry := raise(s.second, sec, false)
	m, carry = raise(s.minute, m, carry)
	h, carry = raise(s.hour, h, carry)
	return h*3600 + m*60 + sec, !carry
}

// raise is the first value of the set from v on, or after v where what is
// below it carried. Where there is none it begins again, and carries.
func raise(set uint64, v int, carry bool) (int, bool) {
	if carry {
		v++
	}
	if rest := set >> v; rest != 0 {
		return v + bits.TrailingZeros64(rest), false
	}
	return bits.TrailingZeros64(set), true
}
