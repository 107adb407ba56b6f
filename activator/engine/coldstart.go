package engine

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"aisle.dev/aisle/activator/engine/pod"
)

// The phases of a start that the engine itself sees. Between launched and
// ready lie those that the pod tells of.
const (
	phaseQueued   = "queued"   // from the request's arrival until it was decided to start a pod
	phaseDecided  = "decided"  // until the machine was asked, a wait for a GPU included
	phaseLaunched = "launched" // until the kernel was asked to execute its program
	phaseServing  = "ready"    // what is left until its first passed readiness probe
	phaseFirst    = "first"    // its first answer, until that began
)

// told are the pod's own phases that have a series of their own; what else a
// pod makes up counts as ready, so that it cannot make series without end.
var told = map[string]bool{"exec": true, "runtime": true, "model": true, "warmup": true}

// coldStart is how a pod came up: phases one after the other, from the decision
// to start it.
type coldStart struct {
	decided time.Time
	phases  []pod.Phase
	total   time.Duration
}

func newColdStart(decided time.Time, at pod.Phases) *coldStart {
	c := &coldStart{decided: decided, total: at.Ready.Sub(decided)}
	c.phases = []pod.Phase{{Name: phaseDecided, Took: at.Asked.Sub(decided)}, {Name: phaseLaunched, Took: at.Launched.Sub(at.Asked)}}
	rest := at.Ready.Sub(at.Launched)
	for _, p := range at.Own {
		if told[p.Name] {
			c.phases = append(c.phases, p)
			rest -= p.Took
		}
	}
	c.phases = append(c.phases, pod.Phase{Name: phaseServing, Took: max(0, rest)})
	return c
}

// own is how long the start took from when the machine was asked: a wait for a
// GPU is not the revision's.
func (c *coldStart) own() time.Duration { return c.total - c.phases[0].Took }

// observe puts the start into the histogram.
func (c *coldStart) observe(m *revisionMetrics) {
	for _, p := range c.phases {
		m.phase(p.Name, p.Took)
	}
	m.phase("total", c.total)
}

// LogValue implements [slog.LogValuer].
func (c *coldStart) LogValue() slog.Value {
	var all []slog.Attr
	for _, p := range c.phases {
		all = append(all, slog.Float64(p.Name, millis(p.Took)))
	}
	return slog.GroupValue(all...)
}

// timing is the Server-Timing of an answer whose request arrived at a time and
// waited for the pod. One that came in the middle of the start waited for less
// than the phases' sum; first is 0 where another request had the first answer.
func (c *coldStart) timing(arrived time.Time, waited, first time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "wake;dur=%.1f", millis(waited))
	phase := func(name string, took time.Duration) { fmt.Fprintf(&b, ", %s;dur=%.1f", name, millis(took)) }
	if queued := c.decided.Sub(arrived); queued >= 0 {
		phase(phaseQueued, queued)
	}
	for _, p := range c.phases {
		phase(p.Name, p.Took)
	}
	if first > 0 {
		phase(phaseFirst, first)
	}
	return b.String()
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
