package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"aisle.dev/aisle/activator/broker/deferral"
	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/activator/schedule/lead"
	"aisle.dev/aisle/internal/scaling"
)

// figures are what was measured of a pod.
type figures struct {
	serve      time.Duration // one product takes a pod, which does one at a time
	cold       time.Duration // from the decision to start a pod to ready: the median
	coldSpread float64       // of its logarithm: 0 is none
	woken      float64       // share of the products that a gate lets through
	seed       uint64
}

// mode is how a trace's service is scaled.
type mode struct {
	name     string
	minScale int
	maxScale int
	schedule *scaling.Spec
	deferBy  map[string]string
}

// outcome is what came of a trace in a mode.
type outcome struct {
	podSeconds    float64 // that pods were there; each has one GPU
	started, peak int
	answered      int
	spared        int // of these, by a gate: without a pod
	lost          int
	requests      []time.Duration // what those waited for whom somebody waited, until a pod began with them
	events        []time.Duration
}

// Bounds of the service, as manifests/base/photo.yaml has them, and of the
// engine.
const (
	maxScale    = 4
	target      = "8"
	concurrency = 16
	queueDepth  = 1000 // requests that wait, beyond which they are refused; events wait in their Broker
)

// simulation is a service on virtual time. Pods answer one product at a time, in
// the order in which they were let in: as many as their containerConcurrency,
// requests that wait at the proxy before events that wait in the store.
type simulation struct {
	figures
	all     []arrival
	end     time.Time
	decider *scale.Decider
	noSkip  bool // for a test: every second is decided on

	schedules []*schedule.Schedule
	base      schedule.Base
	floor     int       // that holds
	bounded   time.Time // when the bounds change next; zero: never
	leads     lead.Book
	starts    *rand.Rand
	policy    *deferral.Policy // nil: nothing is held back
	held      []arrival        // behind the gate
	heldNow   deferral.Snapshot
	gateOpen  bool
	release   time.Time // zero: nothing is held
	pods      []*pod
	requests  []arrival // that wait at the proxy
	stored    []arrival // events that wait in the store, to be delivered
	let       []arrival // in pods, and not begun
	loaded    int       // events that are stored, let in or begun
	now       time.Time
	integral  float64 // product-seconds since recorded
	recorded  time.Time
	check     time.Time // zero: at rest
	want      int
	lastBusy  time.Time
	out       outcome
}

type pod struct {
	began, ready time.Time
	busy         bool
	event        bool      // what it is busy with
	free         time.Time // while busy
	draining     bool
}

const window = time.Minute // Knative's stable window

// simulate runs a trace in a mode.
func simulate(f figures, all []arrival, begin time.Time, m mode) (*outcome, error) {
	s, err := newSimulation(f, all, begin, m)
	if err != nil {
		return nil, err
	}
	s.run()
	return &s.out, nil
}

func newSimulation(f figures, all []arrival, begin time.Time, m mode) (*simulation, error) {
	config, err := scale.ParseConfig(nil)
	if err != nil {
		return nil, err
	}
	annotations := map[string]string{
		"autoscaling.knative.dev/target": target, "autoscaling.knative.dev/target-utilization-percentage": "100",
		"autoscaling.knative.dev/max-scale": fmt.Sprint(m.maxScale), "autoscaling.knative.dev/min-scale": fmt.Sprint(m.minScale),
	}
	s := &simulation{
		figures: f, all: all, end: begin.AddDate(0, 0, days), now: begin,
		base: schedule.Base{Min: m.minScale, Max: m.maxScale}, floor: m.minScale,
		starts: rand.New(rand.NewPCG(f.seed, 2)), check: begin, recorded: begin, lastBusy: begin,
	}
	s.decider, err = scale.New(scale.Revision{Namespace: "default", Name: "photo-00001", Annotations: annotations, ContainerConcurrency: concurrency, Initialised: true}, config)
	if err != nil {
		return nil, err
	}
	if m.schedule != nil {
		compiled, err := schedule.Compile("replay", m.schedule)
		if err != nil {
			return nil, err
		}
		s.schedules, s.bounded = []*schedule.Schedule{compiled}, begin
	}
	if s.policy, err = deferral.Parse(m.deferBy); err != nil {
		return nil, err
	}
	return s, nil
}

