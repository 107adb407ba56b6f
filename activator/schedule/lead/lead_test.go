package lead_test

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"aisle.dev/aisle/activator/schedule/lead"
	"aisle.dev/aisle/activator/schedule/lead/leadtest"
)

var monday = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

func TestP95(t *testing.T) {
	seconds := func(all ...int) (took []time.Duration) {
		for _, s := range all {
			took = append(took, time.Duration(s)*time.Second)
		}
		return took
	}
	tests := []struct {
		name   string
		before []time.Duration // of title-00001
		own    []time.Duration // of title-00002
		want   time.Duration
		sample int
	}{
		{name: "never started"},
		{name: "one start counts twice over", own: seconds(4), want: 8 * time.Second, sample: 1},
		{name: "the slowest of few", own: seconds(4, 9, 5, 6), want: 13500 * time.Millisecond, sample: 4},
		{name: "what cannot be is left out", own: seconds(-1, 0, 4, 100_000), want: 8 * time.Second, sample: 1},
		{name: "its predecessor's", before: seconds(4), want: 8 * time.Second, sample: 1},
		{name: "a faster revision is not believed at once", before: seconds(9, 9, 9, 9), own: seconds(1), want: 13500 * time.Millisecond, sample: 5},
		{name: "a slower one is", before: seconds(4, 4, 4, 4), own: seconds(10), want: 20 * time.Second, sample: 5},
		{name: "enough of its own", before: seconds(60), own: seconds(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), want: 1250 * time.Millisecond, sample: 16},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b lead.Book
			for _, d := range tt.before {
				b.Observe("title", "title-00001", d, monday)
			}
			for _, d := range tt.own {
				b.Observe("title", "title-00002", d, monday)
			}
			if got, n := b.P95("title", "title-00002", monday); got != tt.want || n != tt.sample {
				t.Errorf("P95 is %s of %d starts, want %s of %d", got, n, tt.want, tt.sample)
			}
		})
	}
}

// TestOldStartsDecay: starts count for weeks, and longer only where there are
// hardly any.
func TestOldStartsDecay(t *testing.T) {
	var b lead.Book
	for range 20 {
		b.Observe("title", "title-00001", time.Minute, monday)
	}
	later := monday.AddDate(0, 3, 0)
	if _, n := b.P95("title", "title-00001", later); n != 8 {
		t.Errorf("%d old starts count where there are no others, want 8", n)
	}
	for range 10 {
		b.Observe("title", "title-00001", time.Second, later)
	}
	if got, n := b.P95("title", "title-00001", later); n != 10 || got > 2*time.Second {
		t.Errorf("P95 is %s of %d starts, want that of the 10 new ones", got, n)
	}
}

func TestKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b lead.Book
		at := monday
		for range rapid.IntRange(0, 300).Draw(t, "starts") {
			at = at.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "hours")) * time.Hour)
			b.Observe(rapid.SampledFrom([]string{"title", "photo"}).Draw(t, "service"),
				rapid.SampledFrom([]string{"1", "2", "3", "4", "5", "6"}).Draw(t, "revision"),
				time.Duration(rapid.IntRange(-5, 3_000).Draw(t, "took"))*time.Second, at)
		}
		text, err := json.Marshal(&b)
		if err != nil {
			t.Fatal(err)
		}
		var again lead.Book
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		for _, service := range []string{"title", "photo", "other"} {
			for _, revision := range []string{"1", "4", "7"} {
				d, n := b.P95(service, revision, at)
				if d2, n2 := again.P95(service, revision, at); d != d2 || n != n2 {
					t.Fatalf("%s/%s: %s of %d before, %s of %d after", service, revision, d, n, d2, n2)
				}
				if d < 0 || d > 24*time.Hour || n < 0 || (n == 0) != (d == 0) {
					t.Fatalf("%s of %d starts", d, n)
				}
			}
		}
		again.Keep(func(service string) bool { return service == "title" })
		if _, n := again.P95("photo", "1", at); n != 0 {
			t.Fatal("photo was not forgotten")
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"title":[{"name":"title-00001","starts":[{"at":"2026-11-23T08:00:00Z","took":4000000000}]}]}`), "title")
	f.Add([]byte(`{"title":[{"starts":[{"took":-1}]},{}]}`), "title")
	f.Add([]byte(`null`), "")
	f.Fuzz(func(t *testing.T, text []byte, service string) {
		var b lead.Book
		if b.UnmarshalJSON(text) == nil {
			if d, n := b.P95(service, "", monday); d < 0 || n < 0 {
				t.Errorf("%s of %d starts", d, n)
			}
		}
	})
}

// TestReadyInTime is the promise of readyBy under lead times with heavy tails:
// of 200 openings at least 95% ready in time, with pods that wait no longer than
// 1.5 times the true 95th percentile, in the mean; with each seed that is tried.
func TestReadyInTime(t *testing.T) {
	for _, d := range leadtest.Distributions {
		for seed := range uint64(5) {
			r := leadtest.Openings(d, 200, seed)
			t.Logf("%s, seed %d: %.1f%% in time, waste %.2f of p95", d.Name, seed, 100*r.InTime, r.Waste)
			if r.InTime < 0.95 || r.Waste > 1.5 {
				t.Errorf("%s, seed %d: %.1f%% in time, waste %.2f of p95", d.Name, seed, 100*r.InTime, r.Waste)
			}
		}
	}
}
