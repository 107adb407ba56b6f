package usage_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aisle.dev/aisle/activator/engine/usage"
)

// hands are those of a clock that a test moves.
type hands struct {
	day time.Time
	run time.Duration
}

func (h *hands) clock() (time.Time, time.Duration) { return h.day, h.run }

// pass lets time go by.
func (h *hands) pass(d time.Duration) { h.day, h.run = h.day.Add(d), h.run+d }

func open(t testing.TB, dir string, clock usage.Clock) *usage.Meter {
	t.Helper()
	m, err := usage.Open(dir, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t testing.TB, m *usage.Meter) map[string]usage.Amount {
	t.Helper()
	got := map[string]usage.Amount{}
	for d, err := range m.Read("0000-00-00", "9999-99-99") {
		if err != nil {
			t.Fatal(err)
		}
		for service, a := range d.Services {
			got[d.Date+" "+service] = a
		}
	}
	return got
}

// on is what is known of a date: one day, or none.
func on(t testing.TB, m *usage.Meter, date string) (days []usage.Day) {
	t.Helper()
	for d, err := range m.Read(date, date) {
		if err != nil {
			t.Fatal(err)
		}
		days = append(days, d)
	}
	return days
}

func TestCounts(t *testing.T) {
	h := &hands{day: time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)}
	dir := t.TempDir()
	m := open(t, dir, h.clock)
	r := m.Begin("shop/photo", 2)
	h.pass(time.Hour) // it rests
	free := r.Hold(2)
	h.pass(time.Minute) // the slot is held, the process not yet begun
	end := r.Pod()
	h.pass(time.Minute)
	r.Stand(1, 1)
	h.pass(58*time.Minute + time.Hour) // to an hour after midnight
	endSecond, freeSecond := r.Pod(), r.Hold(2)
	h.pass(time.Minute)
	r.Stand(2, 1)
	h.pass(time.Minute)
	r.Stand(0, 0)
	for _, end := range []func(){end, free, endSecond, freeSecond} {
		end()
	}
	h.pass(30 * time.Minute)
	r.End()
	h.pass(24 * time.Hour) // nobody is there any more
	want := map[string]usage.Amount{
		"2026-11-23 shop/photo": {
			Pods: 59 * time.Minute, GPUs: 2 * time.Hour, Declared: 2 * time.Hour, DeclaredGPUs: 4 * time.Hour,
			Peak: 1, Floor: 58 * time.Minute, PeakFloor: 1,
		},
		"2026-11-24 shop/photo": {
			Pods: 64 * time.Minute, GPUs: 128 * time.Minute, Declared: 92 * time.Minute, DeclaredGPUs: 184 * time.Minute,
			Peak: 2, Floor: 62 * time.Minute, PeakFloor: 1,
		},
	}
	if diff := cmp.Diff(want, read(t, m)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	m.Close()
	if diff := cmp.Diff(want, read(t, open(t, dir, h.clock))); diff != "" {
		t.Errorf("after a restart: -want +got:\n%s", diff)
	}
}

// Two revisions of a service are one service that is there, and a roll-out is
// no larger peak.
func TestRevisions(t *testing.T) {
	h := &hands{day: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	m := open(t, t.TempDir(), h.clock)
	defer m.Close()
	old := m.Begin("shop/title", 0)
	endOld := old.Pod()
	old.Stand(1, 1)
	h.pass(time.Hour)
	next := m.Begin("shop/title", 1)
	endNext, free := next.Pod(), next.Hold(1)
	next.Stand(1, 0)
	h.pass(time.Minute)
	old.Stand(0, 0)
	endOld()
	old.End()
	next.Stand(1, 1)
	h.pass(time.Hour)
	endNext()
	free()
	next.End()
	want := map[string]usage.Amount{"2026-11-23 shop/title": {
		Pods: 122 * time.Minute, GPUs: 61 * time.Minute, Declared: 121 * time.Minute, DeclaredGPUs: 61 * time.Minute,
		Peak: 1, Floor: 121 * time.Minute, PeakFloor: 1,
	}}
	if diff := cmp.Diff(want, read(t, m)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// While something runs, a killed engine loses Every at most; at rest nothing is
// written and no timer runs.
func TestKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m := open(t, dir, usage.System())
		r := m.Begin("default/title", 0)
		end := r.Pod()
		time.Sleep(47 * time.Second)
		synctest.Wait()
		killed := open(t, dir, usage.System())
		date := time.Now().UTC().Format(time.DateOnly)
		if got := read(t, killed)[date+" default/title"].Pods; got < 47*time.Second-usage.Every || got > 47*time.Second {
			t.Errorf("%s of 47s are on the disk", got)
		}
		end()
		time.Sleep(usage.Every)
		synctest.Wait()
		path := filepath.Join(dir, date+".json")
		if got := read(t, killed)[date+" default/title"].Pods; got != 47*time.Second {
			t.Errorf("%s of 47s are on the disk after the end", got)
		}
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("written at rest: %v", err)
		}
		r.End()
		m.Close()
		if got := read(t, killed)[date+" default/title"].Declared; got != time.Hour+57*time.Second {
			t.Errorf("it was there for %s", got)
		}
	})
}

