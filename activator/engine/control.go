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
	"k8s.io/apimachinery/pkg/types"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/audit"
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

	mu        sync.Mutex // guards what follows and every change of the store; taken before a revision's mu
	settings  *manifest.Settings
	schedules *schedules
	noted     []audit.Entry // changes of bounds that are yet to be on record
	deciders  *scale.Config
	services  map[types.NamespacedName]*service
	ending    map[*revision]bool // runners that nothing leads to any more
	runners   sync.WaitGroup     // of the revisions' goroutines
	ctx       context.Context
	unsaved   unsaved
	stopped   bool // nothing is begun any more
}

// service is what runs of one Service. control's mu guards it.
type service struct {
	revisions []*servingv1.Revision   // as they are in the store, the oldest first
	running   map[string]*revision    // by name
	plan      *route.Plan             // the last that could be made; nil: none yet
	step      *time.Timer             // of a roll-out
	hosts     []string                // in the table
	door      atomic.Pointer[closure] // nil: open
}

func newControl(ctx context.Context, e *Engine, store *objects.Store, s *schedules) *control {
	c := &control{engine: e, store: store, schedules: s, services: map[types.NamespacedName]*service{}, ending: map[*revision]bool{}, ctx: ctx}
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
	for _, s := range c.services {
		for _, r := range s.running {
			r.refresh()
		}
	}
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
		c.bound(name, byRollout) // its own bounds may be others
	}
	c.setAlarm()
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
	go c.schedules.leads.run()
	go c.keepTime()
	if err := c.refresh(); err != nil {
		return err
	}
	c.loadSchedules()
	names := map[types.NamespacedName]bool{}
	for name := range c.schedules.services { // those that schedules alone speak of
		names[name] = true
	}
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
// is followed all the same, since the requests at hand matter more, and kept
// as soon as it can be.
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
			c.engine.log.Error(lostOnStop, "err", err)
			c.store.Show(changes...)
			c.owe(changes)
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
	c.setAlarm()
	return err
}

// end lets go of a runner. REQUIRES: c.mu is held.
func (c *control) end(s *service, r *revision) {
	delete(s.running, r.name)
	c.ending[r] = true
	r.cancel()
}
