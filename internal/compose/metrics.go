package compose

import (
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/metrics"
)

// instruments are the package's metrics; see their help texts.
type instruments struct {
	products, legs, failures, wakes, shadows, expressions, reloads metrics.Counter
	duration, latency                                              metrics.Histogram

	breakers, ready, waking metrics.Gauge // by leg: see follow
}

func newInstruments(set *metrics.Set, p *process) *instruments {
	const ns = "aisle_composer_"
	var buckets []float64 // half a millisecond to 16 seconds
	for b := 0.0005; b < 17; b *= 2 {
		buckets = append(buckets, b)
	}
	set.Gauge(ns+"in_flight", "Products that are being categorised now.").Func(func() float64 { return float64(len(p.slots)) })
	breakers := set.Gauge(ns+"breaker_state", "The circuit breaker of a leg's service: 0 closed, 1 open, 2 half open.", "leg", "variant")
	ready := set.Gauge(ns+"gpu_ready", "1 while the GPU service of a leg with variants is known to be ready.", "leg")
	waking := set.Gauge(ns+"gpu_waking", "1 while a request wakes the GPU service of a leg with variants.", "leg")
	set.Gauge("aisle_composition_file_differs", "1 while the composition file is broken, so that what runs is an older version of it.").
		Func(func() float64 { return number(p.file != nil && p.file.broken.Load() != nil) })
	if closed := p.closures; closed != nil {
		set.Gauge(ns+"closures_damaged", "1 while the file that says when services are closed cannot be read: what the last good one said still holds.").
			Func(func() float64 { return number(closed.damaged.Load()) })
	}
	return &instruments{
		breakers: breakers, ready: ready, waking: waking,
		reloads:     set.Counter("aisle_composition_reloads_total", "Changes of the composition file by what became of them: taken (it runs), refused (it is broken, and the older version goes on).", "result"),
		products:    set.Counter(ns+"products_total", "Products by what became of them: complete, partial, failed (answered 503), rejected (the input was at fault), abandoned (the sender hung up), overload (too many in flight).", "status"),
		duration:    set.Histogram(ns+"product_duration_seconds", "Time from a decoded product to its category, legs included.", buckets),
		legs:        set.Counter(ns+"leg_requests_total", "Products by leg, variant (gpu or cpu; empty: the leg has one service), why the CPU one stood in for the GPU one (waking, closed, failed) and outcome: answered, skipped, closed, failed, rejected (the leg found the input at fault).", "leg", "variant", "stand_in", "outcome"),
		failures:    set.Counter(ns+"leg_failures_total", "Products by leg and how it failed: timeout, unreachable, refused, badAnswer, circuitOpen, overloaded, internal.", "leg", "failure"),
		shadows:     set.Counter(ns+"shadow_answers_total", "Products by shadow leg, and whether it gave the likeliest label of the answer (yes, no, or unanswered), whenever it came.", "leg", "agrees"),
		expressions: set.Counter(ns+"expression_errors_total", "Gates of legs and conditions of rules that could not be told: the leg was asked, the rule did not apply.", "of", "name"),
		latency:     set.Histogram(ns+"leg_duration_seconds", "Time that a leg took for a product, retries included; of legs that answered or failed.", buckets, "leg", "variant"),
		wakes:       set.Counter(ns+"gpu_wakes_total", "Requests that woke the GPU service of a leg, or tried to, by what became of them: answered, skipped, closed, failed, given up (it could not be kept beyond its product).", "leg", "outcome"),
	}
}

// follow has the gauges show the legs now, and no more those of before.
func (m *instruments) follow(now, before []*leg) {
	for _, l := range before {
		for _, s := range l.services() {
			m.breakers.Remove(l.Name, string(s.variant))
		}
		m.ready.Remove(l.Name)
		m.waking.Remove(l.Name)
	}
	for _, l := range now {
		for _, s := range l.services() {
			m.breakers.Func(func() float64 { return float64(s.breaker.State()) }, l.Name, string(s.variant))
		}
		if l.cpu != nil {
			m.ready.Func(func() float64 { now, _ := l.state(); return number(now) }, l.Name)
			m.waking.Func(func() float64 { _, now := l.state(); return number(now) }, l.Name)
		}
	}
}

func (m *instruments) observe(r *result) {
	outcome := string(r.Outcome)
	if r.refused != nil {
		outcome = "rejected"
	}
	m.legs.Inc(r.Name, string(r.Variant), string(r.StandIn), outcome)
	if r.Outcome == category.LegFailed {
		m.failures.Inc(r.Name, string(r.Failure))
	}
	if r.Outcome == category.Answered || r.Outcome == category.LegFailed {
		m.latency.Observe(r.LatencyMs/1000, r.Name, string(r.Variant))
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
