package scale

import (
	"fmt"
	"time"
)

// activationBuffer is how much longer than the progress deadline Knative lets a
// revision try to become ready (kpa/scaler.go).
const activationBuffer = 30 * time.Second

// policy is what bounds a revision's scale.
type policy struct {
	floor, limit int    // min-scale; max-scale, 0: none
	by           string // who set them from outside; empty: they are the revision's own
	closed       bool   // requests count for nothing
	initial      int
	activation   int // activation-scale; 0: not set
	reachable    bool
	toZero       bool // enable-scale-to-zero
	window       time.Duration
	grace        time.Duration // scale-to-zero-grace-period
	retention    time.Duration // scale-to-zero-pod-retention-period
	giveUpAfter  time.Duration // how long to try to become ready without any demand
}

// clamp holds n within floor and limit, the limit last: it is a promise about
// cost, and in Knative too it wins.
func (p policy) clamp(n int) int {
	n = max(n, p.floor)
	if p.limit > 0 {
		n = min(n, p.limit)
	}
	return n
}

// within is the policy with bounds from outside in the place of its own.
func (p policy) within(b *Bounds) policy {
	if b != nil {
		p.floor, p.limit, p.closed, p.by = 0, b.Cap, b.Closed, b.By
		if p.reachable {
			p.floor = b.Floor
		}
		if p.limit > 0 {
			p.floor = min(p.floor, p.limit)
		}
	}
	if p.limit > 0 {
		// Else it would never be reached, and hold its pods for ever.
		p.initial = min(p.initial, p.limit)
	}
	return p
}

// names are what Why calls floor and limit.
func (p policy) names() (floor, limit string) {
	if p.by == "" {
		return fmt.Sprintf("min-scale %d", p.floor), fmt.Sprintf("max-scale %d", p.limit)
	}
	return fmt.Sprintf("floor %d of %s", p.floor, p.by), fmt.Sprintf("cap %d of %s", p.limit, p.by)
}

// activity is Knative's condition Active of a PodAutoscaler.
type activity int

const (
	activating activity = iota // Unknown: fewer pods are ready than must be
	active                     // True
	inactive                   // False: nothing is wanted; the last pods may still be kept
)

func (a activity) String() string {
	return [...]string{"activating", "active", "inactive"}[a]
}

// state is what a revision's past adds to a decision.
type state struct {
	activity    activity
	since       time.Time // when activity became what it is
	initialised bool      // the initial scale has been reached once
}

func (s state) become(a activity, now time.Time) state {
	if s.activity != a {
		s.activity, s.since = a, now
	}
	return s
}

type input struct {
	now     time.Time
	desired int // by load alone
	ready   int
	running int           // ready and starting
	applied int           // what was wanted last
	waiting bool          // a request waits
	busy    bool          // a request waits or is being answered
	proxied time.Duration // how long the proxy has been in the path of every request
}

type outcome struct {
	want  int
	why   string // empty: the load
	state state
	wait  time.Duration // until the decision may change without any request; 0: unknown
}

// settle turns what the load asks for into what is to run. It is Knative's
// kpa/scaler.go (scale, handleScaleToZero) and computeActiveCondition as one
// function of its arguments, with two additions: a request that waits or is
// being answered keeps a pod, since the load's windows may not show it yet; and
// a revision that is closed has its floor and no more.
func settle(p policy, st state, in input) outcome {
	if p.closed {
		if p.floor == 0 {
			return outcome{why: "closed by " + p.by, state: st.become(inactive, in.now)}
		}
		in.desired, in.waiting, in.busy = 0, false, false
		p.initial = min(p.initial, p.floor)
	}
	n, why := bound(p, st, in)
	out := outcome{want: n, why: why}
	intent := n // what Knative would write to the status; -1: unknown
	if n == 0 {
		out, intent = toZero(p, st, in)
	}
	out.state = activate(p, st, in, intent)
	return out
}

// bound applies everything that does not depend on how the revision came to
// where it is: floor, limit, initial scale, and the requests at hand.
func bound(p policy, st state, in input) (n int, why string) {
	n = in.desired
	switch {
	case in.waiting && in.running == 0:
		n, why = max(1, n, p.activation), "a request waits for a pod"
	case in.busy && n == 0 && in.running > 0: // else a draining pod answers it
		n, why = 1, "a request is being answered"
	}
	floor := p.floor
	atLeast, atMost := p.names()
	// An initial scale of 0 or 1 needs no floor: the revision begins with as
	// many pods, and activating keeps them.
	if p.initial > 1 && !st.initialised && p.reachable && p.initial > floor {
		floor, atLeast = p.initial, fmt.Sprintf("initial-scale %d", p.initial)
	}
	if n < floor {
		n, why = floor, atLeast
	}
	if p.limit > 0 && n > p.limit {
		n, why = p.limit, fmt.Sprintf("%s; the load asks for %d", atMost, max(in.desired, n))
	}
	return n, why
}

// toZero decides what becomes of the last pods when nothing asks for any.
// intent is what counts for the state: 0 makes the revision inactive even while
// its pods are kept.
func toZero(p policy, st state, in input) (out outcome, intent int) {
	keep := func(why string, wait time.Duration) outcome {
		n := in.applied
		if p.limit > 0 { // it may be lower than it was then
			n = min(n, p.limit)
		}
		return outcome{want: n, why: why, wait: wait}
	}
	if !p.toZero {
		return outcome{want: 1, why: "enable-scale-to-zero is false"}, 1
	}
	age := in.now.Sub(st.since)
	switch st.activity {
	case activating:
		if age > p.giveUpAfter {
			return outcome{why: fmt.Sprintf("not ready within %v", p.giveUpAfter)}, 0
		}
		if in.applied == 0 {
			return keep("nothing has asked for it yet", p.giveUpAfter-age), -1
		}
		return keep("waiting for the first pods to be ready", p.giveUpAfter-age), -1
	case active:
		if age >= p.window {
			return keep(fmt.Sprintf("no requests for %v", p.window), 0), 0
		}
		wait := p.window - age
		return outcome{want: 1, why: "active for less than the stable window", wait: wait}, 1
	}
	retention := p.retention
	if !p.reachable {
		retention = 0
	}
	if age >= max(p.grace, retention) {
		return outcome{}, 0
	}
	if retention > 0 && age < retention {
		return keep(fmt.Sprintf("kept for the retention period of %v", retention), retention-age), 0
	}
	if wait := p.grace - in.proxied; wait > 0 {
		return keep(fmt.Sprintf("kept for the grace period of %v", p.grace), wait), 0
	}
	return outcome{}, 0
}

// activate is Knative's computeActiveCondition.
func activate(p policy, st state, in input, intent int) state {
	// How many pods must be ready for the revision to be active.
	threshold := max(p.floor, 1)
	if !st.initialised {
		threshold = max(p.floor, p.initial)
	}
	if in.ready >= threshold {
		st.initialised = true
	}
	switch {
	case intent == 0 || threshold == 0:
		return st.become(inactive, in.now)
	case in.ready < threshold:
		if intent > 0 || st.activity != inactive {
			return st.become(activating, in.now)
		}
	default:
		if intent > 0 || st.activity != inactive {
			return st.become(active, in.now)
		}
	}
	return st
}
