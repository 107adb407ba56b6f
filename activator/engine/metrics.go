package engine

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the engine counts. Where Knative has a metric of the same
// meaning it has its name here too, as OpenTelemetry's names are written for
// Prometheus (kn.revision.pods.desired: kn_revision_pods_desired). Gauges are
// read off the revisions when they are asked for, by gauges.
type metrics struct {
	duration *prometheus.HistogramVec
	wake     *prometheus.HistogramVec
	start    *prometheus.HistogramVec
	crashes  *prometheus.CounterVec
}

// ofRevision are the labels that Knative gives what it counts of a revision.
var ofRevision = []string{"k8s_namespace_name", "kn_service_name", "kn_configuration_name", "kn_revision_name"}

// startBuckets resolve starts from a few milliseconds to those of large models.
var startBuckets = []float64{.001, .0025, .005, .01, .02, .03, .04, .05, .075, .1, .15, .2, .3, .5, 1, 2, 5, 10, 30, 60, 300}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kn_serving_invocation_duration_seconds",
			// Knative's, with finer ones for what takes less than its 5 ms.
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10},
			Help:    "From a request's arrival to the end of its answer, waiting included, by status code; 499: the caller went away.",
		}, append([]string{"http_response_status_code"}, ofRevision...)),
		wake: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aisle_engine_wake_seconds", Buckets: startBuckets,
			Help: "How long requests waited that had to wait for a pod to start.",
		}, ofRevision),
		start: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aisle_engine_cold_start_seconds", Buckets: startBuckets,
			Help: "The phases of pods' starts, one after the other: queued (the request that woke it, until it was decided to start a pod), decided, launched, then what the pod itself tells of (exec, runtime, model, warmup), ready (the rest until its first passed readiness probe), first (its first answer); total: from decided to ready.",
		}, append([]string{"phase"}, ofRevision...)),
		crashes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_engine_pod_crashes_total",
			Help: "Pods that ended unasked or did not get ready in time.",
		}, ofRevision),
	}
	for _, c := range []prometheus.Collector{m.duration, m.wake, m.start, m.crashes} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// forget ends the series of a revision that is no more: how many there have
// been is not bounded.
func (m *metrics) forget(namespace, revision string) {
	gone := prometheus.Labels{"k8s_namespace_name": namespace, "kn_revision_name": revision}
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.duration, m.wake, m.start, m.crashes} {
		v.DeletePartialMatch(gone)
	}
}

// revisionMetrics are one revision's, looked up once.
type revisionMetrics struct {
	duration prometheus.ObserverVec
	byCode   sync.Map // int → prometheus.Observer
	wake     prometheus.Observer
	start    prometheus.ObserverVec
	crashes  prometheus.Counter
}

func (m *metrics) of(namespace, service, revision string) *revisionMetrics {
	l := prometheus.Labels{}
	for i, v := range []string{namespace, service, service, revision} {
		l[ofRevision[i]] = v
	}
	return &revisionMetrics{
		duration: m.duration.MustCurryWith(l),
		wake:     m.wake.With(l),
		start:    m.start.MustCurryWith(l),
		crashes:  m.crashes.With(l),
	}
}

func (m *revisionMetrics) answered(code int, took time.Duration) {
	o, ok := m.byCode.Load(code)
	if !ok {
		o, _ = m.byCode.LoadOrStore(code, m.duration.WithLabelValues(strconv.Itoa(code)))
	}
	o.(prometheus.Observer).Observe(took.Seconds())
}

func (m *revisionMetrics) phase(name string, took time.Duration) {
	m.start.WithLabelValues(name).Observe(took.Seconds())
}

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, ofRevision, nil)
}

var (
	descDesired     = describe("kn_revision_pods_desired", "Pods that the autoscaler wants.")
	descReady       = describe("kn_revision_pods_count", "Pods that are ready.")
	descPending     = describe("kn_revision_pods_pending_count", "Pods that are starting, or wait for what they need.")
	descTerminating = describe("kn_revision_pods_terminating_count", "Pods that drain or end.")
	descQueued      = describe("kn_revision_request_queued", "Requests that no pod has yet.")
	descActive      = describe("kn_revision_request_active", "Requests that pods are answering.")
)

// gauges is the [prometheus.Collector] of how the revisions stand.
type gauges struct{ *control }

func (gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descDesired, descReady, descPending, descTerminating, descQueued, descActive} {
		ch <- d
	}
}

func (g gauges) Collect(ch chan<- prometheus.Metric) {
	for _, r := range g.running() {
		v := r.view()
		gauge := func(d *prometheus.Desc, n int) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), v.Namespace, v.Service, v.Service, v.Name)
		}
		gauge(descDesired, v.Want)
		gauge(descReady, v.Ready)
		gauge(descPending, v.Starting)
		gauge(descTerminating, v.Draining)
		gauge(descQueued, v.Waiting)
		gauge(descActive, int(v.Concurrency)-v.Waiting)
	}
}
