package engine

import (
	"errors"

	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/engine/slots"
	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/internal/manifest"
)

// A swap is a roll-out within the GPUs that a service has. Where the Service's
// annotation says so, the pods of the revisions before drain when a pod of a
// new one waits for their GPUs, and requests wait in their lanes meanwhile:
//
//	new pod Pending → old ones yield → drained, their GPUs inherited → new pod
//	starts → it is ready: routes move, and who waits moves along
//	       → it ends before: the old ones inherit the GPUs, and who waits is answered
//
// Each revision has one try. Nobody waits for what another waits for: the old
// pods end within their grace, the new one gets ready or fails within its
// progress deadline, and GPUs go from hand to hand.

// errMoved tells who waits in a lane that the service's requests go to another
// revision now.
var errMoved = errors.New("the service's requests go to another revision")

// awaits is told by a runner that a pod of its revision is Pending.
func (c *control) awaits(r *revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, name := c.current(r)
	ks, _ := c.store.Get(objects.Services.Key(name.Namespace, name.Name)).(*servingv1.Service)
	if ks != nil && s != nil {
		c.swap(ks, s, r)
	}
}

// swap lets the other revisions of r's service yield to r, if a pod of it is
// Pending, the service is to be rolled out so, and what they hold suffices.
// REQUIRES: c.mu is held.
func (c *control) swap(ks *servingv1.Service, s *service, r *revision) {
	claim := r.waiting()
	if claim == nil || r.tried || r.isProven() || ks.Annotations[manifest.GPURollout] != manifest.GPUSwap {
		return
	}
	if rolloutDuration(ks) > 0 || len(ks.Spec.Traffic) != 1 || ks.Spec.Traffic[0].RevisionName != "" {
		c.engine.log.Warn("a revision waits for the GPUs of the one before: they are swapped only where all requests follow the latest revision at once",
			"service", r.service, "revision", r.name)
		return
	}
	var held []*slots.Claim
	var others []*revision
	for _, o := range s.running {
		if o != r {
			held, others = append(held, o.claims()...), append(others, o)
		}
	}
	if len(held) == 0 || !claim.Inherit(held...) {
		return
	}
	r.tried, r.givers = true, others
	for _, o := range others {
		o.yield(r.name)
	}
	c.engine.log.Info("GPUs are swapped", "service", r.service, "to", r.name)
}

// swapped ends r's swap once requests are routed to it: who waits for the
// others follows.
func (c *control) swapped(r *revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range r.givers {
		if o.isReachable() { // the Service has been changed meanwhile
			o.yield("")
			continue
		}
		c.rest(o)
		o.lane.Refuse(errMoved)
	}
	r.givers = nil
}

// swapBack gives the GPUs that r's claim holds back to the revisions that
// yielded to it, if r has still to be proven. It is called before r releases
// them.
func (c *control) swapBack(r *revision, claim *slots.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range r.givers {
		switch s, _ := c.current(o); {
		case s == nil: // nobody would give the claim up
		case o.isReachable():
			o.comeBack(claim)
		default: // one that was replaced before
			c.rest(o)
		}
	}
	if len(r.givers) > 0 {
		c.engine.log.Warn("GPUs are swapped back", "service", r.service, "from", r.name)
	}
	r.givers = nil
}

// rest ends the yield of a revision that requests do not go to any more. Its
// decider would want the pods of before until its window is over, and they would
// stand in line for the GPUs before those of the revision that is to have them.
// REQUIRES: c.mu is held.
func (c *control) rest(r *revision) {
	d, err := scale.New(r.scaled(true), c.deciders)
	if err == nil {
		r.retune(d)
	} else {
		c.engine.log.Error("a revision keeps its old settings", "service", r.service, "revision", r.name, "err", err)
	}
	r.yield("")
}

// waiting is the claim of the revision's first Pending pod, or nil.
func (r *revision) waiting() *slots.Claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pods {
		if p.phase == phasePending {
			return p.claim
		}
	}
	return nil
}

// claims are those of the revision's pods.
func (r *revision) claims() []*slots.Claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*slots.Claim
	for _, p := range r.pods {
		if p.claim != nil {
			all = append(all, p.claim)
		}
	}
	return all
}

// yield stops the revision's pods, with the requests that they have answered,
// and starts none, for as long as to names another one.
func (r *revision) yield(to string) {
	r.mu.Lock()
	r.yields = to
	r.mu.Unlock()
	r.nudge()
}

// comeBack ends a yield: the next pod inherits what from holds.
func (r *revision) comeBack(from *slots.Claim) {
	r.mu.Lock()
	r.yields = ""
	if r.back == nil {
		back := r.gpus.Ask(r.spec.Namespace+"/"+r.name, r.spec.Limits.GPUs)
		if back.Inherit(from) {
			r.back = back
		} else {
			back.Release() // another one that yielded gets them
		}
	}
	r.mu.Unlock()
	r.nudge()
}

// dropBack gives up the claim that no pod came back for. REQUIRES: r.mu is held.
func (r *revision) dropBack() {
	if r.back != nil {
		r.back.Release()
		r.back = nil
	}
}

// successor is the revision that a request goes to that waited for r when
// requests were moved, entered for c; nil if there is none.
func (r *revision) successor(c *call) *revision {
	for len(c.moved) < maxTries {
		t := (*r.control.routes.Load())[r.route]
		if t == nil {
			return nil
		}
		next := t.pick()
		if next == r {
			return nil
		}
		if next.gate.enter() {
			c.moved = append(c.moved, next)
			return next
		}
		// It was given up in this moment; the table has known for longer.
	}
	return nil
}
