package scale

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/autoscaler/scaling"
	kparesources "knative.dev/serving/pkg/reconciler/autoscaling/kpa/resources"
	asresources "knative.dev/serving/pkg/reconciler/autoscaling/resources"
)

// silent is what Knative's scaler logs to: what it would say is in Why.
var silent = zap.NewNop().Sugar()

// Decider decides for one revision. It is not safe for concurrent use: its
// owner records and asks under one lock, with a time that does not go back.
type Decider struct {
	scaler scaling.UniScaler
	load   *load
	ready  readyPods

	// The same revision with and without a route to it: Knative's scaler takes
	// the difference as a new spec.
	reachable, unreachable variant
	lost                   bool    // the scaler has the unreachable spec
	bounds                 *Bounds // from outside; nil: its own hold

	state   state
	began   time.Time // first time that anything was recorded or asked
	applied int       // pods wanted last
}

// variant is what follows from whether the revision can be reached.
type variant struct {
	spec   *scaling.DeciderSpec
	policy policy
}

// New gives the decider of a revision. It refuses annotations that are not
// valid under cfg, and autoscaler classes other than Knative's own.
func New(rev Revision, cfg *Config) (*Decider, error) {
	name := rev.Namespace + "/" + rev.Name
	if err := autoscaling.ValidateAnnotations(context.Background(), &cfg.autoscaler, rev.Annotations); err != nil {
		return nil, fmt.Errorf("scale revision %s: annotations: %w", name, err)
	}
	if rev.ContainerConcurrency < 0 {
		return nil, fmt.Errorf("scale revision %s: containerConcurrency is %d; it must not be negative", name, rev.ContainerConcurrency)
	}
	pa := podAutoscaler(rev, v1alpha1.ReachabilityReachable, cfg)
	if class := pa.Class(); class != autoscaling.KPA {
		return nil, fmt.Errorf("scale revision %s: autoscaler class %q does not work here; use %s", name, class, autoscaling.KPA)
	}
	d := &Decider{reachable: newVariant(pa, cfg)}
	d.unreachable = newVariant(podAutoscaler(rev, v1alpha1.ReachabilityUnreachable, cfg), cfg)
	if floor, limit := d.reachable.policy.floor, d.reachable.policy.limit; limit > 0 && floor > limit {
		// One from the annotation, the other from the ConfigMap: Knative's
		// validation does not compare these.
		return nil, fmt.Errorf("scale revision %s: min-scale %d is above max-scale %d", name, floor, limit)
	}
	windows := asresources.MakeMetric(pa, "", &cfg.autoscaler).Spec
	_, algorithm, _ := autoscaling.MetricAggregationAlgorithmAnnotation.Get(rev.Annotations)
	d.load = newLoad(pa.Metric(), windows.StableWindow, windows.PanicWindow, algorithm)
	d.scaler = scaling.New(attribute.NewSet(), noop.NewMeterProvider(), rev.Namespace, rev.Name, d.load, &d.ready, d.reachable.spec)
	d.state.initialised = rev.Initialised
	if rev.Initialised {
		d.state.activity = inactive
	} else {
		d.beginAnew()
	}
	return d, nil
}

func podAutoscaler(rev Revision, reach v1alpha1.ReachabilityType, cfg *Config) *v1alpha1.PodAutoscaler {
	pa := &v1alpha1.PodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: rev.Namespace, Name: rev.Name, Annotations: maps.Clone(rev.Annotations)},
		Spec:       v1alpha1.PodAutoscalerSpec{ContainerConcurrency: rev.ContainerConcurrency, Reachability: reach},
	}
	if pa.Annotations == nil {
		pa.Annotations = make(map[string]string, 2)
	}
	if _, ok := pa.Annotations[autoscaling.ClassAnnotationKey]; !ok {
		pa.Annotations[autoscaling.ClassAnnotationKey] = cfg.autoscaler.PodAutoscalerClass
	}
	pa.SetDefaults(context.Background())
	return pa
}

func newVariant(pa *v1alpha1.PodAutoscaler, cfg *Config) variant {
	spec := &kparesources.MakeDecider(pa, &cfg.autoscaler).Spec
	spec.TargetBurstCapacity = -1
	floor, limit := pa.ScaleBounds(&cfg.autoscaler)
	p := policy{
		floor:       int(floor),
		limit:       int(limit),
		initial:     int(spec.InitialScale),
		activation:  int(spec.ActivationScale),
		reachable:   spec.Reachable,
		toZero:      cfg.autoscaler.EnableScaleToZero,
		window:      spec.StableWindow,
		grace:       cfg.autoscaler.ScaleToZeroGracePeriod,
		retention:   cfg.autoscaler.ScaleToZeroPodRetentionPeriod,
		giveUpAfter: progressDeadline + activationBuffer,
	}
	if d, ok := pa.ScaleToZeroPodRetention(); ok {
		p.retention = d
	}
	if d, ok := pa.ProgressDeadline(); ok {
		p.giveUpAfter = d + activationBuffer
	}
	return variant{spec: spec, policy: p}
}

