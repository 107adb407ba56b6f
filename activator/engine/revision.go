package engine

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httputil"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"knative.dev/networking/pkg/http/stats"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/lane"
	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/activator/engine/slots"
	"aisle.dev/aisle/activator/engine/usage"
	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/internal/manifest"
)

// revision runs one Revision: the unit of scaling and routing. One goroutine,
// run, decides and owns its pods; requests pass through its lane without it.
type revision struct {
	name     string
	service  string             // namespace/name
	route    string             // by which the table knows the service
	object   servingv1.Revision // its metadata and spec
	spec     *manifest.Template // without what differs from pod to pod: see template
	progress time.Duration      // how long a pod may take to get ready
	control  *control
	cancel   context.CancelFunc // ends run
	machine  *pod.Machine
	gpus     *slots.Slots
	address  string        // where the engine serves
	hurry    chan struct{} // closed: kill instead of waiting
	busy     func(int)     // told +1 when the revision leaves zero, -1 when it is back there
	metrics  *revisionMetrics
	tracer   trace.Tracer // nil: nothing is traced
	log      *slog.Logger

	gate    gate
	door    *atomic.Pointer[closure] // its service's
	backlog atomic.Int64             // events that wait in the store
	// capacity is how many requests a pod takes at once as its autoscaler sees
	// it, for pods that set no bound.
	capacity int
	reverse  *httputil.ReverseProxy
	lane     *lane.Lane[*podState]
	stats    *stats.RequestStats
	used     *usage.Revision // while run runs
	wake     chan struct{}   // capacity 1: a request waits
	event    chan event      // from pods' goroutines and requests; received until run returns
	ended    chan struct{}   // closed when run has returned
	tends    sync.WaitGroup

	// control's mu guards these: see swap.go.
	tried  bool        // it has had its try to take over GPUs
	givers []*revision // that yield to it until it is proven

	// Only run's goroutine uses these.
	decider    *scale.Decider
	recorded   time.Time // when the load was recorded last; zero while at rest
	told       replicas  // what control was told last
	quarantine time.Time // no pod is started before; zero: at once

	mu       sync.Mutex // guards what follows; taken after control's mu, before the lane's and the slots'
	pods     []*podState
	gone     []string       // pods that have ended and are still shown
	reached  bool           // requests are routed to it, or it has still to be proven
	proven   bool           // it has had its initial scale
	next     *scale.Decider // takes the place of the decider; nil: nothing has changed
	bounds   *scale.Bounds  // that schedules set; nil: its own hold
	rebound  bool           // nothing has been decided by them yet
	decision scale.Decision
	since    time.Time    // when decision.Want last changed
	failures int          // pods that failed in a row
	trouble  string       // why the last pod failed; empty once one is ready
	yields   string       // the revision that it gives its GPUs to: it has no pods; empty: none
	back     *slots.Claim // for its next pod, when it has its GPUs back
}

// replicas are pods as a Revision's status counts them.
type replicas struct{ ready, want int }

// event is what happened to a pod.
type event struct {
	pod    *podState
	kind   eventKind
	reason string
}

type eventKind int

const (
	podStarted   eventKind = iota
	podPending             // there is no GPU for it yet
	podScheduled           // now there is
	podReady
	podUnready // it is ready no more; it may be again
	podEnded   // its process has gone and it left nothing
	podRefused // its port refuses connections although its process runs
)

// newRevision gives what runs a Revision, reduced to spec.
func (e *Engine) newRevision(c *control, s *service, rev *servingv1.Revision, spec *manifest.Template) (*revision, error) {
	r := &revision{
		name:     rev.Name,
		service:  spec.Namespace + "/" + spec.Service,
		route:    routeOf(spec.Namespace, spec.Service, ""),
		object:   servingv1.Revision{TypeMeta: rev.TypeMeta, ObjectMeta: rev.ObjectMeta, Spec: rev.Spec},
		spec:     spec,
		progress: progressDeadline(spec.Annotations),
		control:  c,
		machine:  e.machine,
		gpus:     e.gpus,
		address:  e.version.Address,
		hurry:    e.hurry,
		busy:     e.busy,
		metrics:  e.metrics.of(spec.Namespace, spec.Service, rev.Name),
		tracer:   e.tracer,
		stats:    stats.NewRequestStats(time.Now()),
		wake:     make(chan struct{}, 1),
		event:    make(chan event),
		ended:    make(chan struct{}),
		door:     &s.door,
		reached:  true,
		proven:   rev.IsReady(),
	}
	decider, err := scale.New(r.scaled(r.proven), c.deciders)
	if err != nil {
		return nil, err
	}
	r.decider, r.capacity = decider, decider.Capacity()
	r.log = e.log.With("service", r.service, "revision", r.name)
	r.reverse = r.newReverseProxy()
	r.lane = lane.New[*podState](int(spec.ContainerConcurrency), queueDepth, r.nudge)
	return r, nil
}

// scaled is the revision as its decider knows it.
func (r *revision) scaled(initialised bool) scale.Revision {
	return scale.Revision{
		Namespace: r.spec.Namespace, Name: r.name, Annotations: r.spec.Annotations,
		ContainerConcurrency: r.spec.ContainerConcurrency, Initialised: initialised,
	}
}

// template is the revision reduced with what it refers to as that is now: a
// pod is started from it.
func (r *revision) template() (*manifest.Template, error) {
	t, err := r.control.sources.Load().Reduce(&r.object)
	if err != nil {
		return nil, err
	}
	t.Env = here(t.Env, r.address)
	return t, nil
}

