package engine

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"aisle.dev/aisle/activator/engine/pod"
)

// phase is one phase of a cold start.
type phase struct {
	name string
	took time.Duration
}

// ownPhases are those that a pod may tell of itself: labels of a metric are
// not for pods to make up.
var ownPhases = []string{"runtime", "model", "warmup"}

// phasesOf are the phases of a pod's start in their order: launched (from the
// decision until its program is executed), listening (until its port takes a
// connection), and ready (until its readiness probe passes). What the pod tells
// of itself lies within the last two.
func phasesOf(at pod.Phases) []phase {
	listening := at.Listening
	if listening.IsZero() {
		listening = at.Ready
	}
	all := []phase{{"launched", at.Launched.Sub(at.Asked)}, {"listening", listening.Sub(at.Launched)}}
	for _, own := range at.Own {
		if slices.Contains(ownPhases, own.Name) {
			all = append(all, phase{own.Name, own.Took})
		}
	}
	return append(all, phase{"ready", at.Ready.Sub(listening)})
}

// tellPhases tells who waited for a pod's start, since arrived, what it waited
// for: in wake, and in its parts.
func tellPhases(h http.Header, arrived, granted time.Time, at pod.Phases) {
	add := func(name string, took time.Duration) {
		h.Add("Server-Timing", fmt.Sprintf("%s;dur=%.1f", name, float64(max(0, took).Microseconds())/1000))
	}
	add("wake", granted.Sub(arrived))
	if at.Ready.IsZero() {
		return
	}
	add("decided", at.Asked.Sub(arrived)) // it may have been asked for by an earlier request
	for _, p := range phasesOf(at) {
		add(p.name, p.took)
	}
}
