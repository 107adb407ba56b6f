package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"knative.dev/serving/pkg/gc"

	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/engine/route"
)

// reconcile brings one service's revisions, routes and status to what its spec
// says, as far as they can follow now: what is still to be proven comes back
// by observe, and a roll-out's next step by its timer. It gives what is to be
// kept, and writes routes into next. REQUIRES: c.mu is held.
func (c *control) reconcile(name types.NamespacedName, next table) []objects.Change {
	ks, _ := c.store.Get(objects.Services.Key(name.Namespace, name.Name)).(*servingv1.Service)
	s := c.of(name)
	for _, host := range s.hosts {
		delete(next, host)
	}
	s.hosts = nil
	if s.step != nil {
		s.step.Stop()
		s.step = nil
	}
	if ks == nil {
		return c.forget(name, s)
	}
	now := time.Now()
	old := ks
	ks = ks.DeepCopy()
	var changes []objects.Change

	// Those of an earlier Service of this name, if a crash or a full disk came
	// between its end and theirs.
	var strangers []string
	s.revisions = slices.DeleteFunc(s.revisions, func(r *servingv1.Revision) bool {
		strange := !metav1.IsControlledBy(r, ks)
		if strange {
			strangers = append(strangers, r.Name)
		}
		return strange
	})
	latest := s.ofGeneration(configurationGeneration(ks))
	if latest == nil {
		latest = makeRevision(ks, now)
		s.keep(latest)
	}
	for _, gone := range strangers {
		if s.revision(gone) == nil {
			changes = append(changes, objects.Change{Key: objects.Revisions.Key(name.Namespace, gone)})
		}
	}
	ready := s.latestReady()
	plan, err := route.Make(s.input(ks, ready), now)
	if err == nil {
		s.plan = plan
		setRollout(ks, plan.Rollout)
		if !plan.Next.IsZero() {
			s.step = time.AfterFunc(time.Until(plan.Next), func() { c.step(name) })
		}
	} else if s.plan == nil { // after a restart: what was routed last
		s.plan = route.FromStatus(ks.Status.Traffic, func(r string) bool { return s.revision(r) != nil })
	}
	begun, spoilt := c.staff(name, s, latest)
	c.engine.tell(ks, latest, ready, s.plan, err)
	if spoilt != nil {
		markSpoilt(ks, spoilt)
	}
	for _, gone := range s.collect(ks, latest, c.settings.GC, now) {
		changes = append(changes, objects.Change{Key: objects.Revisions.Key(name.Namespace, gone)})
		c.engine.metrics.forget(name.Namespace, gone)
		s.revisions = slices.DeleteFunc(s.revisions, func(r *servingv1.Revision) bool { return r.Name == gone })
	}
	for i, rev := range s.revisions {
		state := s.routingState(rev, latest)
		if rev.GetRoutingState() != state {
			rev = rev.DeepCopy()
			rev.SetRoutingState(state, now)
			s.revisions[i] = rev
		}
		if was, _ := c.store.Get(objects.KeyOf(rev)).(*servingv1.Revision); was != rev {
			changes = append(changes, c.store.Put(rev))
		}
	}
	latest = s.revision(latest.Name)
	switch {
	case equality.Semantic.DeepEqual(old, ks):
	case sameButURLs(old, ks): // each start says anew at which port it is
		c.store.Show(c.store.Put(ks))
	default:
		changes = append(changes, c.store.Put(ks))
	}
	c.bound(name, byRollout)
	for _, r := range begun { // with the bounds that they are to have
		c.launch(r)
	}
	if r := s.running[latest.Name]; r != nil {
		c.swap(ks, s, r)
	}
	s.route(name, latest, next)
	return changes
}

// sameButURLs is whether two states of a Service differ in where it is reached
// alone.
func sameButURLs(old, ks *servingv1.Service) bool {
	old = old.DeepCopy()
	old.Status.URL = ks.Status.URL
	for i := range min(len(old.Status.Traffic), len(ks.Status.Traffic)) {
		old.Status.Traffic[i].URL = ks.Status.Traffic[i].URL
	}
	return equality.Semantic.DeepEqual(old, ks)
}

// step is a roll-out's next one.
func (c *control) step(name types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		_ = c.follow(name) // told by follow; the next step is due all the same
	}
}

// ofGeneration is the revision of a generation of the template, or nil.
func (s *service) ofGeneration(generation int64) *servingv1.Revision {
	for _, r := range s.revisions {
		if generationOf(r) == generation {
			return r
		}
	}
	return nil
}

// input is what the service's plan follows from.
func (s *service) input(ks *servingv1.Service, ready *servingv1.Revision) route.Input {
	in := route.Input{
		Service: ks.Name, Traffic: ks.Spec.Traffic, Duration: rolloutDuration(ks), Before: rolloutOf(ks),
		Ready: func(name string) (bool, bool, bool) {
			r := s.revision(name)
			if r == nil {
				return false, false, false
			}
			return r.IsReady(), r.IsFailed(), true
		},
	}
	if ready != nil {
		in.LatestReady = ready.Name
	}
	return in
}

