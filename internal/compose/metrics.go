package compose

import (
	"github.com/prometheus/client_golang/prometheus"

	"aisle.dev/aisle/internal/category"
)

type metrics struct {
	products *prometheus.CounterVec
	duration prometheus.Histogram
	legs     *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, legs []*leg) *metrics {
	m := &metrics{
		products: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_composer_products_total",
			Help: "Products by what became of them: complete, partial, failed (answered 503), rejected (the input was at fault), abandoned (the sender hung up), overload (too many in flight).",
		}, []string{"status"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "aisle_composer_product_duration_seconds",
			Help:    "Time from a decoded product to its category, legs included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		legs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_composer_leg_requests_total",
			Help: "Products by leg and outcome: answered, skipped, failed, rejected (the leg found the input at fault).",
		}, []string{"leg", "outcome"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "aisle_composer_leg_duration_seconds",
			Help:    "Time that a leg took for a product, retries included; of legs that answered or failed.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"leg"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "aisle_composer_in_flight",
			Help: "Products that are being categorised now.",
		}),
	}
	reg.MustRegister(m.products, m.duration, m.legs, m.latency, m.inFlight)
	for _, l := range legs {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "aisle_composer_breaker_state",
			Help:        "The leg's circuit breaker: 0 closed, 1 open, 2 half open.",
			ConstLabels: prometheus.Labels{"leg": l.Name},
		}, func() float64 { return float64(l.breaker.State()) }))
	}
	return m
}

func (m *metrics) observe(r *result) {
	outcome := string(r.Outcome)
	if r.refused != nil {
		outcome = "rejected"
	}
	m.legs.WithLabelValues(r.Name, outcome).Inc()
	if r.Outcome != category.Skipped {
		m.latency.WithLabelValues(r.Name).Observe(r.LatencyMs / 1000)
	}
}
