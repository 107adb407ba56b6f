package schedule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/scaling"
)

// grid divides all times of the tests' windows and all changes of the zones'
// clocks, so that looking at its steps misses nothing.
const grid = 15 * time.Minute

// oracle is another way to say what holds: it steps through time and looks at
// the clock on the wall, remembering the highest that it has shown. It knows
// nothing of spans and transitions.
type oracle struct {
	spec *scaling.Spec
	loc  *time.Location
	high int64  // the highest reading shown, in seconds since 1970-01-01 as if in UTC
	on   []bool // windows by cron that have begun
	memo map[onDate]bool
}

// onDate is a window, by its place, and a date.
type onDate struct {
	exception, window int
	date              int64
}

// reading is what the clock on the wall shows.
func (o *oracle) reading(t time.Time) int64 {
	_, offset := t.In(o.loc).Zone()
	return t.Unix() + int64(offset)
}

// held is what the windows of one schedule ask for at a time: the highest floor
// and the lowest cap; 0: none.
type held struct {
	floor, limit int
	closed       bool
}

// step goes on to t, one step of the grid after the time before.
func (o *oracle) step(t time.Time) (h held) {
	shows, before := o.reading(t), o.high
	if before == 0 {
		before = shows - int64(grid/time.Second)
	}
	o.high = max(o.high, shows)
	if o.on == nil {
		o.on = make([]bool, len(o.spec.Windows))
	}
	holds := func(w *scaling.Window) {
		if o.spec.Until != nil && !t.Before(o.spec.Until.Time) {
			return
		}
		if w.Floor != nil {
			h.floor = max(h.floor, int(*w.Floor))
		}
		if w.Cap != nil {
			h.limit = lower(h.limit, int(*w.Cap))
		}
		h.closed = h.closed || w.Closed
	}
	for i := range o.spec.Windows {
		w := &o.spec.Windows[i]
		if w.Cron != nil {
			switch {
			case o.ticks(w.Cron.End, before, shows, nil):
				o.on[i] = false
			case o.ticks(w.Cron.Start, before, shows, func(date time.Time) bool { return o.begins(w, date.Format(time.DateOnly), date) }):
				o.on[i] = true
			}
			if o.on[i] {
				holds(w)
			}
		} else if o.holds(w, onDate{-1, i, 0}, func(text string, date time.Time) bool { return o.begins(w, text, date) }) {
			holds(w)
		}
	}
	for i := range o.spec.Exceptions {
		e := &o.spec.Exceptions[i]
		for j := range e.Windows {
			if o.holds(&e.Windows[j], onDate{i, j, 0}, func(text string, _ time.Time) bool { return slices.Contains(e.Dates, text) }) {
				holds(&e.Windows[j])
			}
		}
	}
	return h
}

