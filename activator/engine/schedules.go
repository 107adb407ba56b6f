package engine

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/manifest"
	"aisle.dev/aisle/internal/scaling"
)

// Clock is the time that schedules follow. One goroutine waits; it is used by
// several at once beside.
type Clock interface {
	Now() time.Time
	// Alarm makes Wait return at a time, in the place of the one before; the zero
	// time is never.
	Alarm(time.Time) error
	// Wait returns when the alarm rings, or when the clock was set. Its error has
	// [os.ErrClosed] in its chain after Close.
	Wait() (set bool, err error)
	Close() error
}

const (
	// handKept is how long after its until a schedule that was made by hand stays,
	// for who asks what it was.
	handKept = time.Hour
	// ownRetry is when what the disk refused is tried again.
	ownRetry = time.Minute
)

// schedules are the ScalingSchedules, compiled. What bounds follow from is what
// is declared, the clock and the lead time, and is computed anew whenever one of
// these may have changed; nothing is counted, so nothing is missed by a clock
// that jumps, a machine that sleeps, or an engine that was killed. control's mu
// guards them.
type schedules struct {
	clock    Clock
	leads    *leads
	services map[types.NamespacedName]*scheduled           // that schedules name, whether they are there or not
	target   map[types.NamespacedName]types.NamespacedName // the service of each schedule
	agenda   agenda                                        // services, the first that is due first
	alarm    time.Time
	ended    chan struct{} // closed when nobody waits for the clock any more
}

// scheduled is a service with schedules.
type scheduled struct {
	name types.NamespacedName
	at   int                  // in the agenda
	all  []*schedule.Schedule // by name
	due  time.Time            // when its bounds may change by the clock; zero: never
	lead time.Duration        // that its bounds follow from
	held schedule.Bounds      // as they were set last
	told bool                 // held is on record
	own  audit.Bounds         // without any schedule, when held was set
	kept bool                 // held is from the record of an engine before this one
}

// agenda is a [heap.Interface].
type agenda []*scheduled

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return !a[i].due.IsZero() && (a[j].due.IsZero() || a[i].due.Before(a[j].due))
}
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].at, a[j].at = i, j
}
func (a *agenda) Push(x any) {
	s := x.(*scheduled)
	s.at = len(*a)
	*a = append(*a, s)
}
func (a *agenda) Pop() any {
	last := len(*a) - 1
	s := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	return s
}

func newSchedules(clock Clock, leads *leads) *schedules {
	return &schedules{
		clock: clock, leads: leads, ended: make(chan struct{}),
		services: map[types.NamespacedName]*scheduled{}, target: map[types.NamespacedName]types.NamespacedName{},
	}
}

// admitSchedule refuses a ScalingSchedule that means nothing, or that may not
// come in the place of the old one (nil: there is none) or beside the others of
// its service, with a [*manifest.Invalid].
func admitSchedule(o, old *scaling.ScalingSchedule, others []*schedule.Schedule, now time.Time) (*schedule.Schedule, error) {
	s, err := schedule.Compile(o.Name, &o.Spec)
	if err == nil {
		var before *scaling.Spec
		if old != nil {
			before = &old.Spec
		}
		err = s.Admit(before, others, now)
	}
	wrong, ok := errors.AsType[*schedule.Invalid](err)
	if !ok {
		return s, err
	}
	invalid := new(manifest.Invalid)
	for _, p := range wrong.Problems {
		invalid.Problems = append(invalid.Problems, manifest.Problem{
			Object: fmt.Sprintf("%s %s/%s", scaling.Kind, o.Namespace, o.Name), Path: p.Field, Reason: p.Reason,
		})
	}
	return nil, invalid
}

// admitSchedules refuses a folder's schedules as admitSchedule does.
func admitSchedules(folder []*scaling.ScalingSchedule, now time.Time) error {
	others := map[types.NamespacedName][]*schedule.Schedule{}
	for _, o := range folder {
		service := types.NamespacedName{Namespace: o.Namespace, Name: o.Spec.Service}
		s, err := admitSchedule(o, nil, others[service], now)
		if err != nil {
			return err
		}
		others[service] = append(others[service], s)
	}
	return nil
}