// nudge makes run decide anew.
func (r *revision) nudge() {
	select {
	case r.wake <- struct{}{}:
	default: // it has been told already
	}
}

// reach says whether requests are routed to the revision.
func (r *revision) reach(reached bool) {
	r.mu.Lock()
	changed := r.reached != reached
	r.reached = reached
	r.mu.Unlock()
	if changed && reached {
		r.lane.Accept() // requests may have been moved away from it
	}
	if changed {
		r.nudge()
	}
}

func (r *revision) isReachable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reached
}

func (r *revision) isProven() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proven
}

// retune gives the revision another decider: settings have changed.
func (r *revision) retune(d *scale.Decider) {
	r.mu.Lock()
	r.next = d
	r.mu.Unlock()
	r.nudge()
}

// run owns the revision until ctx ends, and returns when all its pods have
// gone. At zero, without a request, it does nothing at all.
func (r *revision) run(ctx context.Context) {
	defer close(r.ended)
	r.used = r.control.engine.usage.Begin(r.service, r.spec.Limits.GPUs)
	defer r.used.End()
	defer r.tends.Wait()
	next := time.NewTimer(0) // the first decision is that of the initial scale
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			r.stop()
			return
		case <-r.wake:
			if r.alive() == 0 || r.unsettled() {
				r.reset(next, r.decide(time.Now()))
			}
		case ev := <-r.event:
			r.handle(ev)
			if ev.kind == podStarted || ev.kind == podPending || ev.kind == podScheduled {
				r.show()
				continue
			}
			r.reset(next, r.decide(time.Now()))
		case <-next.C:
			r.reset(next, r.decide(time.Now()))
		}
	}
}

func (r *revision) reset(t *time.Timer, at time.Time) {
	t.Stop()
	if !at.IsZero() {
		t.Reset(max(0, time.Until(at)))
	}
}

// alive counts the pods that are starting or ready.
func (r *revision) alive() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.count()
	return v.Starting + v.Ready
}

// unsettled is whether control has changed what decisions follow from.
func (r *revision) unsettled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.reached || r.next != nil || r.rebound || r.yields != ""
}

// handle takes in what happened to a pod.
func (r *revision) handle(ev event) {
	cold := ev.pod.cold
	defer func() {
		if now := ev.pod.cold; cold == nil && now != nil {
			r.control.learned(r, now.own())
		}
	}()
	if why := r.takeIn(ev); why != nil {
		r.control.failed(r, *why)
		if why.pending {
			r.control.awaits(r)
		}
	}
}

// takeIn gives why the revision failed, if it did.
func (r *revision) takeIn(ev event) *failure {
	p := ev.pod
	r.mu.Lock()
	defer r.mu.Unlock()
	switch ev.kind {
	case podPending:
		if p.phase != phaseStarting {
			return nil // told to stop meanwhile
		}
		p.phase, p.pending = phasePending, ev.reason
		r.trouble = fmt.Sprintf("pod %s is Pending: it %s", p.name, ev.reason)
		r.log.Warn("pod pending", "pod", p.name, "reason", ev.reason)
		if !r.proven {
			return &failure{pending: true, reason: "pod " + p.name + " " + ev.reason}
		}
	case podScheduled:
		if p.phase == phasePending {
			p.phase, p.pending = phaseStarting, ""
		}
	case podReady:
		first := p.phase == phaseStarting
		if !first && p.phase != phaseUnready {
			return nil // told to stop meanwhile
		}
		p.phase = phaseReady
		if first { // once: requests that hold a place in it read it
			p.ready = time.Now()
			p.cold = newColdStart(p.created, p.process.Phases())
		}
		r.trouble = ""
		r.quarantine = time.Time{}
		r.lane.Open(p)
		if !first {
			r.log.Info("pod ready again", "pod", p.name)
			return nil
		}
		p.cold.observe(r.metrics)
		r.log.Info("pod ready", "pod", p.name, "pid", p.pid, "ms", millis(p.cold.total), "phases", p.cold)
	case podUnready:
		if p.phase != phaseReady {
			return nil
		}
		// What it has begun it may finish; nothing new is given to it.
		p.phase = phaseUnready
		r.lane.Close(p)
		r.trouble = fmt.Sprintf("pod %s %s", p.name, ev.reason)
		r.log.Warn("pod not ready", "pod", p.name, "reason", ev.reason)
	case podRefused:
		if p.phase == phaseReady {
			r.lane.Close(p)
			p.give(errRefused)
		}
	case podEnded:
		r.lane.Close(p)
		r.pods = slices.DeleteFunc(r.pods, func(q *podState) bool { return q == p })
		r.gone = append(r.gone, p.name)
		if p.phase == phaseDraining {
			if !p.ready.IsZero() {
				r.failures = 0
			}
			r.log.Info("pod stopped", "pod", p.name, "how", ev.reason)
			return nil
		}
		return r.failed(p, ev.reason, time.Now())
	}
	return nil
}

// stop drains every pod and waits for their ends.
func (r *revision) stop() {
	r.mu.Lock()
	for _, p := range r.pods {
		if p.phase != phaseDraining {
			r.drain(p, r.lane.Close(p))
		}
	}
	r.lane.Refuse(errStopping)
	r.dropBack()
	left := len(r.pods)
	r.mu.Unlock()
	r.show()
	for left > 0 {
		r.takeIn(<-r.event)
		r.mu.Lock()
		left = len(r.pods)
		r.mu.Unlock()
		r.show()
	}
	if !r.recorded.IsZero() {
		r.busy(-1)
	}
}
