package classify

import (
	"strconv"
	"time"

	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/model"
)

// instruments are the package's metrics; see their help texts.
type instruments struct {
	requests                                            metrics.Counter
	duration, queue, preprocess, inference, post, batch metrics.Histogram
	dropped, split                                      metrics.Counter
	model                                               metrics.Gauge
}

func newInstruments(set *metrics.Set, c *Classifier) *instruments {
	if set == nil {
		set = metrics.New()
	}
	const ns = "aisle_classifier_"
	fast := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
	set.Gauge(ns+"requests_inside", "Requests admitted and not answered yet; one that asks for several inferences counts as so many.").Func(func() float64 { return float64(c.slots.used.Load()) })
	set.Gauge(ns+"queue_length", "Preprocessed requests that wait for a worker.").Func(func() float64 { return float64(c.queue.len()) })
	return &instruments{
		requests:   set.Counter(ns+"requests_total", "Requests by status code (499: the caller went away) and route.", "code", "route"),
		duration:   set.Histogram(ns+"request_duration_seconds", "From a request's header to its answer, by route.", fast, "route"),
		queue:      set.Histogram(ns+"queue_seconds", "What a product or tensor waited for its batch.", fast),
		preprocess: set.Histogram(ns+"preprocess_seconds", "What making tensors of a product took.", fast),
		inference:  set.Histogram(ns+"inference_seconds", "One run of the graph, for a whole batch.", fast),
		post:       set.Histogram(ns+"postprocess_seconds", "From a product's scores to its predictions.", fast),
		batch:      set.Histogram(ns+"batch_size", "Products run together.", []float64{1, 2, 4, 8, 16, 32, 64, 128}),
		dropped:    set.Counter(ns+"dropped_total", "Queued requests whose caller had gone when their batch was formed."),
		split:      set.Counter(ns+"split_batches_total", "Batches that the graph failed on, and that were run again one by one."),
		model:      set.Gauge(ns+"model_info", "1 for the model that is served.", "device", "digest", "name", "version"),
	}
}

func (m *instruments) info(p *model.Package, device string) {
	m.model.Func(func() float64 { return 1 }, device, p.Digest, p.Spec.Name, p.Spec.Version)
}

func (m *instruments) answered(route string, code int, took time.Duration) {
	m.requests.Inc(strconv.Itoa(code), route)
	m.duration.Observe(took.Seconds(), route)
}