// of are the schedules of a service. REQUIRES: control's mu is held.
func (s *schedules) of(service types.NamespacedName) []*schedule.Schedule {
	if at := s.services[service]; at != nil {
		return at.all
	}
	return nil
}

// put takes in how a schedule is declared now, nil: not at all. It gives the
// services whose bounds may change.
func (s *schedules) put(name types.NamespacedName, o *scaling.ScalingSchedule) (touched []types.NamespacedName, err error) {
	if was, ok := s.target[name]; ok {
		old := s.services[was]
		old.all = slices.DeleteFunc(old.all, func(c *schedule.Schedule) bool { return c.Name() == name.Name })
		touched = append(touched, was)
		delete(s.target, name)
	}
	if o == nil {
		return touched, nil
	}
	c, err := schedule.Compile(o.Name, &o.Spec)
	if err != nil {
		return touched, err
	}
	to := types.NamespacedName{Namespace: name.Namespace, Name: o.Spec.Service}
	at := s.services[to]
	if at == nil {
		at = &scheduled{name: to}
		s.services[to] = at
		heap.Push(&s.agenda, at)
	}
	i, _ := slices.BinarySearchFunc(at.all, c, func(a, b *schedule.Schedule) int { return cmp.Compare(a.Name(), b.Name()) })
	at.all = slices.Insert(at.all, i, c)
	s.target[name] = to
	if !slices.Contains(touched, to) {
		touched = append(touched, to)
	}
	return touched, nil
}

// loadSchedules takes in those that are kept. REQUIRES: c.mu is held.
func (c *control) loadSchedules() {
	for _, o := range list[*scaling.ScalingSchedule](c.store, objects.Schedules) {
		if _, err := c.schedules.put(types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, o); err != nil {
			c.engine.log.Error("a schedule is left out: this engine cannot honour it", "schedule", o.Namespace+"/"+o.Name, "err", err)
		}
	}
	for name, at := range c.schedules.services {
		if b, ok := c.engine.audit.Last(name.Namespace, name.Name); ok {
			at.held, at.told = schedule.Bounds{Floor: b.Floor, Cap: b.Cap, Closed: b.Closed}, true
			at.kept = true
		}
	}
}

// reschedule follows a schedule that was applied or deleted; cause is what is on
// record of that. REQUIRES: c.mu is held.
func (c *control) reschedule(key objects.Key, cause audit.Entry) error {
	o, _ := c.store.Get(key).(*scaling.ScalingSchedule)
	cause.Schedule = key.Name
	if o != nil {
		cause.Reason = o.Spec.Reason
		if until := o.Spec.Until; until != nil {
			cause.Until = until.Time
		}
	}
	touched, err := c.schedules.put(types.NamespacedName{Namespace: key.Namespace, Name: key.Name}, o)
	for _, service := range touched {
		c.bound(service, cause)
	}
	c.setAlarm()
	return err
}

