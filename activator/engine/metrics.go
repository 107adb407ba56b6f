package engine

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the engine's counters. Gauges are read off the revisions when
// they are asked for, by gauges.
type metrics struct {
	requests *prometheus.CounterVec
	wake     *prometheus.HistogramVec
	ready    *prometheus.HistogramVec
	crashes  *prometheus.CounterVec
}

// startBuckets resolve starts from a few milliseconds to those of large models.
var startBuckets = []float64{.005, .01, .02, .03, .04, .05, .075, .1, .15, .2, .3, .5, 1, 2, 5, 10, 30, 60, 300}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_engine_requests_total",
			Help: "Requests answered, by service and status code; 499: the caller went away.",
		}, []string{"service", "code"}),
		wake: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aisle_engine_wake_seconds", Buckets: startBuckets,
			Help: "How long requests waited that had to wait for a pod to start.",
		}, []string{"service"}),
		ready: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aisle_engine_pod_ready_seconds", Buckets: startBuckets,
			Help: "From a pod's start to its first passed readiness probe.",
		}, []string{"service"}),
		crashes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_engine_pod_crashes_total",
			Help: "Pods that ended unasked or did not get ready in time.",
		}, []string{"service"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.wake, m.ready, m.crashes} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// serviceMetrics are one service's, looked up once.
type serviceMetrics struct {
	requests *prometheus.CounterVec
	byCode   sync.Map // int → prometheus.Counter
	wake     prometheus.Observer
	ready    prometheus.Observer
	crashes  prometheus.Counter
}

func (m *metrics) of(service string) *serviceMetrics {
	label := prometheus.Labels{"service": service}
	return &serviceMetrics{
		requests: m.requests.MustCurryWith(label),
		wake:     m.wake.With(label),
		ready:    m.ready.With(label),
		crashes:  m.crashes.With(label),
	}
}

func (m *serviceMetrics) answered(code int) {
	c, ok := m.byCode.Load(code)
	if !ok {
		c, _ = m.byCode.LoadOrStore(code, m.requests.WithLabelValues(strconv.Itoa(code)))
	}
	c.(prometheus.Counter).Inc()
}

var (
	descPods    = prometheus.NewDesc("aisle_engine_pods", "Pods by phase.", []string{"service", "revision", "phase"}, nil)
	descWanted  = prometheus.NewDesc("aisle_engine_pods_wanted", "Pods that the autoscaler wants.", []string{"service", "revision"}, nil)
	descWaiting = prometheus.NewDesc("aisle_engine_requests_waiting", "Requests that no pod has yet.", []string{"service", "revision"}, nil)
	descHeld    = prometheus.NewDesc("aisle_engine_requests_in_flight", "Requests that pods are answering.", []string{"service", "revision"}, nil)
)

// gauges is the [prometheus.Collector] of how the revisions stand.
type gauges struct{ *control }

func (gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPods, descWanted, descWaiting, descHeld} {
		ch <- d
	}
}

func (g gauges) Collect(ch chan<- prometheus.Metric) {
	for _, r := range g.running() {
		v := r.view()
		gauge := func(d *prometheus.Desc, n int, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), append([]string{r.service, v.Name}, labels...)...)
		}
		gauge(descPods, v.Starting, phaseStarting)
		gauge(descPods, v.Ready, phaseReady)
		gauge(descPods, v.Draining, phaseDraining)
		gauge(descWanted, v.Want)
		gauge(descWaiting, v.Waiting)
		gauge(descHeld, int(v.Concurrency)-v.Waiting)
	}
}
