package classify

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aisle.dev/aisle/internal/model"
)

// metrics are the package's; see the Help texts.
type metrics struct {
	requests  *prometheus.CounterVec
	duration  prometheus.Histogram
	batch     prometheus.Histogram
	inference prometheus.Histogram
	dropped   prometheus.Counter
	model     *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, c *Classifier) *metrics {
	const ns = "aisle_classifier_"
	fast := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
	m := &metrics{
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: ns + "requests_total", Help: "Requests by status code (499: the caller went away)."}, []string{"code"}),
		duration:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: ns + "request_duration_seconds", Help: "From a request's header to its answer.", Buckets: fast}),
		batch:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: ns + "batch_size", Help: "Products run together.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128}}),
		inference: prometheus.NewHistogram(prometheus.HistogramOpts{Name: ns + "inference_seconds", Help: "One run of the graph, for a whole batch.", Buckets: fast}),
		dropped:   prometheus.NewCounter(prometheus.CounterOpts{Name: ns + "dropped_total", Help: "Queued requests whose caller had gone when their batch was formed."}),
		model:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: ns + "model_info", Help: "1 for the model that is served."}, []string{"name", "version", "digest", "device"}),
	}
	inside := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: ns + "requests_inside", Help: "Requests admitted and not answered yet."}, func() float64 { return float64(len(c.admitted)) })
	queue := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: ns + "queue_length", Help: "Preprocessed requests that wait for a worker."}, func() float64 { return float64(len(c.queue)) })
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.batch, m.inference, m.dropped, m.model, inside, queue)
	}
	return m
}

func (m *metrics) info(p *model.Package, device string) {
	m.model.WithLabelValues(p.Spec.Name, p.Spec.Version, p.Digest, device).Set(1)
}

func (m *metrics) answered(code int, took time.Duration) {
	m.requests.WithLabelValues(strconv.Itoa(code)).Inc()
	m.duration.Observe(took.Seconds())
}