// bound sets a service's bounds as they are to be now, and tells of them; cause
// is what is on record of a change. All that they follow from is asked anew.
// REQUIRES: c.mu is held.
func (c *control) bound(name types.NamespacedName, cause audit.Entry) {
	running, at := c.services[name], c.schedules.services[name]
	if at == nil {
		return
	}
	now := c.schedules.clock.Now()
	live, set := c.aim(name, running)
	var base schedule.Base
	var learned time.Duration
	var sample int
	if live != nil {
		base.Min, base.Max = live.own()
		learned, sample = c.schedules.leads.of(name, live.name)
	}
	own, _ := schedule.At(base, 0, nil, now)
	if len(at.all) == 0 {
		delete(c.schedules.services, name)
		heap.Remove(&c.schedules.agenda, at.at)
		if running != nil {
			c.enforce(name, running, nil, schedule.Bounds{})
		}
		c.note(name, at, cause, own, own)
		return
	}
	at.lead, set.Lead = at.leadTime(learned, sample, now)
	set.Bounds, set.Next = schedule.At(base, at.lead, at.all, now)
	if live != nil {
		c.enforce(name, running, live, set.Bounds)
	}
	if b := set.Bounds; b.Floor != at.held.Floor || b.Cap != at.held.Cap || b.Closed != at.held.Closed {
		c.engine.log.Info("bounds", "service", name.String(), "revision", set.Revision, "floor", b.Floor, "cap", b.Cap, "closed", b.Closed, "why", b.Because())
	}
	c.note(name, at, cause, own, set.Bounds)
	at.held, at.due = set.Bounds, c.expire(name, at, set.Next, now)
	if len(at.all) == 0 {
		c.bound(name, byClock) // its last has just been deleted
		return
	}
	heap.Fix(&c.schedules.agenda, at.at)
	c.tell(name, at, set, now)
}

// leadTime is the lead time that holds. While pods get ready by it, it gets no
// shorter: the first of them that is quicker than most would end the floor that
// it was started for.
func (s *scheduled) leadTime(learned time.Duration, sample int, now time.Time) (time.Duration, scaling.Lead) {
	d, said := schedule.Lead(learned, sample, s.all, now)
	if slices.ContainsFunc(s.held.Why, func(w schedule.Why) bool { return w.Early }) {
		d = max(d, s.lead)
	}
	return d, said
}

// aim finds the runner that gets a service's bounds, nil if there is none, and
// begins what is to be said of that. REQUIRES: c.mu is held.
func (c *control) aim(name types.NamespacedName, s *service) (live *revision, set schedule.Set) {
	if ks, _ := c.store.Get(objects.Services.Key(name.Namespace, name.Name)).(*servingv1.Service); ks == nil || s == nil {
		return nil, schedule.Set{Reason: "ServiceNotFound", Message: fmt.Sprintf("there is no Service %s in namespace %s; the bounds are set when it comes", name.Name, name.Namespace)}
	}
	var shares []schedule.Share
	for _, rev := range s.revisions {
		if s.plan == nil || s.running[rev.Name] == nil {
			continue
		}
		for _, to := range s.plan.Shares[""] {
			if to.Revision == rev.Name {
				shares = append(shares, schedule.Share{Revision: rev.Name, Percent: int64(to.Percent)})
			}
		}
	}
	to, rule := schedule.Live(shares)
	live = s.running[to]
	if live == nil && len(s.revisions) > 0 { // requests wait for the latest: see service.route
		live, rule = s.running[s.revisions[len(s.revisions)-1].Name], "requests wait for it: none has been ready yet"
	}
	if live == nil {
		return nil, schedule.Set{Reason: "NoTraffic", Message: "no revision of the service runs; the bounds are set when one does"}
	}
	return live, schedule.Set{Revision: live.name, Rule: rule}
}

// enforce gives the service's runners their bounds: the live one those of the
// schedules, others their own. What is closed is so for all of them.
// REQUIRES: c.mu is held.
func (c *control) enforce(name types.NamespacedName, s *service, live *revision, b schedule.Bounds) {
	door := s.door.Load()
	if b.Closed {
		shut := &closure{service: name.String(), opens: b.Opens, now: c.schedules.clock.Now}
		s.door.Store(shut) // before pods go: requests are turned away here, not there
	}
	by := b.By()
	for _, r := range s.running {
		switch {
		case r == live && by != "":
			r.bound(&scale.Bounds{Floor: b.Floor, Cap: b.Cap, Closed: b.Closed, By: by})
		case b.Closed:
			r.bound(&scale.Bounds{Closed: true, By: by})
		default:
			r.bound(nil)
		}
	}
	if !b.Closed {
		s.door.Store(nil)
	}
	if b.Closed != (door != nil) {
		c.engine.events.reconsider()
	}
}

