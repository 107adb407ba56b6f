package engine

import (
	"time"

	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/internal/client"
)

// decide records the load when a second is over, asks the autoscaler, starts
// and stops pods, and returns when to decide again; the zero time means that
// everything rests.
func (r *revision) decide(now time.Time) time.Time {
	if r.recorded.IsZero() { // from rest: what the statistics saw until now is nothing
		r.recorded = now
		r.stats.Report(now)
		r.busy(+1)
	}
	if !r.isReachable() {
		r.backlog.Store(0) // those events are another revision's now, and nobody tells this one
	}
	if now.Sub(r.recorded) >= scale.Tick {
		seen := r.stats.Report(now)
		r.decider.Record(now, seen.AverageConcurrency+float64(r.backlog.Load()), seen.RequestCount/now.Sub(r.recorded).Seconds())
		r.recorded = now
	}
	if !r.quarantine.IsZero() && !now.Before(r.quarantine) {
		r.quarantine = time.Time{}
		r.lane.Accept()
	}
	waiting, held := r.lane.Counts()
	r.mu.Lock()
	if r.next != nil {
		r.decider, r.next = r.next, nil
	}
	r.decider.Bound(r.bounds)
	r.rebound = false
	v := r.count()
	reached := r.reached
	d := r.decider.Decide(now, scale.Snapshot{Ready: v.Ready, Starting: v.Starting, InFlight: held, Waiting: waiting, Unreachable: !reached})
	if d.Want != r.decision.Want || r.since.IsZero() {
		r.log.Debug("decided", "want", d.Want, "why", d.Why, "ready", v.Ready, "starting", v.Starting, "waiting", waiting, "inFlight", held)
		r.since = now
	}
	if r.yields != "" {
		d.Want, d.Why = 0, "its GPUs go to "+r.yields
	}
	r.decision = d
	r.apply(d.Want, v)
	if d.Want == 0 {
		r.dropBack()
	}
	if r.isClosed() {
		r.lane.Refuse(errClosed) // who came before the door was shut
	}
	v = r.count()
	quiet := len(r.pods) == 0
	proven := d.Initialised && !r.proven
	r.proven = r.proven || proven
	r.mu.Unlock()

	floor := 0
	if reached {
		floor = v.MinScale
	}
	r.used.Stand(v.Ready, floor)
	r.show()
	if proven {
		r.control.proven(r)
		r.control.swapped(r)
	}
	if now := (replicas{v.Ready, d.Want}); now != r.told {
		r.told = now
		r.control.active(r, now.ready, now.want)
	}
	switch {
	case d.NextCheck.IsZero() && quiet && !r.quarantine.IsZero():
		return r.quarantine // to accept requests again
	case d.NextCheck.IsZero() && quiet:
		r.recorded = time.Time{}
		r.busy(-1)
		if !reached && !r.control.rested(r) {
			return now.Add(scale.Tick) // nobody tells when that request has gone
		}
		return time.Time{}
	case d.NextCheck.IsZero():
		return now.Add(scale.Tick) // pods are draining
	}
	next := d.NextCheck
	if tick := r.recorded.Add(scale.Tick); tick.Before(next) {
		next = tick
	}
	if !r.quarantine.IsZero() && r.quarantine.Before(next) {
		next = r.quarantine
	}
	return next
}

// apply starts or stops pods until want are alive. REQUIRES: r.mu is held.
func (r *revision) apply(want int, v client.Revision) {
	alive := v.Starting + v.Ready
	if alive < want && r.quarantine.IsZero() {
		for range want - alive {
			r.begin()
		}
	}
	for alive > want {
		p := r.dispensable()
		if p.phase != phaseReady || want > 0 || r.yields != "" || r.isClosed() {
			r.drain(p, r.lane.Close(p))
		} else if r.lane.CloseIdle(p) {
			// Zero was decided for want of requests: a request that came
			// since is answered by this pod, and the next decision knows.
			r.drain(p, done)
		} else {
			return
		}
		alive--
	}
}

// done is a drain that has ended before it began.
var done = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// dispensable is the live pod to stop first: one that is still starting, then
// the one with the fewest requests, then the newest. REQUIRES: r.mu is held.
func (r *revision) dispensable() *podState {
	var best *podState
	var fewest int
	for _, p := range r.pods { // oldest first
		n := 0
		switch p.phase {
		case phaseDraining:
			continue
		case phaseReady:
			n = 1 + r.lane.Held(p)
		}
		if best == nil || n <= fewest {
			best, fewest = p, n
		}
	}
	return best
}