// run goes from moment to moment until the days are over and all is answered.
func (s *simulation) run() {
	for {
		next := s.next()
		if next.IsZero() || !next.Before(s.end) && s.over() {
			break
		}
		s.pass(next)
		s.step()
	}
	if s.now.Before(s.end) {
		s.pass(s.end)
	}
	for _, p := range s.pods {
		s.out.podSeconds += s.now.Sub(p.began).Seconds()
	}
}

// over is whether all is answered and, but for floors, no pod is left.
func (s *simulation) over() bool {
	return len(s.all)+len(s.held)+s.inSystem() == 0 && (len(s.pods) == 0 || s.floor > 0)
}

// inSystem counts products that wait or are in a pod.
func (s *simulation) inSystem() int { return len(s.requests) + len(s.stored) + s.inPods() }

func (s *simulation) inPods() int {
	n := len(s.let)
	for _, p := range s.pods {
		if p.busy {
			n++
		}
	}
	return n
}

// load is what the decider is told of what is in the system: of the store no
// more than could wait at the proxy.
func (s *simulation) load() int {
	return len(s.requests) + min(len(s.stored), queueDepth) + s.inPods()
}

// next is when something happens next; zero: never.
func (s *simulation) next() (at time.Time) {
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if len(s.all) > 0 {
		earlier(s.all[0].at)
	}
	earlier(s.bounded)
	earlier(s.release)
	settled := s.inSystem() == 0 && s.want == s.floor && len(s.pods) == s.want && s.now.Sub(s.lastBusy) > 2*window
	for _, p := range s.pods {
		switch {
		case p.ready.After(s.now):
			earlier(p.ready)
			settled = false
		case p.busy:
			earlier(p.free)
		}
	}
	// A floor's pods without a request for so long: no second changes anything.
	if !settled || s.noSkip {
		earlier(s.check)
	}
	return at
}

// pass lets time go by in which nothing happens.
func (s *simulation) pass(to time.Time) {
	if to.After(s.now) {
		s.integral += float64(s.load()) * to.Sub(s.now).Seconds()
		s.now = to
	}
}

// step does all that is due now.
func (s *simulation) step() {
	decide, learned := !s.check.IsZero() && !s.check.After(s.now), false
	for _, p := range s.pods {
		if p.busy && !p.free.After(s.now) {
			p.busy = false
			s.out.answered++
			if p.event {
				s.loaded--
			}
		}
		if p.ready.Equal(s.now) {
			s.leads.Observe("photo", "photo-00001", p.ready.Sub(p.began), s.now)
			learned = true
		}
	}
	if s.schedules != nil && (learned || !s.bounded.IsZero() && !s.bounded.After(s.now)) {
		s.bound()
		decide = true
	}
	decide = s.reap() || learned || decide
	for len(s.all) > 0 && !s.all[0].at.After(s.now) {
		s.arrive(s.all[0])
		s.all = s.all[1:]
	}
	s.gate()
	s.assign()
	if s.inSystem() > s.inPods() && s.alive() == 0 {
		decide = true
	}
	if decide {
		s.decide()
	}
	if s.inSystem() > 0 {
		s.lastBusy = s.now
	}
}

func (s *simulation) arrive(a arrival) {
	switch {
	case a.event && s.policy != nil && !s.gateOpen:
		s.held = append(s.held, a)
		s.heldNow.Add(a.at, time.Time{})
	case a.event:
		s.stored = append(s.stored, a)
		s.loaded++
	case len(s.requests) >= queueDepth:
		s.out.lost++
	default:
		s.requests = append(s.requests, a)
	}
}

// gate holds events back or lets them go, as the broker does.
func (s *simulation) gate() {
	if s.policy == nil {
		return
	}
	if s.gateOpen && s.loaded == 0 {
		s.gateOpen = false
	}
	if s.gateOpen {
		return
	}
	d := s.policy.Decide(s.now, s.heldNow)
	s.release = d.Next
	if d.Release {
		s.gateOpen, s.release = true, time.Time{}
		s.stored, s.loaded = append(s.stored, s.held...), len(s.held)
		s.held, s.heldNow = nil, deferral.Snapshot{}
	}
}