// expire deletes what was made by hand and is long over. It gives when the
// service is due again. REQUIRES: c.mu is held.
func (c *control) expire(name types.NamespacedName, at *scheduled, next, now time.Time) time.Time {
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, s := range slices.Clone(at.all) {
		if s.Name() != scaling.HandName(name.Name) || s.Until().IsZero() {
			continue
		}
		if ends := s.Until().Add(handKept); now.Before(ends) {
			sooner(ends)
			continue
		}
		key := objects.Schedules.Key(name.Namespace, s.Name())
		if err := c.store.Write(objects.Change{Key: key}); err != nil {
			c.engine.log.Error("a schedule that is over cannot be deleted; it is tried again", "schedule", key.String(), "err", err)
			sooner(now.Add(ownRetry))
			continue
		}
		// It bounds nothing any more, so that the others' bounds stay as they are.
		if _, err := c.schedules.put(types.NamespacedName{Namespace: name.Namespace, Name: s.Name()}, nil); err != nil {
			c.engine.log.Error("a schedule is left out", "schedule", key.String(), "err", err)
		}
	}
	return next
}

// tell writes into the status of a service's schedules what was set. Another
// engine finds it out anew. REQUIRES: c.mu is held.
func (c *control) tell(name types.NamespacedName, at *scheduled, set schedule.Set, now time.Time) {
	var changes []objects.Change
	for _, s := range at.all {
		o, _ := c.store.Get(objects.Schedules.Key(name.Namespace, s.Name())).(*scaling.ScalingSchedule)
		if o == nil {
			continue
		}
		status := set.Status(o, now)
		if equality.Semantic.DeepEqual(status, o.Status) {
			continue
		}
		o = o.DeepCopy()
		o.Status = status
		changes = append(changes, c.store.Put(o))
	}
	c.store.Show(changes...)
}

// learned is told by a runner that a pod of its revision got ready.
func (c *control) learned(r *revision, took time.Duration) {
	name := types.NamespacedName{Namespace: r.spec.Namespace, Name: r.spec.Service}
	c.schedules.leads.observe(name, r.name, took)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.schedules.services[name] != nil && !c.stopped {
		c.bound(name, byClock)
		c.setAlarm()
	}
}

// setAlarm ends a round in which bounds were set: what has changed is on record,
// and the clock rings when the first service is due.
// REQUIRES: c.mu is held.
func (c *control) setAlarm() {
	c.record()
	var first time.Time
	if len(c.schedules.agenda) > 0 {
		first = c.schedules.agenda[0].due
	}
	if first.Equal(c.schedules.alarm) {
		return
	}
	c.schedules.alarm = first
	if err := c.schedules.clock.Alarm(first); err != nil {
		c.engine.log.Error("schedules are not followed by the clock any more; start the engine again", "err", err)
	}
}

// keepTime follows the clock until it is closed.
func (c *control) keepTime() {
	defer close(c.schedules.ended)
	for {
		set, err := c.schedules.clock.Wait()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			c.engine.log.Error("schedules are not followed by the clock any more; start the engine again", "err", err)
			return
		}
		c.mu.Lock()
		if !c.stopped {
			c.turn(set)
		}
		c.mu.Unlock()
	}
}

// turn sets the bounds of the services that are due, or of all if the clock was
// set: they may have been due in the time that it left out, or have had their
// change in a time that is now to come again. REQUIRES: c.mu is held.
func (c *control) turn(all bool) {
	c.schedules.alarm = time.Time{} // it has rung
	if all {
		for name := range c.schedules.services {
			c.bound(name, byClock)
		}
	}
	now := c.schedules.clock.Now()
	for a := &c.schedules.agenda; len(*a) > 0 && !(*a)[0].due.IsZero() && !now.Before((*a)[0].due); {
		c.bound((*a)[0].name, byClock) // which makes it due later
	}
	c.setAlarm()
}