// What cannot be written is tried again, and is not lost.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "usage")
		m := open(t, dir, usage.System())
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		r := m.Begin("default/title", 0)
		end := r.Pod()
		time.Sleep(15 * time.Second)
		end()
		time.Sleep(time.Minute)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(usage.Every)
		synctest.Wait()
		date := time.Now().UTC().Format(time.DateOnly)
		if got := read(t, open(t, dir, usage.System()))[date+" default/title"].Pods; got != 15*time.Second {
			t.Errorf("%s are on the disk", got)
		}
		r.End()
		m.Close()
	})
}

func TestDamaged(t *testing.T) {
	good := `{"day":"2026-11-23","services":{"default/title":{"pods":5,"gpus":0,"declared":7,"declaredGPUs":0,"peak":1,"floor":0,"peakFloor":0}}}`
	for name, text := range map[string]string{
		"cut":           good[:len(good)-9],
		"empty":         "",
		"zeros":         strings.Repeat("\x00", 200),
		"another day":   strings.Replace(good, "11-23", "11-22", 1),
		"negative":      strings.Replace(good, ":5", ":-5", 1),
		"beyond":        strings.Replace(good, ":5", ":9000000000000000000", 1),
		"unknown field": strings.Replace(good, "pods", "pots", 1),
		"twice":         good + good,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "2026-11-23.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			h := &hands{day: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
			var told bytes.Buffer
			m, err := usage.Open(dir, h.clock, slog.New(slog.NewTextHandler(&told, nil)))
			if err != nil {
				t.Fatal(err)
			}
			r := m.Begin("default/title", 0)
			h.pass(time.Second)
			r.End()
			m.Close()
			days := on(t, m, "2026-11-23")
			want := []usage.Day{{Date: "2026-11-23", Damaged: true, Services: map[string]usage.Amount{"default/title": {Declared: time.Second}}}}
			if diff := cmp.Diff(want, days); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if aside, err := os.ReadFile(filepath.Join(dir, "2026-11-23.damaged")); err != nil || string(aside) != text {
				t.Errorf("set aside: %q, %v", aside, err)
			}
			if !strings.Contains(told.String(), "2026-11-23.damaged") {
				t.Errorf("told: %s", told.String())
			}
		})
	}
}

