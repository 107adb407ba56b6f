package cron

import (
	"strconv"
	"strings"
	"testing"
	"time"

	duckv1 "knative.dev/pkg/apis/duck/v1"

	"knative.dev/pkg/apis"

	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"pgregory.net/rapid"
)

func mustParse(t interface {
	Helper()
	Fatal(...any)
}, schedule, zone string) Schedule {
	t.Helper()
	s, err := Parse(schedule, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(t interface {
	Helper()
	Fatal(...any)
}, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNext(t *testing.T) {
	tests := []struct {
		name, schedule, zone, after string
		want                        []string
	}{
		{name: "every minute", schedule: "* * * * *", zone: "UTC", after: "2026-11-23T10:00:00Z",
			want: []string{"2026-11-23T10:01:00Z", "2026-11-23T10:02:00Z"}},
		{name: "within a second", schedule: "* * * * * *", zone: "UTC", after: "2026-11-23T10:00:00.7Z",
			want: []string{"2026-11-23T10:00:01Z", "2026-11-23T10:00:02Z"}},
		{name: "seconds", schedule: "15,45 * * * * *", zone: "UTC", after: "2026-11-23T10:00:15Z",
			want: []string{"2026-11-23T10:00:45Z", "2026-11-23T10:01:15Z"}},
		{name: "steps", schedule: "5/20 8-10/2 * * *", zone: "UTC", after: "2026-11-23T08:30:00Z",
			want: []string{"2026-11-23T08:45:00Z", "2026-11-23T10:05:00Z", "2026-11-23T10:25:00Z", "2026-11-23T10:45:00Z", "2026-11-24T08:05:00Z"}},
		{name: "names", schedule: "0 9 * dec mon-wed", zone: "UTC", after: "2026-11-23T10:00:00Z",
			want: []string{"2026-12-01T09:00:00Z", "2026-12-02T09:00:00Z", "2026-12-07T09:00:00Z"}},
		{name: "either day", schedule: "0 0 13 * fri", zone: "UTC", after: "2026-11-10T00:00:00Z",
			want: []string{"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"}},
		{name: "a star with a step is no star", schedule: "0 0 */10 * fri", zone: "UTC", after: "2026-11-10T00:00:00Z",
			want: []string{"2026-11-11T00:00:00Z", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"}},
		{name: "end of the year", schedule: "59 59 23 31 12 *", zone: "UTC", after: "2026-12-31T23:59:59Z",
			want: []string{"2027-12-31T23:59:59Z"}},
		{name: "29 February over a century that is no leap year", schedule: "0 0 29 2 *", zone: "UTC", after: "2096-03-01T00:00:00Z",
			want: []string{"2104-02-29T00:00:00Z"}},
		{name: "weekly", schedule: "@weekly", zone: "UTC", after: "2026-11-23T10:00:00Z",
			want: []string{"2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"}},
		{name: "zone in the schedule", schedule: "CRON_TZ=Asia/Kolkata 0 9 * * *", after: "2026-11-23T10:00:00Z",
			want: []string{"2026-11-24T03:30:00Z"}},
		{name: "zone before a descriptor", schedule: "TZ=Asia/Tokyo  @daily", after: "2026-11-23T10:00:00Z",
			want: []string{"2026-11-23T15:00:00Z"}},

		// The clock goes from 02:00 to 03:00 on 29 March and from 03:00 back
		// to 02:00 on 25 October.
		{name: "a named hour that is left out comes at the change", schedule: "30 2 * * *", zone: "Europe/Berlin", after: "2026-03-28T00:00:00Z",
			want: []string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{name: "several that are left out come once", schedule: "0,20,40 2,3 * * *", zone: "Europe/Berlin", after: "2026-03-29T00:00:00Z",
			want: []string{"2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z", "2026-03-29T01:40:00Z", "2026-03-30T00:00:00Z"}},
		{name: "a named hour that comes twice counts once", schedule: "30 2 * * *", zone: "Europe/Berlin", after: "2026-10-24T12:00:00Z",
			want: []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{name: "after the second showing", schedule: "30 2 * * *", zone: "Europe/Berlin", after: "2026-10-25T01:00:00Z",
			want: []string{"2026-10-26T01:30:00Z"}},
		{name: "the hour after the repeated one", schedule: "0 3 * * *", zone: "Europe/Berlin", after: "2026-10-24T12:00:00Z",
			want: []string{"2026-10-25T02:00:00Z", "2026-10-26T02:00:00Z"}},
		{name: "every hour goes on at the change back", schedule: "30 * * * *", zone: "Europe/Berlin", after: "2026-10-24T23:30:00Z",
			want: []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"}},
		{name: "every hour goes on at the change forward", schedule: "30 * * * *", zone: "Europe/Berlin", after: "2026-03-28T23:30:00Z",
			want: []string{"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"}},
		{name: "a midnight that is left out", schedule: "@daily", zone: "America/Sao_Paulo", after: "2018-11-03T12:00:00Z",
			want: []string{"2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}},
		{name: "a midnight that comes twice", schedule: "@daily", zone: "America/Havana", after: "2026-10-31T12:00:00Z",
			want: []string{"2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"}},
		{name: "a change by half an hour", schedule: "15 2 * * *", zone: "Australia/Lord_Howe", after: "2026-10-03T00:00:00Z",
			want: []string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"}},
		{name: "a day that is left out", schedule: "0 9 * * *", zone: "Pacific/Apia", after: "2011-12-29T12:00:00Z",
			want: []string{"2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, now := mustParse(t, tt.schedule, tt.zone), at(t, tt.after)
			for _, want := range tt.want {
				next := s.Next(now)
				if !next.Equal(at(t, want)) {
					t.Fatalf("after %s comes %s, want %s", now.UTC().Format(time.RFC3339), next.UTC().Format(time.RFC3339), want)
				}
				now = next
			}
		})
	}
}

func TestLast(t *testing.T) {
	tests := []struct {
		name, schedule, zone, after, upTo, want string
	}{
		{name: "none between", schedule: "@daily", zone: "UTC", after: "2026-11-23T00:00:00Z", upTo: "2026-11-23T23:59:59Z"},
		{name: "the end belongs to it", schedule: "@daily", zone: "UTC", after: "2026-11-23T00:00:00Z", upTo: "2026-11-24T00:00:00Z", want: "2026-11-24T00:00:00Z"},
		{name: "the latest of many", schedule: "*/7 * * * * *", zone: "UTC", after: "2026-11-23T00:00:00Z", upTo: "2026-11-23T10:00:13.9Z", want: "2026-11-23T10:00:07Z"},
		{name: "a clock set back", schedule: "* * * * *", zone: "UTC", after: "2026-11-23T10:00:00Z", upTo: "2026-11-23T09:00:00Z"},
		{name: "the second showing is none", schedule: "30 2 * * *", zone: "Europe/Berlin", after: "2026-10-24T12:00:00Z", upTo: "2026-10-25T08:00:00Z", want: "2026-10-25T00:30:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := mustParse(t, tt.schedule, tt.zone).Last(at(t, tt.after), at(t, tt.upTo))
			switch {
			case ok != (tt.want != ""):
				t.Fatalf("found %v (%s), want %q", ok, got, tt.want)
			case ok && !got.Equal(at(t, tt.want)):
				t.Fatalf("found %s, want %s", got.UTC(), tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, schedule, zone, says string }{
		{name: "four fields", schedule: "* * * *", says: "five"},
		{name: "seven fields", schedule: "* * * * * * *", says: "has 7 fields"},
		{name: "@every", schedule: "@every 5m", says: "no such descriptor"},
		{name: "minute 60", schedule: "60 * * * *", says: "from 0 to 59"},
		{name: "Sunday is 0", schedule: "0 0 * * 7", says: "from 0 to 6"},
		{name: "backwards", schedule: "0 20-8 * * *", says: "begins after its end"},
		{name: "step of nothing", schedule: "*/0 * * * *", says: "step"},
		{name: "31 February", schedule: "0 0 31 2 *", says: "never comes"},
		{name: "an empty list", schedule: "0 , * * *", says: "hour: names nothing"},
		{name: "a star that is a range", schedule: "*-3 * * * *", says: `"*"`},
		{name: "the zone alone", schedule: "TZ=0", says: "after its zone"},
		{name: "no zone", schedule: "TZ= 0 0 * * *", says: "after its zone"},
		{name: "two zones", schedule: "TZ=UTC 0 0 * * *", zone: "Asia/Tokyo", says: "name it once"},
		{name: "unknown zone", schedule: "@daily", zone: "Mars/Olympus", says: "IANA"},
		{name: "a path as zone", schedule: "@daily", zone: "../../etc/passwd", says: "IANA"},
		{name: "a zone with a field in it", schedule: "* * * * *", zone: "UTC 5", says: "IANA"},
		{name: "too long", schedule: strings.Repeat("1,", 300) + "1 * * * *", says: "at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.schedule, tt.zone)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Parse(%q, %q): %v; want it to say %q", tt.schedule, tt.zone, err, tt.says)
			}
		})
	}
}

// drawSchedule gives schedules whose ticks lie close enough for brute force.
func drawSchedule(t *rapid.T) (schedule string, minute, hour func(int) bool) {
	draw := func(name string, n int) (string, func(int) bool) {
		switch rapid.IntRange(0, 3).Draw(t, name+" form") {
		case 0:
			return "*", func(int) bool { return true }
		case 1:
			v := rapid.IntRange(0, n-1).Draw(t, name)
			return strconv.Itoa(v), func(x int) bool { return x == v }
		case 2:
			a := rapid.IntRange(0, n-1).Draw(t, name+" from")
			b := rapid.IntRange(a, n-1).Draw(t, name+" to")
			return strconv.Itoa(a) + "-" + strconv.Itoa(b), func(x int) bool { return a <= x && x <= b }
		default:
			step := rapid.IntRange(2, n-1).Draw(t, name+" step")
			return "*/" + strconv.Itoa(step), func(x int) bool { return x%step == 0 }
		}
	}
	ms, minute := draw("minute", 60)
	hs, hour := draw("hour", 24)
	return ms + " " + hs + " * * *", minute, hour
}

// The zones' changes of the clock, each within the three days that a property
// looks at: forward, back, by half an hour, at midnight, over a whole day.
var changes = []struct{ zone, from string }{
	{"Europe/Berlin", "2026-03-28T00:00:00Z"},
	{"Europe/Berlin", "2026-10-24T00:00:00Z"},
	{"Australia/Lord_Howe", "2026-10-03T00:00:00Z"},
	{"Australia/Lord_Howe", "2026-04-04T00:00:00Z"},
	{"America/Sao_Paulo", "2018-11-03T00:00:00Z"},
	{"America/Havana", "2026-10-31T00:00:00Z"},
	{"Pacific/Apia", "2011-12-29T00:00:00Z"},
	{"Antarctica/Troll", "2026-03-28T00:00:00Z"},
	{"UTC", "2026-11-23T00:00:00Z"},
}

// TestNextIsBruteForce holds Next against a clock that is watched minute by
// minute, by the rule as the package states it.
func TestNextIsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schedule, minute, hour := drawSchedule(t)
		where := rapid.SampledFrom(changes).Draw(t, "change")
		s, err := Parse(schedule, where.zone)
		if err != nil {
			t.Fatal(err)
		}
		loc, err := time.LoadLocation(where.zone)
		if err != nil {
			t.Fatal(err)
		}
		start := at(t, where.from)
		// What a clock on the wall shows, as minutes since an epoch.
		shows := func(now time.Time) int {
			_, offset := now.In(loc).Zone()
			return int(now.Unix()+int64(offset)) / 60
		}
		matches := func(reading int) bool { return minute(reading%60) && hour(reading/60%24) }
		anyHour := strings.Fields(schedule)[1] == "*"

		var want []time.Time
		high := shows(start)
		for now := start.Add(time.Minute); now.Before(start.Add(72 * time.Hour)); now = now.Add(time.Minute) {
			reading := shows(now)
			if anyHour {
				if matches(reading) {
					want = append(want, now)
				}
				continue
			}
			tick := false
			for ; high < reading; high++ { // over what it leaves out as well
				tick = tick || matches(high+1)
			}
			if tick {
				want = append(want, now)
			}
		}
		from := start
		for _, w := range want {
			if next := s.Next(from); !next.Equal(w) {
				t.Fatalf("%q in %s: after %s comes %s, want %s", schedule, where.zone, from.In(loc), next, w.In(loc))
			}
			from = w
		}
		if len(want) > 0 {
			end := start.Add(72*time.Hour - time.Minute)
			if last, ok := s.Last(start, end); !ok || !last.Equal(want[len(want)-1]) {
				t.Fatalf("%q in %s: the last is %s %v, want %s", schedule, where.zone, last, ok, want[len(want)-1])
			}
		}
	})
}

// TestNextNeverGoesBack: from a later moment the next tick is not earlier,
// and it is always later than that moment, at whatever time.
func TestNextNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schedule, _, _ := drawSchedule(t)
		s := mustParse(t, schedule, rapid.SampledFrom(changes).Draw(t, "zone").zone)
		a := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "a"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		b := a.Add(time.Duration(rapid.Int64Range(0, int64(96*time.Hour)).Draw(t, "later")))
		na, nb := s.Next(a), s.Next(b)
		if !na.After(a) || !nb.After(b) || nb.Before(na) {
			t.Fatalf("%q: after %s comes %s, after %s comes %s", schedule, a, na, b, nb)
		}
	})
}

// FuzzParse: what is read here is what Knative reads, and it always ticks.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"* * * * *", "*/5 8-18 * * mon-fri", "0 0 29 2 *", "TZ=0", "TZ=UTC @daily", "@every 1s", "1,2-4/2 ? * jan *", "0 0 31 2 *", "5/9223372036854775807 * * * *"} {
		f.Add(s, "")
		f.Add(s, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, schedule, zone string) {
		s, err := Parse(schedule, zone)
		if err != nil {
			return
		}
		spec := sourcesv1.PingSourceSpec{Schedule: schedule, Timezone: zone}
		spec.Sink = duckv1.Destination{URI: apis.HTTP("example.com")}
		if fe := spec.Validate(t.Context()); fe != nil {
			t.Fatalf("read here, refused by Knative: %q in %q: %v", schedule, zone, fe)
		}
		now := time.Date(2026, 3, 29, 0, 59, 59, 1, time.UTC)
		for range 4 {
			next := s.Next(now)
			if !next.After(now) || next.Nanosecond() != 0 {
				t.Fatalf("%q in %q: after %s comes %s", schedule, zone, now, next)
			}
			now = next
		}
	})
}

func BenchmarkNext(b *testing.B) {
	s := mustParse(b, "30 2 29 2 *", "Europe/Berlin")
	now := at(b, "2026-11-23T00:00:00Z")
	for b.Loop() {
		s.Next(now)
	}
}
