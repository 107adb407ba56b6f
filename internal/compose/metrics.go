package compose

import (
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/metrics"
)

// instruments are the package's metrics; see their help texts.
type instruments struct {
	products, legs    metrics.Counter
	duration, latency metrics.Histogram
}

func newInstruments(set *metrics.Set, c *Composer) *instruments {
	const ns = "aisle_composer_"
	var buckets []float64 // half a millisecond to 16 seconds
	for b := 0.0005; b < 17; b *= 2 {
		buckets = append(buckets, b)
	}
	set.Gauge(ns+"in_flight", "Products that are being categorised now.").Func(func() float64 { return float64(len(c.slots)) })
	breakers := set.Gauge(ns+"breaker_state", "The leg's circuit breaker: 0 closed, 1 open, 2 half open.", "leg")
	for _, l := range c.legs {
		breakers.Func(func() float64 { return float64(l.breaker.State()) }, l.Name)
	}
	return &instruments{
		products: set.Counter(ns+"products_total", "Products by what became of them: complete, partial, failed (answered 503), rejected (the input was at fault), abandoned (the sender hung up), overload (too many in flight).", "status"),
		duration: set.Histogram(ns+"product_duration_seconds", "Time from a decoded product to its category, legs included.", buckets),
		legs:     set.Counter(ns+"leg_requests_total", "Products by leg and outcome: answered, skipped, failed, rejected (the leg found the input at fault).", "leg", "outcome"),
		latency:  set.Histogram(ns+"leg_duration_seconds", "Time that a leg took for a product, retries included; of legs that answered or failed.", buckets, "leg"),
	}
}

func (m *instruments) observe(r *result) {
	outcome := string(r.Outcome)
	if r.refused != nil {
		outcome = "rejected"
	}
	m.legs.Inc(r.Name, outcome)
	if r.Outcome != category.Skipped {
		m.latency.Observe(r.LatencyMs/1000, r.Name)
	}
}