// Days are bounded by their number, whatever the clock says of their age.
func TestBounds(t *testing.T) {
	h := &hands{day: time.Date(2025, 1, 1, 12, 0, 0, 0, time.UTC)}
	dir := t.TempDir()
	m := open(t, dir, h.clock)
	for day := range usage.MaxDays + 3 {
		r := m.Begin(fmt.Sprintf("default/s%d", day), 0)
		h.pass(time.Second)
		r.End()
		m.Close() // writes
		h.day = h.day.AddDate(0, 0, 1)
	}
	if got := read(t, m); len(got) != usage.MaxDays || got["2025-01-01 default/s0"].Declared != 0 || got["2025-01-04 default/s3"].Declared != time.Second {
		t.Errorf("%d days are kept; the first are %v, %v", len(got), got["2025-01-01 default/s0"], got["2025-01-04 default/s3"])
	}
	last := open(t, dir, h.clock)
	var all []*usage.Revision
	for i := range usage.MaxServices + 2 {
		all = append(all, last.Begin(fmt.Sprintf("default/s%d", i), 0))
	}
	h.pass(time.Second)
	for _, r := range all {
		r.End()
	}
	last.Close()
	days := on(t, open(t, dir, h.clock), "2026-02-08")
	if len(days) != 1 {
		t.Fatalf("%v", days)
	}
	if n, o := len(days[0].Services), days[0].Services[usage.Others].Declared; n != usage.MaxServices+1 || o != 2*time.Second {
		t.Errorf("%d services, others %s", n, o)
	}
}

// However the clock jumps, and whenever the meter is closed and opened, what is
// counted is what has passed, and days add up to it.
func TestAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "usage")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		h := &hands{day: time.Date(2026, 11, 23, 23, 0, 0, 0, time.UTC)}
		m, err := usage.Open(dir, h.clock, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		type pod struct {
			service   int
			end, free func()
		}
		services := []string{"a/one", "a/two"}
		const gpus = 2
		begin := func() (all []*usage.Revision) {
			for _, s := range services {
				all = append(all, m.Begin(s, gpus))
			}
			return all
		}
		revisions := begin()
		var pods []pod
		want := map[string]usage.Amount{}
		endAll := func() {
			for _, p := range pods {
				p.end()
				p.free()
			}
			pods = nil
			for _, r := range revisions {
				r.End()
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				i := rapid.IntRange(0, 1).Draw(t, "service")
				pods = append(pods, pod{i, revisions[i].Pod(), revisions[i].Hold(gpus)})
			case 1:
				if len(pods) > 0 {
					i := rapid.IntRange(0, len(pods)-1).Draw(t, "pod")
					pods[i].end()
					pods[i].free()
					pods = append(pods[:i:i], pods[i+1:]...)
				}
			case 2: // the clock is put elsewhere
				h.day = h.day.Add(time.Duration(rapid.Int64Range(-int64(50*time.Hour), int64(50*time.Hour)).Draw(t, "jump")))
			case 3: // an engine ends, another begins
				endAll()
				m.Close()
				if m, err = usage.Open(dir, h.clock, slog.New(slog.DiscardHandler)); err != nil {
					t.Fatal(err)
				}
				revisions = begin()
			default:
				d := time.Duration(rapid.Int64Range(1, int64(30*time.Hour)).Draw(t, "pass"))
				h.pass(d)
				for _, p := range pods {
					a := want[services[p.service]]
					a.Pods, a.GPUs = a.Pods+d, a.GPUs+gpus*d
					want[services[p.service]] = a
				}
				for _, s := range services {
					a := want[s]
					a.Declared, a.DeclaredGPUs = a.Declared+d, a.DeclaredGPUs+gpus*d
					want[s] = a
				}
			}
		}
		endAll()
		m.Close()
		got := map[string]usage.Amount{}
		for d, err := range m.Read("0000-00-00", "9999-99-99") {
			if err != nil {
				t.Fatal(err)
			}
			for s, a := range d.Services {
				if min(a.Pods, a.GPUs, a.Declared, a.DeclaredGPUs) < 0 || a.GPUs != gpus*a.Pods {
					t.Fatalf("%s on %s: %+v", s, d.Date, a)
				}
				sum := got[s]
				sum.Pods, sum.GPUs, sum.Declared, sum.DeclaredGPUs = sum.Pods+a.Pods, sum.GPUs+a.GPUs, sum.Declared+a.Declared, sum.DeclaredGPUs+a.DeclaredGPUs
				got[s] = sum
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}
