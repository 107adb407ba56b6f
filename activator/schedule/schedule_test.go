package schedule

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/scaling"
)

// compiled is a schedule by its spec in YAML; service and name are filled in.
func compiled(t testing.TB, name, spec string) *Schedule {
	t.Helper()
	var s scaling.Spec
	if err := yaml.UnmarshalStrict([]byte(spec), &s); err != nil {
		t.Fatal(err)
	}
	if s.Service == "" {
		s.Service = "title"
	}
	c, err := Compile(name, &s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// change is when bounds change, and what they are from then on.
type change struct {
	At         string
	Floor, Cap int
	Closed     bool
	Opens      string
	Cut        int
	Early      bool
}

// changes are the bounds at a time and the next ones, as many as wanted.
func changes(t testing.TB, base Base, lead time.Duration, all []*Schedule, from string, n int, loc *time.Location) []change {
	var got []change
	for at := instant(t, from); len(got) < n; {
		b, next := At(base, lead, all, at)
		c := change{At: at.In(loc).Format(time.RFC3339), Floor: b.Floor, Cap: b.Cap, Closed: b.Closed, Cut: b.Cut}
		if !b.Opens.IsZero() {
			c.Opens = b.Opens.In(loc).Format(time.RFC3339)
		}
		for _, w := range b.Why {
			c.Early = c.Early || w.Early
		}
		got = append(got, c)
		if next.IsZero() {
			break
		}
		if !next.After(at) {
			t.Fatalf("the next change after %s is %s", at, next)
		}
		at = next
	}
	return got
}

func TestAt(t *testing.T) {
	tests := []struct {
		name  string
		specs []string
		base  Base
		lead  time.Duration
		from  string
		want  []change
	}{
		{name: "nothing", from: "2026-11-23T00:00:00Z", want: []change{{At: "2026-11-23T00:00:00Z"}}},
		{name: "the service's own", base: Base{Min: 1, Max: 3}, from: "2026-11-23T00:00:00Z",
			want: []change{{At: "2026-11-23T00:00:00Z", Floor: 1, Cap: 3}}},
		{name: "a bound set by hand", specs: []string{`{windows: [{floor: 2, cap: 4}], until: "2026-11-23T15:00:00Z"}`},
			from: "2026-11-23T12:00:00Z", want: []change{
				{At: "2026-11-23T12:00:00Z", Floor: 2, Cap: 4},
				{At: "2026-11-23T15:00:00Z"}}},
		{name: "office hours", specs: []string{`{timeZone: Europe/Prague, windows: [{days: [Mon-Fri], start: "08:00", end: "18:00", floor: 2}]}`},
			from: "2026-11-26T12:00:00+01:00", want: []change{
				{At: "2026-11-26T12:00:00+01:00", Floor: 2},
				{At: "2026-11-26T18:00:00+01:00"},
				{At: "2026-11-27T08:00:00+01:00", Floor: 2},
				{At: "2026-11-27T18:00:00+01:00"},
				{At: "2026-11-30T08:00:00+01:00", Floor: 2}}},
		{name: "overnight, and an exception on the date after it began", specs: []string{
			`{windows: [{start: "22:00", end: "06:00", floor: 1}], exceptions: [{dates: ["2026-12-24"]}]}`},
			from: "2026-12-23T12:00:00Z", want: []change{
				{At: "2026-12-23T12:00:00Z"},
				{At: "2026-12-23T22:00:00Z", Floor: 1},
				{At: "2026-12-24T06:00:00Z"},
				{At: "2026-12-25T22:00:00Z", Floor: 1}}},
		{name: "an exception with a window", specs: []string{
			`{windows: [{floor: 1}], exceptions: [{dates: ["2026-12-24"], windows: [{start: "10:00", end: "12:00", floor: 3}]}]}`},
			from: "2026-12-23T12:00:00Z", want: []change{
				{At: "2026-12-23T12:00:00Z", Floor: 1},
				{At: "2026-12-24T00:00:00Z"},
				{At: "2026-12-24T10:00:00Z", Floor: 3},
				{At: "2026-12-24T12:00:00Z"},
				{At: "2026-12-25T00:00:00Z", Floor: 1}}},
		{name: "from and until", specs: []string{`{windows: [{from: "2026-11-24", until: "2026-11-25", floor: 1}]}`},
			from: "2026-11-23T12:00:00Z", want: []change{
				{At: "2026-11-23T12:00:00Z"},
				{At: "2026-11-24T00:00:00Z", Floor: 1},
				{At: "2026-11-26T00:00:00Z"}}},
		{name: "cron", specs: []string{`{windows: [{cron: {start: "0 8 * * 1-5", end: "0 18 * * *"}, cap: 3}]}`},
			from: "2026-11-27T09:00:00Z", want: []change{
				{At: "2026-11-27T09:00:00Z", Cap: 3},
				{At: "2026-11-27T18:00:00Z"},
				{At: "2026-11-30T08:00:00Z", Cap: 3}}},
		{name: "highest floor, lowest cap, cut", base: Base{Min: 1, Max: 9}, specs: []string{
			`{windows: [{start: "08:00", end: "12:00", floor: 5}]}`,
			`{windows: [{start: "10:00", end: "14:00", cap: 2}]}`},
			from: "2026-11-23T07:00:00Z", want: []change{
				{At: "2026-11-23T07:00:00Z", Floor: 1, Cap: 9},
				{At: "2026-11-23T08:00:00Z", Floor: 5, Cap: 9},
				{At: "2026-11-23T10:00:00Z", Floor: 2, Cap: 2, Cut: 5},
				{At: "2026-11-23T12:00:00Z", Floor: 1, Cap: 2},
				{At: "2026-11-23T14:00:00Z", Floor: 1, Cap: 9}}},
		{name: "closed by two, one after the other", base: Base{Min: 1}, specs: []string{
			`{windows: [{start: "22:00", end: "06:00", closed: true}]}`,
			`{windows: [{start: "05:00", end: "07:00", closed: true}]}`},
			from: "2026-11-23T21:00:00Z", want: []change{
				{At: "2026-11-23T21:00:00Z", Floor: 1},
				{At: "2026-11-23T22:00:00Z", Closed: true, Opens: "2026-11-24T07:00:00Z"},
				{At: "2026-11-24T05:00:00Z", Closed: true, Opens: "2026-11-24T07:00:00Z"},
				{At: "2026-11-24T06:00:00Z", Closed: true, Opens: "2026-11-24T07:00:00Z"},
				{At: "2026-11-24T07:00:00Z", Floor: 1}}},
		{name: "ready by", lead: 10 * time.Minute, specs: []string{
			`{readyBy: true, windows: [{start: "08:00", end: "18:00", floor: 2}]}`},
			from: "2026-11-23T07:00:00Z", want: []change{
				{At: "2026-11-23T07:00:00Z"},
				{At: "2026-11-23T07:50:00Z", Floor: 2, Early: true},
				{At: "2026-11-23T08:00:00Z", Floor: 2},
				{At: "2026-11-23T18:00:00Z"}}},
		{name: "ready by, after it was closed", lead: 10 * time.Minute, specs: []string{
			`{readyBy: true, windows: [{floor: 2}]}`,
			`{windows: [{start: "22:00", end: "06:00", closed: true}]}`},
			from: "2026-11-23T22:00:00Z", want: []change{
				{At: "2026-11-23T22:00:00Z", Closed: true, Opens: "2026-11-24T06:00:00Z"},
				{At: "2026-11-24T05:50:00Z", Floor: 2, Closed: true, Opens: "2026-11-24T06:00:00Z", Early: true},
				{At: "2026-11-24T06:00:00Z", Floor: 2},
				{At: "2026-11-24T22:00:00Z", Closed: true, Opens: "2026-11-25T06:00:00Z"}}},
		{name: "ready by, and the cap of then", lead: 10 * time.Minute, specs: []string{
			`{readyBy: true, windows: [{start: "08:00", end: "18:00", floor: 4}]}`,
			`{windows: [{start: "08:00", end: "09:00", cap: 2}]}`},
			from: "2026-11-23T07:50:00Z", want: []change{
				{At: "2026-11-23T07:50:00Z", Floor: 2, Early: true},
				{At: "2026-11-23T08:00:00Z", Floor: 2, Cap: 2, Cut: 4},
				{At: "2026-11-23T09:00:00Z", Floor: 4}}},
		{name: "begins in the hour that is left out", specs: []string{
			`{timeZone: Europe/Prague, windows: [{start: "02:30", end: "04:00", floor: 1}]}`},
			from: "2026-03-29T00:00:00+01:00", want: []change{
				{At: "2026-03-29T00:00:00+01:00"},
				{At: "2026-03-29T03:00:00+02:00", Floor: 1},
				{At: "2026-03-29T04:00:00+02:00"}}},
		{name: "wholly in the hour that is left out", specs: []string{
			`{timeZone: Europe/Prague, windows: [{start: "02:15", end: "02:45", floor: 1}]}`},
			from: "2026-03-29T00:00:00+01:00", want: []change{
				{At: "2026-03-29T00:00:00+01:00"},
				{At: "2026-03-30T02:15:00+02:00", Floor: 1}}},
		{name: "in the hour that comes twice", specs: []string{
			`{timeZone: Europe/Prague, windows: [{start: "02:15", end: "02:45", floor: 1}]}`},
			from: "2026-10-25T00:00:00+02:00", want: []change{
				{At: "2026-10-25T00:00:00+02:00"},
				{At: "2026-10-25T02:15:00+02:00", Floor: 1},
				{At: "2026-10-25T02:45:00+02:00"},
				{At: "2026-10-26T02:15:00+01:00", Floor: 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			loc := time.UTC
			var all []*Schedule
			for i, spec := range tt.specs {
				all = append(all, compiled(t, string(rune('a'+i)), spec))
				loc = all[i].Location()
			}
			got := changes(t, tt.base, tt.lead, all, tt.from, len(tt.want), loc)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