// lower is the lower one of two caps, where 0 is none.
func lower(a, b int) int {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// holds says whether a window by days has begun on one of the last dates, and
// has not ended.
func (o *oracle) holds(w *scaling.Window, key onDate, begins func(text string, date time.Time) bool) bool {
	start, end := clock(w.Start, 0), clock(w.End, 24*3600)
	if end <= start {
		end += 24 * 3600
	}
	today := o.high - o.high%(24*3600)
	for back := range int64(3) {
		key.date = today - back*24*3600
		if o.high < key.date+start || o.high >= key.date+end {
			continue
		}
		begun, known := o.memo[key]
		if !known {
			date := time.Unix(key.date, 0).UTC()
			begun = begins(date.Format(time.DateOnly), date)
			o.memo[key] = begun
		}
		if begun {
			return true
		}
	}
	return false
}

func clock(s string, otherwise int64) int64 {
	if s == "" {
		return otherwise
	}
	h, _ := strconv.Atoi(s[:2])
	m, _ := strconv.Atoi(s[3:])
	return int64(h*3600 + m*60)
}

func (o *oracle) begins(w *scaling.Window, text string, date time.Time) bool {
	for _, e := range o.spec.Exceptions {
		if slices.Contains(e.Dates, text) {
			return false
		}
	}
	if w.From != "" && text < w.From || w.Until != "" && text > w.Until {
		return false
	}
	week := []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
	for _, d := range w.Days {
		first, last, stretch := strings.Cut(d, "-")
		if !stretch {
			last = first
		}
		for i := slices.Index(week, first); ; i++ {
			if week[i%7] == date.Format("Mon") {
				return true
			}
			if week[i%7] == last {
				break
			}
		}
	}
	return len(w.Days) == 0
}

// ticks says whether a schedule "MINUTE HOUR * * DAYS" ticks with the step: at
// its time of day, once; with the hour "*", whenever the clock shows it.
func (o *oracle) ticks(cron string, before, shows int64, on func(date time.Time) bool) bool {
	f := strings.Fields(cron)
	is := func(reading int64) bool {
		r := time.Unix(reading, 0).UTC()
		match := func(f string, v int) bool { return f == "*" || f == strconv.Itoa(v) }
		return match(f[0], r.Minute()) && match(f[1], r.Hour()) && (f[4] == "*" || strings.Contains(f[4], strconv.Itoa(int(r.Weekday())))) &&
			(on == nil || on(r))
	}
	if f[1] == "*" {
		return is(shows)
	}
	for r := before + int64(grid/time.Second); r <= o.high; r += int64(grid / time.Second) {
		if is(r) {
			return true
		}
	}
	return false
}

// against compares the bounds at each step of the grid with what their words
// say: the oracle says what each schedule asks for, here or up to the lead time
// (a multiple of the grid) later.
func against(t interface {
	Fatalf(string, ...any)
	Helper()
}, base Base, lead time.Duration, specs []*scaling.Spec, from, to time.Time) {
	t.Helper()
	var all []*Schedule
	steps := int(to.Sub(from)/grid) + int(lead/grid) + 1
	asked := make([][]held, len(specs))
	for i, spec := range specs {
		s, err := Compile(fmt.Sprint("schedule-", i), spec)
		if err != nil {
			t.Fatalf("%v", err)
		}
		all = append(all, s)
		o := oracle{spec: spec, loc: s.Location(), memo: map[onDate]bool{}}
		// Windows by cron need to have ended once before they are looked at.
		for at := from.Add(-9 * 24 * time.Hour); at.Before(from); at = at.Add(grid) {
			o.step(at)
		}
		for n := range steps {
			asked[i] = append(asked[i], o.step(from.Add(time.Duration(n)*grid)))
		}
	}
	// what is asked for by all of them, and by those with readyBy
	together := func(n int) (h held, ready int) {
		h = held{floor: base.Min, limit: base.Max}
		for i, a := range asked {
			h = held{max(h.floor, a[n].floor), lower(h.limit, a[n].limit), h.closed || a[n].closed}
			if specs[i].ReadyBy {
				ready = max(ready, a[n].floor)
			}
		}
		if h.closed {
			return held{0, h.limit, true}, 0
		}
		if h.limit > 0 {
			ready = min(ready, h.limit)
		}
		return h, ready
	}
	var b Bounds
	var next time.Time
	for n := 0; from.Add(time.Duration(n) * grid).Before(to); n++ {
		at := from.Add(time.Duration(n) * grid)
		if n == 0 || !next.IsZero() && !at.Before(next) {
			if n > 0 && !at.Equal(next) {
				t.Fatalf("there is a change at %s, which is off the grid", next)
			}
			was := b
			b, next = At(base, lead, all, at)
			if n > 0 && b.same(was) {
				t.Fatalf("%s: At said that the bounds change here, and they do not: %+v", at, b)
			}
		}
		want, _ := together(n)
		for later := 1; later <= int(lead/grid); later++ {
			_, ready := together(n + later)
			want.floor = max(want.floor, ready)
		}
		cut := 0
		if want.limit > 0 && want.floor > want.limit {
			cut, want.floor = want.floor, want.limit
		}
		if got := (held{b.Floor, b.Cap, b.Closed}); got != want || b.Cut != cut {
			t.Fatalf("%s: %+v, cut from %d; the oracle says %+v, cut from %d", at.In(all[0].Location()), got, b.Cut, want, cut)
		}
	}
}

// zonesOfTests change their clocks by an hour, by half of one, at other times,
// back in the middle of a summer, and never.
var zonesOfTests = []string{"Europe/Prague", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "America/Sao_Paulo", "UTC"}

// TestTwentyYears compares twenty years in each zone with the oracle: each week
// in or next to which the clock is changed, and every eighth of the others.
func TestTwentyYears(t *testing.T) {
	one, two := int32(1), int32(2)
	windows := []scaling.Window{
		{Days: []string{"Mon-Fri"}, Start: "08:00", End: "18:00", Hold: scaling.Hold{Floor: &two}},
		{Start: "23:00", End: "02:30", Days: []string{"Sat-Sun"}, Hold: scaling.Hold{Floor: new(int32(3)), Cap: new(int32(8))}},
		{Start: "02:15", End: "02:45", Hold: scaling.Hold{Floor: new(int32(4))}},
		{Start: "00:15", End: "01:30", Hold: scaling.Hold{Floor: new(int32(5)), Cap: new(int32(7))}},
		{Cron: &scaling.Cron{Start: "30 2 * * 0,6", End: "15 3 * * *"}, Hold: scaling.Hold{Floor: new(int32(6))}},
		{From: "2031-03-01", Until: "2031-03-31", Hold: scaling.Hold{Floor: &one}},
	}
	years := 20
	if testing.Short() {
		years = 2
	}
	for _, zone := range zonesOfTests {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			spec := &scaling.Spec{Service: "title", TimeZone: zone, Windows: windows, Exceptions: []scaling.Exception{
				{Dates: []string{"2026-03-29", "2026-12-24", "2027-10-31"}, Windows: []scaling.Window{{Start: "02:00", End: "03:00", Hold: scaling.Hold{Floor: new(int32(9))}}}}}}
			loc, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			offset := func(at time.Time) int {
				_, seconds := at.In(loc).Zone()
				return seconds
			}
			const week = 7 * 24 * time.Hour
			begin := time.Date(2018, 1, 10, 0, 0, 0, 0, time.UTC)
			weeks := 0
			for n := range years * 366 / 7 {
				from := begin.Add(time.Duration(n) * week)
				changed := offset(from.Add(-week)) != offset(from.Add(week)) || offset(from) != offset(from.Add(2*week))
				if changed || n%8 == 0 {
					against(t, Base{}, 0, []*scaling.Spec{spec}, from, from.Add(week))
					weeks++
				}
			}
			t.Logf("%d weeks", weeks)
		})
	}
}