// assign lets products into ready pods, and free pods begin with one.
func (s *simulation) assign() {
	ready := 0
	for _, p := range s.pods {
		if !p.draining && !p.ready.After(s.now) {
			ready++
		}
	}
	for from := s.first(); from != nil && s.inPods() < ready*concurrency; from = s.first() {
		s.let = append(s.let, (*from)[0])
		*from = (*from)[1:]
	}
	for _, p := range s.pods {
		if len(s.let) == 0 {
			return
		}
		if p.busy || p.draining || p.ready.After(s.now) {
			continue
		}
		a := s.let[0]
		s.let = s.let[1:]
		p.busy, p.event, p.free = true, a.event, s.now.Add(s.serve)
		if a.event {
			s.out.events = append(s.out.events, s.now.Sub(a.at))
		} else {
			s.out.requests = append(s.out.requests, s.now.Sub(a.at))
		}
	}
}

// first is where the product waits that is let in next.
func (s *simulation) first() *[]arrival {
	switch {
	case len(s.requests) > 0:
		return &s.requests
	case len(s.stored) > 0:
		return &s.stored
	}
	return nil
}

// bound sets what the schedules say now.
func (s *simulation) bound() {
	learned, sample := s.leads.P95("photo", "photo-00001", s.now)
	ahead, _ := schedule.Lead(learned, sample, s.schedules, s.now)
	b, next := schedule.At(s.base, ahead, s.schedules, s.now)
	s.decider.Bound(&scale.Bounds{Floor: b.Floor, Cap: b.Cap, By: "schedule"})
	s.floor, s.bounded = b.Floor, next
}

func (s *simulation) alive() (n int) {
	for _, p := range s.pods {
		if !p.draining {
			n++
		}
	}
	return n
}

// decide is what the engine does: it records each second's load and follows the
// decider.
func (s *simulation) decide() {
	if s.check.IsZero() { // from rest
		s.recorded, s.integral = s.now, 0
	}
	if past := s.now.Sub(s.recorded); past >= scale.Tick {
		s.decider.Record(s.now, s.integral/past.Seconds(), 0)
		s.recorded, s.integral = s.now, 0
	}
	snapshot := scale.Snapshot{}
	for _, p := range s.pods {
		switch {
		case p.draining:
		case p.ready.After(s.now):
			snapshot.Starting++
		default:
			snapshot.Ready++
		}
	}
	snapshot.InFlight = s.inPods()
	snapshot.Waiting = s.load() - snapshot.InFlight
	d := s.decider.Decide(s.now, snapshot)
	s.want = d.Want
	for range max(0, d.Want-s.alive()) {
		s.start()
	}
	for s.alive() > d.Want {
		s.dispensable().draining = true
	}
	s.reap()
	s.out.peak = max(s.out.peak, s.alive())
	s.check = d.NextCheck
	if tick := s.recorded.Add(scale.Tick); !s.check.IsZero() && tick.Before(s.check) {
		s.check = tick
	}
}

// start begins a pod.
func (s *simulation) start() {
	took := time.Duration(float64(s.cold) * math.Exp(s.coldSpread*s.starts.NormFloat64()))
	s.pods = append(s.pods, &pod{began: s.now, ready: s.now.Add(took)})
	s.out.started++
}

// dispensable is the pod to stop first: one that starts, then an idle one, then
// the newest.
func (s *simulation) dispensable() *pod {
	rank := func(p *pod) int {
		switch {
		case p.draining:
			return -1
		case p.ready.After(s.now):
			return 2
		case !p.busy:
			return 1
		}
		return 0
	}
	best := s.pods[0]
	for _, p := range s.pods[1:] { // oldest first
		if rank(p) >= rank(best) {
			best = p
		}
	}
	return best
}

// reap lets pods go that were told to and have nothing left to do.
func (s *simulation) reap() (some bool) {
	s.pods = slices.DeleteFunc(s.pods, func(p *pod) bool {
		gone := p.draining && !p.busy
		if gone {
			s.out.podSeconds += s.now.Sub(p.began).Seconds()
			some = true
		}
		return gone
	})
	return some
}
