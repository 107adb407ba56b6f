// Package usage counts what services use on one machine, by UTC day: how long
// their pods ran, how long these held GPUs, and what it takes to say what pods
// that are always on would have used.
//
// Guarantees:
//
//   - What is counted is the time that has really passed: the machine's
//     monotonic clock says how much, the time of day says only which day it
//     belongs to. A clock that is put forward or back, or a machine that
//     sleeps, adds nothing, takes nothing away and never counts twice.
//
//   - Every moment belongs to one day, so days add up to the total.
//
//   - What was counted survives the engine: while something runs it is on the
//     disk every [Every], and once more when nothing does. An engine that is
//     killed loses at most that much of each pod; it never counts too much.
//     While a service rests nothing is written and no timer runs, so an engine
//     killed at rest loses the time for which its services were there since:
//     what always-on would have cost is then understated, never overstated.
//
//   - A file that cannot be read is told of and set aside, and its day is
//     marked in what [Meter.Read] gives: it is never zero without a word.
//
//   - It is bounded: [MaxDays] days, [MaxServices] services in each; what is
//     beyond these is counted together, under [Others].
//
// Non-goals: money (cmd/aisle/internal/cost), and requests.
package usage

import (
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Every is how often what is counted is written down while pods live: what an
// engine that is killed loses of each of them, at most.
const Every = 10 * time.Second

// Clock tells the time of day, and how long something has gone on: a duration
// that never goes back and stands still while the machine sleeps.
type Clock func() (day time.Time, run time.Duration)

// System is the machine's clock.
func System() Clock {
	begun := time.Now()
	return func() (time.Time, time.Duration) {
		now := time.Now()
		return now.UTC(), now.Sub(begun)
	}
}

// Amount is what a service used on a day.
type Amount struct {
	Pods time.Duration `json:"pods"` // that pods' processes ran, together
	GPUs time.Duration `json:"gpus"` // that pods held GPUs, together

	// Declared is for how long the service was there to be asked, and
	// DeclaredGPUs the same, times the GPUs of one of its pods: what one pod
	// that is always on would have used.
	Declared     time.Duration `json:"declared"`
	DeclaredGPUs time.Duration `json:"declaredGPUs"`
	Peak         int           `json:"peak"` // the most pods of one revision that took requests at once

	// Floor is the floor (min-scale, schedules) times how long it held, and
	// PeakFloor the highest that it was.
	Floor     time.Duration `json:"floor"`
	PeakFloor int           `json:"peakFloor"`
}

// plus is a and b of one day.
func (a Amount) plus(b Amount) Amount {
	return Amount{
		Pods: a.Pods + b.Pods, GPUs: a.GPUs + b.GPUs,
		Declared: a.Declared + b.Declared, DeclaredGPUs: a.DeclaredGPUs + b.DeclaredGPUs, Peak: max(a.Peak, b.Peak),
		Floor: a.Floor + b.Floor, PeakFloor: max(a.PeakFloor, b.PeakFloor),
	}
}

// over is what levels amount to over d.
func (l levels) over(d time.Duration) Amount {
	return Amount{
		Pods: time.Duration(l.pods) * d, GPUs: time.Duration(l.gpus) * d,
		Declared: d, DeclaredGPUs: time.Duration(l.perPod) * d, Peak: l.ready,
		Floor: time.Duration(l.floor) * d, PeakFloor: l.floor,
	}
}

// Meter counts. Make one with [Open], and close it.
type Meter struct {
	dir   string
	clock Clock
	log   *slog.Logger

	writing sync.Mutex     // held while files are written or set aside; taken before mu
	pending sync.WaitGroup // of the timer and what it calls

	mu       sync.Mutex // guards what follows, and all accounts
	accounts map[string]*account
	days     map[string]*day // those at hand: what has changed, and the last
	timer    *time.Timer     // of the next writing; nil: nothing has changed since the last
	closed   bool
}

// account is a service that is there. Its levels have held since at.
type account struct {
	service   string // namespace/name
	revisions []*Revision
	day       time.Time
	run       time.Duration
}

// levels are what goes on at a moment.
type levels struct{ pods, gpus, perPod, ready, floor int }

// levels are those of all of the service's revisions. REQUIRES: mu is held.
func (a *account) levels() levels {
	var l levels
	for _, r := range a.revisions {
		l.pods += r.now.pods
		l.gpus += r.now.gpus
		l.floor += r.now.floor
		l.perPod = max(l.perPod, r.now.perPod)
		l.ready = max(l.ready, r.now.ready)
	}
	return l
}

// Revision is one revision of a service, from [Meter.Begin] to [Revision.End].
type Revision struct {
	meter   *Meter
	account *account
	now     levels // under the meter's mu

	ready, floor int // what Stand was told last; its caller's alone
}

// Begin counts a service (namespace/name) as there, by a revision whose pods
// have so many GPUs each.
func (m *Meter) Begin(service string, gpus int) *Revision {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[service]
	if a == nil {
		a = &account{service: service}
		a.day, a.run = m.clock()
		m.accounts[service] = a
	}
	r := &Revision{meter: m, account: a, now: levels{perPod: gpus}}
	m.settle(a)
	a.revisions = append(a.revisions, r)
	m.due()
	return r
}

// End says that the revision is no more; nothing of it may still run.
func (r *Revision) End() {
	m, a := r.meter, r.account
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle(a)
	a.revisions = slices.DeleteFunc(a.revisions, func(o *Revision) bool { return o == r })
	if len(a.revisions) == 0 {
		delete(m.accounts, a.service)
	}
	m.due()
}

// Pod counts a pod of the revision as running, until end is called, once.
func (r *Revision) Pod() (end func()) {
	r.change(func(l *levels) { l.pods++ })
	return func() { r.change(func(l *levels) { l.pods-- }) }
}

// Hold counts GPUs as held by a pod of the revision, until end is called, once.
func (r *Revision) Hold(gpus int) (end func()) {
	if gpus == 0 {
		return func() {}
	}
	r.change(func(l *levels) { l.gpus += gpus })
	return func() { r.change(func(l *levels) { l.gpus -= gpus }) }
}

// Stand says how many pods of the revision take requests, and which floor holds
// for it. It may be called by one goroutine alone, and costs nothing while
// neither changes.
func (r *Revision) Stand(ready, floor int) {
	if ready == r.ready && floor == r.floor {
		return
	}
	r.ready, r.floor = ready, floor
	r.change(func(l *levels) { l.ready, l.floor = ready, floor })
}

func (r *Revision) change(do func(*levels)) {
	r.meter.mu.Lock()
	defer r.meter.mu.Unlock()
	r.meter.settle(r.account)
	do(&r.now)
	r.meter.due()
}

// settle adds to an account's days what has been since it was settled last.
// REQUIRES: mu is held.
func (m *Meter) settle(a *account) {
	from, since := a.day, a.run
	a.day, a.run = m.clock()
	passed := a.run - since
	if len(a.revisions) == 0 {
		return
	}
	now := a.levels()
	for passed > 0 {
		midnight := from.Truncate(24 * time.Hour).Add(24 * time.Hour)
		part := min(passed, midnight.Sub(from))
		m.day(from.Format(time.DateOnly)).add(a.service, now.over(part))
		from, passed = midnight, passed-part
	}
}

// due sees to it that what has changed is written. REQUIRES: mu is held.
func (m *Meter) due() {
	if m.timer == nil && !m.closed {
		m.pending.Add(1)
		m.timer = time.AfterFunc(Every, m.checkpoint)
	}
}

// checkpoint writes what has changed, and comes again while something runs.
func (m *Meter) checkpoint() {
	defer m.pending.Done()
	ok := m.write()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.timer = nil
	live := false
	for _, a := range m.accounts {
		l := a.levels()
		live = live || l.pods > 0 || l.gpus > 0 || l.floor > 0
	}
	if live || !ok {
		m.due()
	}
}

// Close counts up to now and writes it down.
func (m *Meter) Close() {
	m.mu.Lock()
	m.closed = true
	if m.timer != nil && m.timer.Stop() {
		m.pending.Done()
	}
	m.mu.Unlock()
	m.pending.Wait()
	m.write()
}
