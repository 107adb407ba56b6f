package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"knative.dev/serving/pkg/gc"

	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/engine/route"
	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/internal/manifest"
)

// control makes of the objects what runs: revisions of services, routes to
// them, and a runner for each revision that a request can come to or that has
// still to be proven. It is Knative's controllers as far as one machine needs
// them; each change is followed at once, and nothing is looked at in between.
type control struct {
	engine *Engine
	store  *objects.Store

	sources atomic.Pointer[manifest.Sources] // of now; what it points to is immutable
	routes  atomic.Pointer[table]

	mu       sync.Mutex // guards what follows and every change of the store; taken before a revision's mu
	settings *manifest.Settings
	deciders *scale.Config
	services map[types.NamespacedName]*service
	ending   map[*revision]bool // runners that nothing leads to any more
	runners  sync.WaitGroup     // of the revisions' goroutines
	ctx      context.Context
	stopped  bool // nothing is begun any more
}

// service is what runs of one Service. control's mu guards it.
type service struct {
	revisions []*servingv1.Revision // as they are in the store, the oldest first
	running   map[string]*revision  // by name
	plan      *route.Plan           // the last that could be made; nil: none yet
	step      *time.Timer           // of a roll-out
	hosts     []string              // in the table
}

func newControl(ctx context.Context, e *Engine, store *objects.Store) *control {
	c := &control{engine: e, store: store, services: map[types.NamespacedName]*service{}, ending: map[*revision]bool{}, ctx: ctx}
	c.routes.Store(&table{})
	revisions, _ := store.List(objects.Revisions, "")
	for _, o := range revisions {
		rev := o.(*servingv1.Revision)
		c.of(serviceOf(rev)).keep(rev)
	}
	return c
}

// of is what runs of a service. REQUIRES: c.mu is held.
func (c *control) of(name types.NamespacedName) *service {
	s := c.services[name]
	if s == nil {
		s = &service{running: map[string]*revision{}}
		c.services[name] = s
	}
	return s
}

// keep puts a revision in the place of the one of its name.
func (s *service) keep(rev *servingv1.Revision) {
	s.revisions = slices.DeleteFunc(s.revisions, func(r *servingv1.Revision) bool { return r.Name == rev.Name })
	s.revisions = append(s.revisions, rev)
	slices.SortFunc(s.revisions, func(a, b *servingv1.Revision) int { return cmp.Compare(generationOf(a), generationOf(b)) })
}

func (s *service) revision(name string) *servingv1.Revision {
	for _, r := range s.revisions {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// latestReady is the newest revision that has been ready.
func (s *service) latestReady() *servingv1.Revision {
	for _, r := range slices.Backward(s.revisions) {
		if r.IsReady() {
			return r
		}
	}
	return nil
}

// refresh takes in what Services and their revisions refer to.
// REQUIRES: c.mu is held.
func (c *control) refresh() error {
	set, err := manifest.Check(nil, c.known())
	if err != nil {
		return fmt.Errorf("the settings that are kept: %w", err)
	}
	deciders, err := scale.ParseConfig(set.Settings.Autoscaler())
	if err != nil {
		return err
	}
	before := c.settings
	c.settings, c.deciders = set.Settings, deciders
	src := c.known().Sources()
	c.sources.Store(&src)
	if before == nil || maps.Equal(before.Autoscaler(), c.settings.Autoscaler()) {
		return nil
	}
	for name, s := range c.services {
		for _, r := range s.running {
			d, err := scale.New(r.scaled(r.isProven()), c.deciders)
			if err != nil {
				c.engine.log.Error("a revision keeps its old settings", "service", name.String(), "revision", r.name, "err", err)
				continue
			}
			r.retune(d)
		}
	}
	return nil
}

// known is the objects that others are checked among.
func (c *control) known() *manifest.Set {
	set := new(manifest.Set)
	set.Services = list[*servingv1.Service](c.store, objects.Services)
	set.ConfigMaps = list[*corev1.ConfigMap](c.store, objects.ConfigMaps)
	set.Secrets = list[*corev1.Secret](c.store, objects.Secrets)
	set.ImageMaps = list[*manifest.ImageMap](c.store, objects.ImageMaps)
	return set
}

func list[O manifest.Object](s *objects.Store, r objects.Resource) []O {
	found, _ := s.List(r, "")
	all := make([]O, len(found))
	for i, o := range found {
		all[i] = o.(O)
	}
	return all
}

// start makes everything run that is kept.
func (c *control) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil {
		return err
	}
	names := map[types.NamespacedName]bool{}
	for name := range c.services { // those of which revisions alone are left
		names[name] = true
	}
	for _, s := range list[*servingv1.Service](c.store, objects.Services) {
		names[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = true
	}
	if err := c.follow(slices.Collect(maps.Keys(names))...); err != nil {
		return err
	}
	return c.prune()
}

// startEvents makes the broker serve what is kept.
func (c *control) startEvents() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.engine.events.apply(c.ctx, c.store)
}

// follow makes services run as their objects say. What of that cannot be kept
// is followed all the same: the requests at hand matter more.
// REQUIRES: c.mu is held.
func (c *control) follow(names ...types.NamespacedName) error {
	next := maps.Clone(*c.routes.Load())
	var changes []objects.Change
	for _, name := range names {
		changes = append(changes, c.reconcile(name, next)...)
	}
	var err error
	if len(changes) > 0 {
		if err = c.store.Write(changes...); err != nil {
			c.engine.log.Error("what has changed is lost if the engine stops now", "err", err)
			c.store.Show(changes...)
		}
	}
	c.routes.Store(&next)
	if slices.ContainsFunc(changes, func(ch objects.Change) bool { return ch.Object == nil }) {
		err = errors.Join(err, c.prune()) // of what revisions that are gone referred to
	}
	for _, name := range names {
		if s := c.services[name]; len(s.revisions) == 0 { // it is no more, and no request finds it
			for _, r := range s.running {
				r.gate.shut()
				c.end(s, r)
			}
			delete(c.services, name)
		}
	}
	return err
}

// end lets go of a runner. REQUIRES: c.mu is held.
func (c *control) end(s *service, r *revision) {
	delete(s.running, r.name)
	c.ending[r] = true
	r.cancel()
}

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
	c.engine.tell(ks, latest, ready, s.plan, err)
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
	if !equality.Semantic.DeepEqual(old, ks) {
		changes = append(changes, c.store.Put(ks))
	}
	c.staff(name, s, latest)
	if r := s.running[latest.Name]; r != nil {
		c.swap(ks, s, r)
	}
	s.route(name, latest, next)
	return changes
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
// request can come to it. REQUIRES: c.mu is held.
func (c *control) staff(name types.NamespacedName, s *service, latest *servingv1.Revision) {
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
		r, err := c.engine.newRevision(c, rev, spec)
		if err != nil {
			c.engine.log.Error("a revision cannot run", "service", name.String(), "revision", n, "err", err)
			continue
		}
		s.running[n] = r
		ctx, cancel := context.WithCancel(c.ctx)
		r.cancel = cancel
		c.runners.Go(func() {
			defer cancel()
			r.run(ctx)
			c.ended(r)
		})
	}
	for n, r := range s.running {
		r.reach(slices.Contains(needed, n))
	}
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
		t := new(target)
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
	return changes
}
