package scale

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawRevision gives a revision and the bounds that its decider must keep.
func drawRevision(t *rapid.T) Revision {
	a := map[string]string{}
	floor := rapid.IntRange(0, 3).Draw(t, "floor")
	limit := rapid.SampledFrom([]int{0, 3, 5, 8}).Draw(t, "limit")
	set := func(key string, v int) { a[prefix+key] = strconv.Itoa(v) }
	if floor > 0 {
		set("min-scale", floor)
	}
	set("max-scale", limit)
	set("initial-scale", rapid.IntRange(0, 4).Draw(t, "initial"))
	if rapid.Bool().Draw(t, "activation") {
		set("activation-scale", 3)
	}
	if rapid.Bool().Draw(t, "rps") {
		a[prefix+"metric"] = "rps"
	}
	a[prefix+"window"] = rapid.SampledFrom([]string{"6s", "10s", "60s"}).Draw(t, "window")
	a[prefix+"scale-to-zero-pod-retention-period"] = rapid.SampledFrom([]string{"0s", "15s"}).Draw(t, "retention")
	a[prefix+"scale-down-delay"] = rapid.SampledFrom([]string{"0s", "20s"}).Draw(t, "delay")
	return Revision{
		Namespace: "default", Name: "r", Annotations: a,
		ContainerConcurrency: int64(rapid.SampledFrom([]int{0, 1, 4, 16}).Draw(t, "containerConcurrency")),
		Initialised:          rapid.Bool().Draw(t, "initialised"),
	}
}

func drawLoad(t *rapid.T) float64 {
	return rapid.SampledFrom([]float64{0, 0, 0, 0.2, 1, 3, 10, 80}).Draw(t, "load")
}

// drawBounds gives bounds from outside: nil in half of the cases.
func drawBounds(t *rapid.T) *Bounds {
	if rapid.Bool().Draw(t, "own bounds") {
		return nil
	}
	return &Bounds{
		Floor:  rapid.IntRange(0, 6).Draw(t, "bound floor"),
		Cap:    rapid.SampledFrom([]int{0, 1, 4}).Draw(t, "bound cap"),
		Closed: rapid.IntRange(0, 3).Draw(t, "closed") == 0,
		By:     "schedule s",
	}
}

func newProperty(t *rapid.T, rev Revision) *Decider {
	cfg, err := ParseConfig(local)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(rev, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func duration(t *rapid.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestBoundsAndZero(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rev := drawRevision(t)
		d := newProperty(t, rev)
		window := duration(t, rev.Annotations[prefix+"window"])
		retention := duration(t, rev.Annotations[prefix+"scale-to-zero-pod-retention-period"])
		now, wanted := at(0), 0
		var busy time.Time // when a request was last there
		var bounds *Bounds
		bound := false // it has had bounds from outside
		var s Snapshot
		for range rapid.IntRange(1, 150).Draw(t, "seconds") {
			now = now.Add(time.Second)
			load := drawLoad(t)
			// Some pods of those wanted are ready, some still start, some have died.
			s.Ready = rapid.IntRange(0, wanted).Draw(t, "ready")
			s.Starting = rapid.IntRange(0, wanted-s.Ready).Draw(t, "starting")
			s.Waiting, s.InFlight = 0, int(load)
			if s.Ready == 0 {
				s.Waiting, s.InFlight = int(load), 0
			}
			s.Unreachable = rapid.IntRange(0, 9).Draw(t, "unreachable") == 0
			if load > 0 {
				busy = now
			}
			if rapid.IntRange(0, 9).Draw(t, "rebound") == 0 {
				bounds = drawBounds(t)
				d.Bound(bounds)
				bound = bound || bounds != nil
			}
			closed := bounds != nil && bounds.Closed
			d.Record(now, load, load)
			got := d.Decide(now, s)

			if got.Want < 0 {
				t.Fatalf("wants %d", got.Want)
			}
			if limit := d.MaxScale(); limit > 0 && got.Want > limit {
				t.Fatalf("wants %d, max-scale is %d", got.Want, limit)
			}
			if closed && got.Want > d.MinScale() {
				t.Fatalf("closed, and wants %d: %s", got.Want, got.Why)
			}
			if !s.Unreachable && got.Want < d.MinScale() {
				t.Fatalf("wants %d, min-scale is %d: %s", got.Want, d.MinScale(), got.Why)
			}
			if got.Want == 0 && !closed && (s.Waiting > 0 || s.InFlight > 0 && s.Ready > 0) {
				t.Fatalf("wants none for %+v", s)
			}
			if got.Why == "" {
				t.Fatal("says nothing")
			}
			if got.Want == 0 && wanted > 0 && !s.Unreachable && d.state.initialised && !busy.IsZero() && !bound {
				if idle := now.Sub(busy); idle < max(window, retention) {
					t.Fatalf("zero %v after a request; window %v, retention %v", idle, window, retention)
				}
			}
			rest := got.Want == 0 && s.Ready+s.Starting+s.Waiting+s.InFlight == 0
			if rest != got.NextCheck.IsZero() || !rest && (!got.NextCheck.After(now) || got.NextCheck.Sub(now) > Tick) {
				t.Fatalf("next check %v at %v for %+v", got.NextCheck, now, got)
			}
			wanted = got.Want
		}
	})
}

func TestMoreLoadNeverWantsLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rev := drawRevision(t)
		a, b := newProperty(t, rev), newProperty(t, rev)
		now, wanted := at(0), 0
		for range rapid.IntRange(0, 80).Draw(t, "seconds") {
			now = now.Add(time.Second)
			load := drawLoad(t)
			s := Snapshot{Ready: rapid.IntRange(0, wanted).Draw(t, "ready")}
			for _, d := range []*Decider{a, b} {
				d.Record(now, load, load)
				wanted = d.Decide(now, s).Want
			}
		}
		now = now.Add(time.Second)
		low := drawLoad(t)
		high := low + drawLoad(t)
		s := Snapshot{Ready: wanted}
		a.Record(now, low, low)
		b.Record(now, high, high)
		if less, more := a.Decide(now, s), b.Decide(now, s); more.Want < less.Want {
			t.Fatalf("%v wants %d (%s), %v wants %d (%s)", low, less.Want, less.Why, high, more.Want, more.Why)
		}
	})
}

func TestIdleEndsAtTheFloor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rev := drawRevision(t)
		d := newProperty(t, rev)
		now, wanted := at(0), 0
		step := func(load float64) Decision {
			now = now.Add(time.Second)
			d.Record(now, load, load)
			got := d.Decide(now, Snapshot{Ready: wanted, InFlight: int(load)})
			wanted = got.Want
			return got
		}
		for range rapid.IntRange(0, 60).Draw(t, "seconds") {
			step(drawLoad(t))
		}
		for range 400 {
			step(0)
		}
		if wanted != d.MinScale() {
			t.Fatalf("idle for long and wants %d, min-scale is %d", wanted, d.MinScale())
		}
	})
}
