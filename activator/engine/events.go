package engine

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/activator/broker"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/internal/manifest"
	"aisle.dev/aisle/internal/problem"
)

// eventsName is the broker's folder in the data directory.
const eventsName = "events"

// ingressRoute is the host of Knative's broker ingress, as the table knows
// hosts. No service can have it: its name would be taken by Knative.
const ingressRoute = "broker-ingress.knative-eventing"

// events joins the broker to the engine: Brokers, Triggers and PingSources come
// from the objects, subscribers are the services here. There is no broker, and
// nothing of one in memory, before the first such object is there.
type events struct {
	engine *Engine
	broker atomic.Pointer[broker.Broker] // nil: none is open
	ran    chan struct{}                 // closed when the broker's Run has returned

	// The control's mu guards these.
	cancel  context.CancelFunc // of Run
	stopped bool               // no broker is opened any more
}

// eventResources are the broker's.
var eventResources = []objects.Resource{objects.Brokers, objects.Triggers, objects.PingSources}

func isEvent(key objects.Key) bool {
	for _, r := range eventResources {
		if r.GroupVersionResource == key.GroupVersionResource {
			return true
		}
	}
	return false
}

// admitEvent gives a Broker, Trigger or PingSource with its defaults, and what
// is to be known of it. One that cannot be honoured is a [*manifest.Invalid].
func admitEvent(raw *unstructured.Unstructured) (*unstructured.Unstructured, []manifest.Ignored, error) {
	object := fmt.Sprintf("%s %s/%s", raw.GetKind(), raw.GetNamespace(), raw.GetName())
	typed, findings := broker.Parse(raw)
	invalid, ignored := new(manifest.Invalid), []manifest.Ignored(nil)
	for _, f := range findings {
		if f.Refused {
			invalid.Problems = append(invalid.Problems, manifest.Problem{Object: object, Path: f.Path, Reason: f.Reason})
		} else {
			ignored = append(ignored, manifest.Ignored{Object: object, Path: f.Path, Reason: f.Reason})
		}
	}
	if typed == nil {
		return nil, nil, invalid
	}
	made, err := untyped(typed, raw)
	return made, ignored, err
}

// untyped is an event object as it is kept.
func untyped(typed broker.Object, raw *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return nil, fmt.Errorf("keep %s %s/%s: %w", raw.GetKind(), raw.GetNamespace(), raw.GetName(), err)
	}
	made := &unstructured.Unstructured{Object: content}
	made.SetGroupVersionKind(raw.GroupVersionKind())
	return made, nil
}

// kept gives the event objects as the broker knows them, and as they are kept.
func (v *events) kept(store *objects.Store) (typed []broker.Object, raw []*unstructured.Unstructured) {
	for _, r := range eventResources {
		for _, o := range list[*unstructured.Unstructured](store, r) {
			t, findings := broker.Parse(o)
			if t == nil {
				v.engine.log.Error("an object is left out: this engine cannot honour it", "object", objects.KeyOf(o).String(), "why", findings)
				continue
			}
			typed, raw = append(typed, t), append(raw, o)
		}
	}
	return typed, raw
}

// apply tells the broker of all objects, and shows their status. The broker is
// opened for the first of them. REQUIRES: the control's mu is held.
func (v *events) apply(ctx context.Context, store *objects.Store) error {
	typed, raw := v.kept(store)
	b := v.broker.Load()
	if v.stopped || b == nil && len(typed) == 0 {
		return nil
	}
	if b == nil {
		var err error
		if b, err = v.open(ctx); err != nil {
			return err
		}
	}
	if err := b.Apply(ctx, typed); err != nil {
		return err
	}
	return v.show(store, typed, raw)
}

// tell shows the status of event objects where something else has changed it.
// REQUIRES: the control's mu is held.
func (v *events) tell(store *objects.Store) error {
	b := v.broker.Load()
	if b == nil {
		return nil
	}
	typed, raw := v.kept(store)
	b.Tell(typed)
	return v.show(store, typed, raw)
}

// told shows what the broker has to say anew.
func (v *events) told() {
	c := v.engine.control
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.stopped {
		return
	}
	if err := v.tell(c.store); err != nil {
		v.engine.log.Error("the status of Triggers is that of before", "err", err)
	}
}

func (v *events) show(store *objects.Store, typed []broker.Object, raw []*unstructured.Unstructured) error {
	var told []objects.Change
	for i, t := range typed {
		o, err := untyped(t, raw[i])
		if err != nil {
			return err
		}
		o.SetResourceVersion(raw[i].GetResourceVersion())
		keepTimes(o, raw[i])
		if !equality.Semantic.DeepEqual(o, raw[i]) {
			told = append(told, store.Put(o))
		}
	}
	store.Show(told...) // another engine finds it out anew
	return nil
}