// weeksOfTests are dates shortly before the clock is changed in some zone.
var weeksOfTests = []string{"2026-03-06", "2026-03-27", "2026-10-23", "2026-10-30", "2027-04-02", "2026-02-13", "2018-11-02", "2018-02-16"}

// anyTime is a time of day on the grid, mostly where clocks are changed.
func anyTime(t *rapid.T, name string) string {
	return fmt.Sprintf("%02d:%02d", rapid.SampledFrom([]int{0, 1, 1, 2, 2, 3, 8, 23}).Draw(t, name), 15*rapid.IntRange(0, 3).Draw(t, "quarter"))
}

func anyCron(t *rapid.T, name string) string {
	hour := rapid.SampledFrom([]string{"0", "1", "2", "2", "3", "23", "*"}).Draw(t, name)
	return fmt.Sprintf("%d %s * * %s", 15*rapid.IntRange(0, 3).Draw(t, "quarter"), hour, rapid.SampledFrom([]string{"*", "0,6", "0"}).Draw(t, "days"))
}

// anyWindow is a window of a schedule or, without a date, of an exception.
func anyWindow(t *rapid.T, date string) scaling.Window {
	var w scaling.Window
	if rapid.IntRange(0, 4).Draw(t, "closed") == 0 {
		w.Closed = true
	} else {
		w.Floor = new(rapid.Int32Range(0, 4).Draw(t, "floor"))
		if rapid.Bool().Draw(t, "capped") {
			w.Cap = new(rapid.Int32Range(max(1, *w.Floor), 6).Draw(t, "cap"))
		}
	}
	if date != "" && rapid.IntRange(0, 2).Draw(t, "by") == 0 {
		w.Cron = &scaling.Cron{Start: anyCron(t, "start"), End: anyCron(t, "end")}
	} else if rapid.IntRange(0, 4).Draw(t, "whole") > 0 {
		w.Start, w.End = anyTime(t, "start"), anyTime(t, "end")
	}
	if date != "" && w.Cron == nil && rapid.Bool().Draw(t, "some days") {
		w.Days = rapid.SliceOfN(rapid.SampledFrom([]string{"Sat", "Sun", "Mon-Fri", "Sat-Mon", "Fri-Fri"}), 1, 2).Draw(t, "days")
	}
	if date != "" && rapid.IntRange(0, 3).Draw(t, "dated") == 0 {
		w.From = date
	}
	return w
}

