package schedule

import (
	"errors"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/scaling"
)

// FuzzCompile: whatever is written, Compile and At end, without a panic; an
// error names fields, and the next change comes after now.
func FuzzCompile(f *testing.F) {
	for _, spec := range []string{
		`{service: title, timeZone: Europe/Prague, readyBy: true, leadTime: 90s, windows: [{days: [Mon-Fri], start: "08:00", end: "18:00", floor: 2}]}`,
		`{service: title, windows: [{cron: {start: "TZ=0", end: "0 0 18 * * *"}, cap: 0}]}`,
		`{service: title, windows: [{cron: {start: "* * * * *", end: "* * * * *"}, cap: 1}]}`,
		`{service: title, windows: [{cron: {start: "0 0 29 2 *", end: "0 0 1 1 *"}, closed: true, from: "9999-01-01"}]}`,
		`{service: title, windows: [{floor: -1, from: "2026-02-30", until: "1969-01-01"}], exceptions: [{dates: ["2026-12-24"], windows: [{closed: true}]}]}`,
		`{service: title, windows: [{days: [Sun-Sat, ""], start: "23:59", end: "00:00", closed: true}], until: "0001-01-01T00:00:00Z"}`,
	} {
		f.Add([]byte(spec), int64(1774745999), uint16(600))
	}
	f.Fuzz(func(t *testing.T, text []byte, unix int64, lead uint16) {
		var spec scaling.Spec
		if yaml.Unmarshal(text, &spec) != nil {
			return
		}
		s, err := Compile("fuzzed", &spec)
		if err != nil {
			invalid, ok := errors.AsType[*Invalid](err)
			if !ok || len(invalid.Problems) == 0 || len(invalid.Problems) > maxProblems+1 {
				t.Fatalf("it is refused with %#v", err)
			}
			for _, p := range invalid.Problems {
				if p.Field == "" || p.Reason == "" || len(p.Reason) > 1000 {
					t.Errorf("problem %+v", p)
				}
			}
			return
		}
		at := time.Unix(unix%(1<<37), 0) // some thousand years
		b, next := At(Base{}, time.Duration(lead)*time.Second, []*Schedule{s}, at)
		if !next.IsZero() && !next.After(at) || b.Floor < 0 || b.Cap < 0 || b.Cap > 0 && b.Floor > b.Cap {
			t.Errorf("at %s: %+v, next at %s", at, b, next)
		}
	})
}

// TestHostileIsBounded: schedules that change every minute, all of them closed
// or with a lead time of a day, are looked at to a bound.
func TestHostileIsBounded(t *testing.T) {
	for _, spec := range []string{
		`{readyBy: true, windows: [{cron: {start: "* * * * *", end: "* * * * *"}, floor: 1}, {cron: {start: "*/2 * * * *", end: "1-59/2 * * * *"}, floor: 1}]}`,
		`{windows: [{cron: {start: "*/2 * * * *", end: "1-59/2 * * * *"}, closed: true}, {cron: {start: "1-59/2 * * * *", end: "*/2 * * * *"}, closed: true}]}`,
		`{windows: [{cron: {start: "0 0 29 2 *", end: "0 0 29 2 *"}, floor: 1}]}`,
	} {
		var all []*Schedule
		for range 20 {
			all = append(all, compiled(t, "hostile", spec))
		}
		now := instant(t, "2026-11-23T10:00:30Z")
		if _, next := At(Base{}, MaxLead, all, now); !next.IsZero() && !next.After(now) {
			t.Errorf("the next change is at %s", next)
		}
	}
}