// keepTimes gives each condition that says what it said before the time since
// when it has said so: the broker finds a status out anew each time.
func keepTimes(o, before *unstructured.Unstructured) {
	const since = "lastTransitionTime"
	now, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	was, _, _ := unstructured.NestedSlice(before.Object, "status", "conditions")
	for _, n := range now {
		n := n.(map[string]any)
		for _, w := range was {
			w := maps.Clone(w.(map[string]any))
			at := w[since]
			w[since] = n[since]
			if at != nil && equality.Semantic.DeepEqual(n, w) {
				n[since] = at
				break
			}
		}
	}
	if len(now) > 0 {
		_ = unstructured.SetNestedSlice(o.Object, now, "status", "conditions") // it was one before
	}
}

// open opens the broker and begins to run it.
func (v *events) open(ctx context.Context) (*broker.Broker, error) {
	o := v.engine.opts
	b, err := broker.Open(ctx, broker.Options{
		Dir: filepath.Join(o.DataDir, eventsName), NATS: o.NATS, SyncAlways: o.SyncAlways,
		Subscribers: v.engine.control, Transport: v.engine.inward(), Logger: v.engine.log, Registry: o.Registry,
		StatusChanged: v.told, MaxBytes: o.EventBytes, MaxAge: o.EventHistory,
	})
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(ctx)
	v.cancel, v.ran = cancel, make(chan struct{})
	go func() {
		defer close(v.ran)
		if err := b.Run(run); err != nil {
			v.engine.log.Error("events are accepted and no longer delivered; start the engine again", "err", err)
		}
	}()
	v.broker.Store(b)
	return b, nil
}

// rest ends deliveries: none begins any more, and those under way get a moment.
func (v *events) rest() {
	c := v.engine.control
	c.mu.Lock()
	v.stopped = true
	c.mu.Unlock()
	if v.broker.Load() != nil {
		v.cancel()
		<-v.ran
	}
}

func (v *events) close() error {
	if b := v.broker.Load(); b != nil {
		return b.Close()
	}
	return nil
}

// ingress accepts events for Brokers.
func (v *events) ingress(w http.ResponseWriter, req *http.Request) {
	b := v.broker.Load()
	if b == nil {
		turnAway(w, problem.New(http.StatusNotFound, "there is no Broker here; apply one first"))
		return
	}
	if tracer := v.engine.tracer; tracer != nil {
		var end func()
		req, end = tracedIngress(tracer, req)
		defer end()
	}
	b.Ingress().ServeHTTP(w, req)
}

// admin answers about events.
func (v *events) admin(w http.ResponseWriter, req *http.Request) {
	b := v.broker.Load()
	if b == nil {
		problem.Write(w, problem.New(http.StatusNotFound, "there is no Broker here, so there are no events; apply one first"))
		return
	}
	b.Admin().ServeHTTP(w, req)
}

// reconsider tells the broker that services were closed or opened.
func (v *events) reconsider() {
	if b := v.broker.Load(); b != nil {
		b.Reconsider()
	}
}

// inward reaches services of this machine by the names that they have here and
// in a cluster, and everything else as usual.
func (e *Engine) inward() http.RoundTripper {
	dial := (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	inward := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if routed(address) != "" || bareHost(address) == ownHost {
				address = e.version.Address
			}
			return dial(ctx, network, address)
		},
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true,
	}
	if e.tracer != nil {
		return &tracedTransport{inward, e.tracer}
	}
	return inward
}

var _ broker.Subscribers = (*control)(nil)

// Places implements [broker.Subscribers]: as many deliveries as the pods that
// are ready take at once, and one for a service that has none, to wake it.
func (c *control) Places(host string) int {
	t := (*c.routes.Load())[routed(host)]
	if t == nil {
		return 0
	}
	places := 0
	for _, r := range t.revisions {
		places += r.places()
	}
	return max(1, places)
}

// Waiting implements [broker.Subscribers]: what waits in the store counts as
// load, so that pods are there for it.
func (c *control) Waiting(host string, events int) {
	t := (*c.routes.Load())[routed(host)]
	if t == nil {
		return
	}
	for i, r := range t.revisions {
		// As many as could wait here; the rest is in the store.
		r.backlog.Store(int64(min(events, queueDepth) * t.shares[i].Percent / 100))
	}
}

// Closed implements [broker.Subscribers].
func (c *control) Closed(host string) (until time.Time, closed bool) {
	t := (*c.routes.Load())[routed(host)]
	if t == nil {
		return time.Time{}, false
	}
	shut := t.door.Load()
	if shut == nil {
		return time.Time{}, false
	}
	return shut.opens, true
}

// Exists implements [broker.Subscribers].
func (c *control) Exists(service types.NamespacedName) bool {
	return c.store.Get(objects.Services.Key(service.Namespace, service.Name)) != nil
}

// places is how many requests the pods that are ready take at once.
func (r *revision) places() int {
	each := int(r.spec.ContainerConcurrency)
	if each == 0 {
		each = r.capacity
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return each * r.count().Ready
}
