package engine

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// current is the service of a runner and its name; nil if the runner has been
// let go. REQUIRES: c.mu is held.
func (c *control) current(r *revision) (*service, types.NamespacedName) {
	name := types.NamespacedName{Namespace: r.spec.Namespace, Name: r.spec.Service}
	if s := c.services[name]; s != nil && s.running[r.name] == r {
		return s, name
	}
	return nil, name
}

// ended is told by a runner's goroutine that it has returned.
func (c *control) ended(r *revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ending, r)
}

// rested is told by a runner that nothing runs of its revision, which no
// request is routed to. It may end, and does; false: not yet, since a request
// is on its way to it, or from it to another.
func (c *control) rested(r *revision) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, name := c.current(r)
	if s == nil || r.isReachable() {
		return true
	}
	if !r.gate.shutEmpty() {
		return false
	}
	c.end(s, r)
	if !c.stopped {
		_ = c.follow(name) // told by follow; an old revision may now be collected
	}
	return true
}

// proven is told by a runner that its revision has had the pods that it was to
// begin with.
func (c *control) proven(r *revision) {
	c.change(r, func(rev *servingv1.Revision) bool {
		if rev.IsReady() {
			return false
		}
		markReady(rev)
		return true
	})
}

// failed is told by a runner that a pod of its revision did not become ready.
// What was ready once keeps its requests.
func (c *control) failed(r *revision, why failure) {
	c.change(r, func(rev *servingv1.Revision) bool {
		if rev.IsReady() {
			return false
		}
		was := rev.Status.DeepCopy()
		markFailed(rev, why)
		return !equality.Semantic.DeepEqual(was, &rev.Status)
	})
}

// change changes a revision's status, and the service follows.
func (c *control) change(r *revision, do func(*servingv1.Revision) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, name := c.current(r)
	if s == nil || s.revision(r.name) == nil {
		return // it was deleted meanwhile
	}
	rev := s.revision(r.name).DeepCopy()
	if !do(rev) {
		return
	}
	s.keep(rev)
	_ = c.follow(name) // told by follow
}

// active is told by a runner whether its revision has pods.
func (c *control) active(r *revision, ready, want int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[types.NamespacedName{Namespace: r.spec.Namespace, Name: r.spec.Service}]
	if s == nil || s.revision(r.name) == nil {
		return
	}
	rev := s.revision(r.name).DeepCopy()
	markActive(rev, ready, want)
	s.keep(rev)
	c.store.Show(c.store.Put(rev)) // another engine begins with none
}

// stop ends all runners, and waits for them.
func (c *control) stop() {
	c.mu.Lock()
	c.stopped = true
	if c.unsaved.timer != nil {
		c.unsaved.timer.Stop()
	}
	for _, s := range c.services {
		if s.step != nil {
			s.step.Stop()
		}
		for _, r := range s.running {
			r.cancel()
		}
	}
	c.mu.Unlock()
	_ = c.schedules.clock.Close() // nobody is left to be told; keepTime ends
	<-c.schedules.ended
	c.runners.Wait()
	c.schedules.leads.stop()
}

// running lists the runners by namespace and name.
func (c *control) running() []*revision {
	c.mu.Lock()
	var all []*revision
	for _, s := range c.services {
		all = append(all, slices.Collect(maps.Values(s.running))...)
	}
	all = append(all, slices.Collect(maps.Keys(c.ending))...)
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b *revision) int {
		return cmp.Or(strings.Compare(a.spec.Namespace, b.spec.Namespace), strings.Compare(a.name, b.name))
	})
	return all
}