// needed are the revisions that a request can come to, and the latest while it
// has still to be proven.
func (s *service) needed(latest string) []string {
	names := []string{}
	if s.plan != nil {
		names = s.plan.Revisions()
	}
	if r := s.revision(latest); r != nil && !r.IsReady() && !slices.Contains(names, latest) {
		names = append(names, latest)
	}
	return slices.DeleteFunc(names, func(n string) bool { return s.revision(n) == nil })
}

func (s *service) routingState(rev, latest *servingv1.Revision) servingv1.RoutingState {
	switch {
	case s.plan != nil && slices.Contains(s.plan.Revisions(), rev.Name):
		return servingv1.RoutingStateActive
	case rev.Name == latest.Name && !rev.IsReady():
		return servingv1.RoutingStatePending
	}
	return servingv1.RoutingStateReserve
}

// collect gives the revisions that may go.
func (s *service) collect(ks *servingv1.Service, latest *servingv1.Revision, cfg *gc.Config, now time.Time) []string {
	needed, ready := s.needed(latest.Name), s.latestReady()
	var all []route.Old
	for _, r := range s.revisions {
		active := r.CreationTimestamp.Time
		if t := r.GetRoutingStateModified(); !t.IsZero() {
			active = t
		}
		all = append(all, route.Old{
			Name: r.Name, Created: r.CreationTimestamp.Time, LastActive: active,
			Kept: r == latest || r == ready || slices.Contains(needed, r.Name) || s.running[r.Name] != nil || isPreserved(r),
		})
	}
	return route.Collect(all, cfg, now)
}

// staff gives every revision that needs one a runner, and tells each whether a
// request can come to it. It gives those that are to be launched, and why one
// cannot run. REQUIRES: c.mu is held.
func (c *control) staff(name types.NamespacedName, s *service, latest *servingv1.Revision) (begun []*revision, spoilt error) {
	needed := s.needed(latest.Name)
	for _, n := range needed {
		if s.running[n] != nil || c.stopped {
			continue
		}
		rev := s.revision(n)
		// What is missing of what it refers to is told when a pod is to start.
		spec, _ := c.sources.Load().Reduce(rev)
		spec.Env, spec.Mounts = nil, nil
		if s.latestReady() != nil && !rev.IsReady() {
			spec.Annotations = c.provable(spec.Annotations)
		}
		r, err := c.engine.newRevision(c, s, rev, spec)
		if err != nil {
			c.engine.log.Error("a revision cannot run", "service", name.String(), "revision", n, "err", err)
			spoilt = fmt.Errorf("revision %s cannot run: %w", n, err)
			continue
		}
		s.running[n] = r
		begun = append(begun, r)
	}
	for n, r := range s.running {
		r.reach(slices.Contains(needed, n))
	}
	return begun, spoilt
}

// launch lets a runner run. REQUIRES: c.mu is held.
func (c *control) launch(r *revision) {
	ctx, cancel := context.WithCancel(c.ctx)
	r.cancel = cancel
	c.runners.Go(func() {
		defer cancel()
		r.run(ctx)
		c.ended(r)
	})
}

// provable are a revision's annotations with an initial scale of at least one:
// before the requests of another revision move to it, a pod of it has been
// ready. REQUIRES: c.mu is held.
func (c *control) provable(annotations map[string]string) map[string]string {
	key, initial, set := autoscaling.InitialScaleAnnotation.Get(annotations)
	if set && initial != "0" || !set && c.deciders.InitialScale() > 0 {
		return annotations
	}
	annotations = maps.Clone(annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	delete(annotations, key)
	annotations[autoscaling.InitialScaleAnnotationKey] = "1"
	return annotations
}

// route writes where the service's requests go. Until a first revision has
// been ready they wait for the latest, which knows what is the matter.
func (s *service) route(name types.NamespacedName, latest *servingv1.Revision, next table) {
	lead := func(tag string, shares []route.Share) {
		t := &target{door: &s.door}
		for _, share := range shares {
			if r := s.running[share.Revision]; r != nil {
				t.shares, t.revisions = append(t.shares, share), append(t.revisions, r)
			}
		}
		if len(t.revisions) > 0 {
			host := routeOf(name.Namespace, name.Name, tag)
			next[host], s.hosts = t, append(s.hosts, host)
		}
	}
	if s.plan == nil || len(s.plan.Shares[""]) == 0 {
		lead("", []route.Share{{Revision: latest.Name, Percent: 100}})
	}
	if s.plan != nil {
		for tag, shares := range s.plan.Shares {
			lead(tag, shares)
		}
	}
}

// forget ends a service that is no more. REQUIRES: c.mu is held.
func (c *control) forget(name types.NamespacedName, s *service) []objects.Change {
	var changes []objects.Change
	for _, r := range s.revisions {
		changes = append(changes, objects.Change{Key: objects.Revisions.Key(name.Namespace, r.Name)})
		c.engine.metrics.forget(name.Namespace, r.Name)
	}
	s.revisions, s.plan = nil, nil
	c.schedules.leads.forget(name)
	c.bound(name, byRollout)
	return changes
}