func anySpec(t *rapid.T, from time.Time, zone string) *scaling.Spec {
	spec := &scaling.Spec{Service: "title", TimeZone: zone, ReadyBy: rapid.Bool().Draw(t, "readyBy")}
	near := func(days int) string { return from.AddDate(0, 0, days).Format(time.DateOnly) }
	for range rapid.IntRange(1, 3).Draw(t, "windows") {
		spec.Windows = append(spec.Windows, anyWindow(t, near(1)))
	}
	if rapid.Bool().Draw(t, "excepted") {
		e := scaling.Exception{Dates: []string{near(rapid.IntRange(0, 4).Draw(t, "first")), near(6)}}
		if rapid.Bool().Draw(t, "otherwise") {
			e.Windows = []scaling.Window{anyWindow(t, "")}
		}
		spec.Exceptions = []scaling.Exception{e}
	}
	if rapid.IntRange(0, 3).Draw(t, "expires") == 0 {
		spec.Until = new(metav1.NewTime(from.Add(time.Duration(rapid.IntRange(-1, 600).Draw(t, "after")) * grid)))
	}
	return spec
}

// TestAnySchedules compares schedules of all kinds, in weeks about a change of
// the clock, with the oracle.
func TestAnySchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, err := time.Parse(time.DateOnly, rapid.SampledFrom(weeksOfTests).Draw(t, "week"))
		if err != nil {
			t.Fatal(err)
		}
		zone := rapid.SampledFrom(zonesOfTests).Draw(t, "zone")
		var specs []*scaling.Spec
		for range rapid.IntRange(1, 3).Draw(t, "schedules") {
			specs = append(specs, anySpec(t, from, zone))
		}
		base := Base{Min: rapid.IntRange(0, 2).Draw(t, "min"), Max: rapid.SampledFrom([]int{0, 3, 5}).Draw(t, "max")}
		lead := time.Duration(rapid.SampledFrom([]int{0, 0, 1, 3, 20}).Draw(t, "lead")) * grid
		against(t, base, lead, specs, from, from.AddDate(0, 0, 8))
	})
}

// TestOrder: bounds do not depend on the order of schedules, and plans are made
// of the same bounds as At gives.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := time.Date(2026, 10, 23, 0, 0, 0, 0, time.UTC)
		var all []*Schedule
		for i := range rapid.IntRange(1, 4).Draw(t, "schedules") {
			s, err := Compile(fmt.Sprint("schedule-", i), anySpec(t, from, rapid.SampledFrom(zonesOfTests).Draw(t, "zone")))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		lead := time.Duration(rapid.IntRange(0, 7200).Draw(t, "lead")) * time.Second
		at := from.Add(time.Duration(rapid.IntRange(0, 8*86400).Draw(t, "at")) * time.Second)
		b, next := At(Base{Min: 1, Max: 5}, lead, all, at)
		other := rapid.Permutation(all).Draw(t, "order")
		b2, next2 := At(Base{Min: 1, Max: 5}, lead, other, at)
		if diff := cmp.Diff(b, b2, cmp.AllowUnexported(Why{})); diff != "" || !next.Equal(next2) {
			t.Fatalf("in another order the next change is at %s, not %s; bounds differ: %s", next2, next, diff)
		}
		end := at
		for _, span := range Spans(Base{Min: 1, Max: 5}, lead, all, at, at.Add(72*time.Hour)) {
			if !span.From.Equal(end) || !span.To.After(span.From) {
				t.Fatalf("a span from %s to %s follows one that ends at %s", span.From, span.To, end)
			}
			end = span.To
			middle, _ := At(Base{Min: 1, Max: 5}, lead, all, span.From.Add(span.To.Sub(span.From)/2))
			if !middle.same(span.Bounds) {
				t.Fatalf("within a span of %+v there is %+v", span.Bounds, middle)
			}
		}
		if !end.Equal(at.Add(72 * time.Hour)) {
			t.Fatalf("the last span ends at %s", end)
		}
	})
}