// beginAnew is how a revision begins that has still to have its initial scale.
func (d *Decider) beginAnew() {
	p := d.policy(&d.reachable)
	d.state, d.began = state{}, time.Time{}
	d.applied = p.clamp(p.initial)
}

func (d *Decider) policy(v *variant) policy { return v.policy.within(d.bounds) }

// Bound sets bounds in the place of the revision's own; nil ends that. The next
// decision keeps them.
func (d *Decider) Bound(b *Bounds) {
	closed := d.bounds != nil && d.bounds.Closed
	d.bounds = b
	if closed && !(b != nil && b.Closed) && !d.state.initialised {
		d.beginAnew() // or nothing would ask for the pods that it was to begin with
	}
}

// MinScale and MaxScale are the bounds that hold while the revision can be
// reached; a MaxScale of 0 is none.
func (d *Decider) MinScale() int { return d.policy(&d.reachable).floor }

// MaxScale is described at MinScale.
func (d *Decider) MaxScale() int { return d.policy(&d.reachable).limit }

// Own are the revision's own min-scale and max-scale.
func (d *Decider) Own() (minScale, maxScale int) {
	return d.reachable.policy.floor, d.reachable.policy.limit
}

// defaultConcurrency is Knative's container-concurrency-target-default.
const defaultConcurrency = 100

// Capacity is how many requests a pod takes at once where requests at once are
// what it is scaled on, else what Knative takes for a pod that says nothing.
func (d *Decider) Capacity() int {
	if d.load.rps {
		return defaultConcurrency
	}
	return max(1, int(d.reachable.spec.TotalValue))
}

// Record says what the revision's load was in the second that ends now: the
// average number of requests in it, waiting ones included, and how many
// arrived. Call it once a second while there are pods or waiting requests, also
// when both are 0; seconds without a call count as 0. Record comes before Decide,
// with the same now: a panic window may be one second long.
func (d *Decider) Record(now time.Time, concurrency, requestsPerSecond float64) {
	d.begin(now)
	d.load.record(now, concurrency, requestsPerSecond)
}

func (d *Decider) begin(now time.Time) {
	if d.began.IsZero() {
		d.began = now
		d.state.since = now
		if d.state.activity == inactive {
			d.state.since = time.Time{} // idle since before this process
		}
	}
}

// Decide gives the decision for now. Asking twice in a second is allowed; a
// request that waits while there is no pod should not wait for the tick.
func (d *Decider) Decide(now time.Time, s Snapshot) Decision {
	d.begin(now)
	v := &d.reachable
	if s.Unreachable {
		v = &d.unreachable
	}
	if d.lost != s.Unreachable {
		d.lost = s.Unreachable
		d.scaler.Update(v.spec)
	}
	woken := s.Waiting > 0 && s.Ready+s.Starting == 0 && d.applied == 0
	if woken {
		d.load.wake(now, float64(s.Waiting))
	}
	d.ready = readyPods(s.Ready)
	// The scale is always valid: our load never lacks data, since a second
	// without a record is one without requests.
	desired := int(d.scaler.Scale(silent, now).DesiredPodCount)
	out := settle(d.policy(v), d.state, input{
		now:     now,
		desired: desired,
		ready:   s.Ready,
		running: s.Ready + s.Starting,
		applied: d.applied,
		waiting: s.Waiting > 0,
		busy:    s.InFlight+s.Waiting > 0,
		proxied: now.Sub(d.began),
	})
	d.state = out.state
	d.applied = out.want
	why := out.why
	if why == "" {
		why = d.load.describe(v.spec.TargetValue)
	}
	return Decision{Want: out.want, Why: why, Initialised: d.state.initialised, NextCheck: d.nextCheck(now, s, out)}
}

func (d *Decider) nextCheck(now time.Time, s Snapshot, out outcome) time.Time {
	if out.want == 0 && s.Ready+s.Starting == 0 && s.Waiting+s.InFlight == 0 {
		return time.Time{}
	}
	next := now.Add(Tick)
	if out.wait > 0 && out.wait < Tick {
		next = now.Add(out.wait)
	}
	return next
}

// readyPods tells Knative's scaler how many pods are ready.
type readyPods int

func (p *readyPods) ReadyCount() (int, error) { return int(*p), nil }

// NotReadyCount is asked for by Knative's interface and by none of its code
// that runs here.
func (p *readyPods) NotReadyCount() (int, error) {
	return 0, errors.New("scale: the number of pods that are not ready is not kept")
}
