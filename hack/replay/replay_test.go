package main

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var first = sync.OnceValues(func() (*result, error) { return replay(defaults, traces) })

// What is committed is what the program writes, and within one process it comes
// to the same again; of the last trace, since under -race it takes its time.
func TestCommitted(t *testing.T) {
	r, err := first()
	if err != nil {
		t.Fatal(err)
	}
	again, err := replay(defaults, traces[2:])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.Rows[len(r.Rows)-len(again.Rows):], again.Rows); diff != "" {
		t.Errorf("another run differs: -first +again:\n%s", diff)
	}
	files, err := r.files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join("../../docs", name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not what the program writes: make replay (%v)", name, err)
		}
	}
}

func TestNothingIsLost(t *testing.T) {
	r, err := first()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 6*len(traces) {
		t.Fatalf("%d rows", len(r.Rows))
	}
	for _, x := range r.Rows {
		n := 0
		for _, w := range []*waits{x.Requests, x.Events} {
			if w != nil {
				n += w.N
			}
		}
		if x.Lost != 0 || x.Answered == 0 || n != x.Answered || x.GPUSeconds <= 0 {
			t.Errorf("%+v: %d waited", x, n)
		}
	}
}

// A gate that holds for all products changes nothing, and one that never does
// needs no pod.
func TestGate(t *testing.T) {
	begin := time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)
	all := traces[1].arrivals(7, begin)
	f := defaults
	f.woken = 1
	open, err := behindGate(f, all, begin)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := simulate(f, all, begin, mode{maxScale: maxScale})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain, open, cmp.AllowUnexported(outcome{})); diff != "" {
		t.Errorf("-without +with a gate that always holds:\n%s", diff)
	}
	f.woken = 0
	shut, err := behindGate(f, all, begin)
	if err != nil {
		t.Fatal(err)
	}
	if shut.podSeconds != 0 || shut.answered != len(all) || shut.spared != len(all) {
		t.Errorf("a gate that never holds: %.0f pod-seconds, %d of %d answered", shut.podSeconds, shut.answered, len(all))
	}
}

// Seconds in which a floor's pods have nothing to do are not decided on one by
// one: it makes no difference but to the beat.
func TestSkipping(t *testing.T) {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 11, 16, 0, 0, 0, 0, loc)
	office := &traces[1]
	all := office.arrivals(7, begin)
	for _, m := range []mode{
		{name: minOne, minScale: 1, maxScale: maxScale},
		{name: planned, maxScale: maxScale, schedule: office.schedule},
		{name: deferred, maxScale: maxScale, schedule: office.deferred, deferBy: office.deferBy},
	} {
		t.Run(m.name, func(t *testing.T) {
			var outcomes [2]*outcome
			for i := range outcomes {
				s, err := newSimulation(defaults, all, begin, m)
				if err != nil {
					t.Fatal(err)
				}
				s.noSkip = i == 1
				s.run()
				outcomes[i] = &s.out
			}
			// At which part of a second is decided is another.
			if diff := cmp.Diff(outcomes[1], outcomes[0], cmp.AllowUnexported(outcome{}), cmpopts.EquateApprox(1e-4, 0)); diff != "" {
				t.Errorf("-each second +skipping:\n%s", diff)
			}
		})
	}
}

// One product by itself: what it costs and waits can be said beforehand.
func TestOneProduct(t *testing.T) {
	begin := time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)
	f := figures{serve: time.Second, cold: 3 * time.Second, seed: 1}
	all := []arrival{{at: begin.Add(time.Hour)}}
	o, err := simulate(f, all, begin, mode{maxScale: 1})
	if err != nil {
		t.Fatal(err)
	}
	if o.started != 1 || o.answered != 1 || o.requests[0] != f.cold {
		t.Errorf("%+v", o)
	}
	// A start, then the stable window after the last load, to within seconds.
	if least := (f.cold + f.serve + window).Seconds(); o.podSeconds < least-2 || o.podSeconds > least+10 {
		t.Errorf("the pod was there for %.1f s, not about %.0f", o.podSeconds, least)
	}
	o, err = simulate(f, all, begin, mode{minScale: 2, maxScale: 2})
	if err != nil {
		t.Fatal(err)
	}
	if o.started != 2 || o.requests[0] != 0 || o.podSeconds != 2*days*86400 {
		t.Errorf("always on: %+v", o)
	}
}
