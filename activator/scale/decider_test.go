package scale

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const prefix = "autoscaling.knative.dev/"

// local is the configuration of a small machine.
var local = map[string]string{"allow-zero-initial-scale": "true", "initial-scale": "0", "stable-window": "10s", "scale-to-zero-grace-period": "1s"}

// sim plays a revision second by second: pods get ready a second after they
// are wanted, and stop at once.
type sim struct {
	tb  testing.TB
	d   *Decider
	now time.Time
	Snapshot
	last Decision
}

func newSim(tb testing.TB, cfg map[string]string, rev Revision) *sim {
	tb.Helper()
	parsed, err := ParseConfig(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	rev.Namespace, rev.Name = "default", "photo-00001"
	d, err := New(rev, parsed)
	if err != nil {
		tb.Fatal(err)
	}
	return &sim{tb: tb, d: d, now: at(0)}
}

// decide asks and lets the machine follow.
func (s *sim) decide() Decision {
	s.last = s.d.Decide(s.now, s.Snapshot)
	if limit := s.d.MaxScale(); limit > 0 && s.last.Want > limit {
		s.tb.Fatalf("wants %d, max-scale is %d", s.last.Want, limit)
	}
	for s.Ready+s.Starting > s.last.Want {
		if s.Starting > 0 {
			s.Starting--
		} else {
			s.Ready--
		}
	}
	s.Starting = s.last.Want - s.Ready
	return s.last
}

// run plays seconds of a load: concurrent requests, which wait while no pod is
// ready. It returns what was wanted after each second.
func (s *sim) run(seconds int, concurrency, rps float64) []int {
	var wanted []int
	for range seconds {
		s.now = s.now.Add(time.Second)
		s.Ready, s.Starting = s.Ready+s.Starting, 0
		s.Waiting, s.InFlight = 0, int(concurrency)
		if s.Ready == 0 {
			s.Waiting, s.InFlight = int(concurrency), 0
		}
		s.d.Record(s.now, concurrency, rps)
		wanted = append(wanted, s.decide().Want)
	}
	return wanted
}

func TestZeroToOneToManyToZero(t *testing.T) {
	s := newSim(t, local, Revision{ContainerConcurrency: 4, Annotations: map[string]string{prefix + "max-scale": "5"}})
	if got := s.decide(); got.Want != 0 || !got.NextCheck.IsZero() || !got.Initialised {
		t.Fatalf("at the beginning: %+v", got)
	}

	s.now = at(60)
	s.Waiting = 1
	if got := s.decide(); got.Want != 1 || got.Why != "a request waits for a pod" || !got.NextCheck.Equal(at(61)) {
		t.Fatalf("woken: %+v", got)
	}

	s.run(5, 1, 1)
	if s.Ready != 1 {
		t.Fatalf("one request at once has %d pods", s.Ready)
	}

	s.run(5, 12, 12)
	// 12 at once at 70% of 4 a pod is 4.3 pods.
	if s.Ready != 5 || !strings.Contains(s.last.Why, "target 2.8 a pod") {
		t.Fatalf("twelve at once have %d pods: %s", s.Ready, s.last.Why)
	}
	s.run(5, 100, 100)
	if s.Ready != 5 || s.last.Why != "max-scale 5; the load asks for 36" {
		t.Fatalf("a hundred at once: %d pods: %s", s.Ready, s.last.Why)
	}

	wanted := s.run(40, 0, 0)
	for i, n := range wanted {
		if n == 0 {
			// The window, halving from five to one, a tick to go through inactive.
			if i < 10 || i > 13 {
				t.Fatalf("zero after %d idle seconds: %v", i, wanted)
			}
			break
		}
	}
	if s.last.Want != 0 || !s.last.NextCheck.IsZero() {
		t.Fatalf("in the end: %+v", s.last)
	}
}

func TestWakeIsCountedOnce(t *testing.T) {
	s := newSim(t, local, Revision{ContainerConcurrency: 1, Annotations: map[string]string{prefix + "target-utilization-percentage": "100"}})
	s.Waiting = 1
	s.decide()
	s.Ready, s.Starting, s.Waiting, s.InFlight = 1, 0, 0, 1
	s.now = at(1)
	s.d.Record(s.now, 1, 1) // the same request, still there
	if got := s.decide(); got.Want != 1 {
		t.Fatalf("one request wants %d pods: %s", got.Want, got.Why)
	}
}

func TestBurstAtZeroIsCountedOnce(t *testing.T) {
	s := newSim(t, local, Revision{ContainerConcurrency: 1, Annotations: map[string]string{prefix + "target-utilization-percentage": "100"}})
	s.Waiting = 4
	s.now = at(1)
	s.d.Record(s.now, 4, 4)
	if got := s.decide(); got.Want != 4 {
		t.Fatalf("four waiting requests want %d pods: %s", got.Want, got.Why)
	}
}

func TestRequestsPerSecond(t *testing.T) {
	s := newSim(t, local, Revision{Annotations: map[string]string{prefix + "metric": "rps", prefix + "target": "10", prefix + "target-utilization-percentage": "100"}})
	s.run(30, 1, 35)
	if s.Ready != 4 {
		t.Fatalf("35 requests a second at 10 a pod have %d pods: %s", s.Ready, s.last.Why)
	}
	if !strings.Contains(s.last.Why, "35 requests a second over 10s") {
		t.Error(s.last.Why)
	}
}

func TestInitialScale(t *testing.T) {
	t.Run("is reached without a request and then forgotten", func(t *testing.T) {
		s := newSim(t, map[string]string{"stable-window": "10s"}, Revision{Annotations: map[string]string{prefix + "initial-scale": "3"}})
		if got := s.decide(); got.Want != 3 || got.Initialised {
			t.Fatalf("%+v", got)
		}
		s.run(1, 0, 0)
		if s.Ready != 3 || !s.last.Initialised {
			t.Fatalf("%d ready, %+v", s.Ready, s.last)
		}
		// The grace period is Knative's 30 s: the proxy is as young as the revision.
		zero := -1
		for i, n := range s.run(60, 0, 0) {
			if n == 0 {
				zero = i + 2
				break
			}
		}
		if zero < 30 || zero > 32 {
			t.Errorf("zero after %d s", zero)
		}
	})
	t.Run("is not repeated by a restart", func(t *testing.T) {
		s := newSim(t, nil, Revision{Initialised: true, Annotations: map[string]string{prefix + "initial-scale": "3"}})
		if got := s.decide(); got.Want != 0 || !got.NextCheck.IsZero() || !got.Initialised {
			t.Fatalf("%+v", got)
		}
	})
	t.Run("a floor is kept by a restart", func(t *testing.T) {
		s := newSim(t, nil, Revision{Initialised: true, Annotations: map[string]string{prefix + "min-scale": "2"}})
		if got := s.decide(); got.Want != 2 || got.Why != "min-scale 2" {
			t.Fatalf("%+v", got)
		}
	})
}

func TestActivationScale(t *testing.T) {
	s := newSim(t, local, Revision{ContainerConcurrency: 10, Annotations: map[string]string{prefix + "activation-scale": "3"}})
	s.Waiting = 1
	if got := s.decide(); got.Want != 3 {
		t.Fatalf("woken with %+v", got)
	}
	if wanted := s.run(5, 1, 1); wanted[4] != 3 {
		t.Fatalf("under load %v", wanted)
	}
	s.run(30, 0, 0)
	if s.last.Want != 0 {
		t.Fatalf("idle: %+v", s.last)
	}
}

func TestScaleDownDelay(t *testing.T) {
	idle := func(annotations map[string]string) int {
		s := newSim(t, local, Revision{ContainerConcurrency: 1, Annotations: annotations})
		s.run(20, 4, 4)
		if s.Ready < 4 {
			t.Fatalf("%d pods under load", s.Ready)
		}
		before := s.last.Want
		for i, n := range s.run(120, 0, 0) {
			if n < before {
				return i + 1
			}
		}
		return 121
	}
	plain, delayed := idle(nil), idle(map[string]string{prefix + "scale-down-delay": "30s"})
	if delayed-plain < 25 || delayed > 45 {
		t.Errorf("first pod goes after %d idle seconds, with a delay of 30 s after %d", plain, delayed)
	}
}

func TestRetention(t *testing.T) {
	s := newSim(t, local, Revision{Annotations: map[string]string{prefix + "scale-to-zero-pod-retention-period": "20s"}})
	s.run(20, 1, 1)
	for i, n := range s.run(60, 0, 0) {
		if n == 0 {
			if i+1 < 30 || i+1 > 33 {
				t.Errorf("zero after %d idle seconds", i+1)
			}
			return
		}
		if i > 12 && !strings.HasPrefix(s.last.Why, "kept for the retention period") && s.last.Want > 0 {
			t.Errorf("second %d: %s", i, s.last.Why)
		}
	}
	t.Error("never zero")
}

func TestUnreachable(t *testing.T) {
	s := newSim(t, local, Revision{Annotations: map[string]string{prefix + "min-scale": "2", prefix + "scale-to-zero-pod-retention-period": "1h"}})
	s.run(20, 0, 0)
	if s.Ready != 2 {
		t.Fatalf("reachable: %d pods", s.Ready)
	}
	s.Unreachable = true
	s.run(5, 0, 0)
	if s.last.Want != 0 {
		t.Fatalf("unreachable: %+v", s.last)
	}
	s.Unreachable = false
	if got := s.decide(); got.Want != 2 {
		t.Fatalf("reachable again: %+v", got)
	}
}

func TestPodThatIsNeverReadyIsGivenUp(t *testing.T) {
	s := newSim(t, local, Revision{Annotations: map[string]string{"serving.knative.dev/progress-deadline": "20s"}})
	s.Waiting = 1
	s.decide()
	s.Waiting = 0 // its caller has gone
	for i := range 120 {
		s.now = s.now.Add(time.Second)
		s.d.Record(s.now, 0, 0)
		if s.decide().Want == 0 {
			if i < 48 || i > 54 {
				t.Errorf("given up after %d s", i)
			}
			return
		}
	}
	t.Error("never given up")
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, key, value, want string }{
		{"not a number", "min-scale", "x", "invalid value: x"},
		{"negative", "max-scale", "-1", "expected 0 <= -1"},
		{"another class", "class", "hpa.autoscaling.knative.dev", "class"},
		{"another metric", "metric", "cpu", "invalid value: cpu"},
		{"a short window", "window", "5s", "expected 6s <= 5s"},
		{"initial scale zero", "initial-scale", "0", "not allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := ParseConfig(nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = New(Revision{Namespace: "default", Name: "photo-00001", Annotations: map[string]string{prefix + c.key: c.value}}, cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "default/photo-00001") {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("floor from one place above limit from another", func(t *testing.T) {
		cfg, err := ParseConfig(map[string]string{"max-scale": "2"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(Revision{Annotations: map[string]string{prefix + "min-scale": "3"}}, cfg)
		if err == nil || !strings.Contains(err.Error(), "min-scale 3 is above max-scale 2") {
			t.Errorf("%v", err)
		}
	})
	t.Run("configuration", func(t *testing.T) {
		if _, err := ParseConfig(map[string]string{"stable-window": "2s"}); err == nil || !strings.Contains(err.Error(), "config-autoscaler") {
			t.Errorf("%v", err)
		}
	})
}

// Every honoured annotation must change something.
func TestAnnotationsAreHonoured(t *testing.T) {
	play := func(annotations map[string]string) string {
		s := newSim(t, map[string]string{"stable-window": "20s"}, Revision{ContainerConcurrency: 10, Annotations: annotations})
		var trace []int
		trace = append(trace, s.decide().Want)
		for _, step := range []struct {
			seconds int
			load    float64
		}{{3, 0}, {20, 7}, {4, 60}, {30, 12}, {90, 0}} {
			trace = append(trace, s.run(step.seconds, step.load, step.load*3)...)
		}
		return fmt.Sprint(trace)
	}
	plain := play(nil)
	for key, value := range map[string]string{
		"min-scale": "2", "max-scale": "3", "initial-scale": "2", "activation-scale": "2", "metric": "rps", "target": "3",
		"target-utilization-percentage": "30", "window": "6s", "panic-window-percentage": "50",
		"panic-threshold-percentage": "1000", "scale-down-delay": "40s", "scale-to-zero-pod-retention-period": "30s",
		"metric-aggregation-algorithm": "weighted-exponential",
	} {
		if play(map[string]string{prefix + key: value}) == plain {
			t.Errorf("%s=%s changes nothing", key, value)
		}
	}
	if play(map[string]string{prefix + "target-burst-capacity": "0"}) != plain {
		t.Error("target-burst-capacity changes something")
	}
}

func TestHostileLoad(t *testing.T) {
	s := newSim(t, local, Revision{Annotations: map[string]string{prefix + "max-scale": "3"}})
	nan := 0.0
	for _, v := range []float64{nan / nan, 1 / nan, -1 / nan, -5, 1e300} {
		s.run(2, 1, 1)
		s.d.Record(s.now, v, v)
		s.decide()
	}
	s.run(40, 0, 0)
	if s.last.Want != 0 {
		t.Errorf("idle after nonsense: %+v", s.last)
	}
}

func BenchmarkDecide(b *testing.B) {
	s := newSim(b, local, Revision{ContainerConcurrency: 4, Annotations: map[string]string{prefix + "max-scale": "10"}})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		s.run(1, float64(n/60%20), 10)
	}
}

// A revision that is closed before it has had its initial scale begins with it
// once it is open, however long that took.
func TestOpenedBegins(t *testing.T) {
	s := newSim(t, local, Revision{Annotations: map[string]string{prefix + "initial-scale": "1"}})
	s.d.Bound(&Bounds{Closed: true, By: "night"})
	if got := s.decide(); got.Want != 0 || got.Initialised || !got.NextCheck.IsZero() {
		t.Fatalf("closed: %+v", got)
	}
	s.now = at(100_000)
	s.d.Bound(nil)
	if got := s.decide(); got.Want != 1 {
		t.Fatalf("open: %+v", got)
	}
	if s.run(1, 0, 0); !s.last.Initialised {
		t.Fatalf("ready: %+v", s.last)
	}
	s.d.Bound(&Bounds{Closed: true, By: "night"})
	s.decide()
	s.d.Bound(nil)
	if got := s.decide(); got.Want != 0 {
		t.Fatalf("what has had its initial scale is as idle as it was: %+v", got)
	}
}
