// Package classify is the classifier: one model package behind HTTP,
// CloudEvents and the Open Inference Protocol, with a batcher between the
// requests and the graph.
//
// A product is preprocessed in a goroutine of its own (as many at once as
// there are cores), waits for a worker, and is run together with whatever else
// of its group waits then. A batch is what is queued, never more than the
// package's largest batch size; nobody waits for a batch to fill, unless the
// package has a maxDelay.
//
// Guarantees: requests, body bytes and queued tensors are bounded, a request
// that wants several inferences counts as so many, and what does not fit is
// refused at once with 503 and Retry-After; a caller that has gone is dropped
// before its batch is formed, and a run whose callers have all gone is
// stopped; an input that the graph fails on fails none of its batch, and one
// bad product none of its array; a label's probability is a number in [0, 1],
// and they add up to 1; every answer names the fields that the package reads.
//
// Non-goals: several models in a process, fetching, caching of answers.
package classify

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/oip"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
	"aisle.dev/aisle/internal/spans"
)

// Defaults of [Options].
const (
	DefaultQueue   = 64
	DefaultMaxBody = product.MaxBody
	DefaultTimeout = 20 * time.Second
)

// bodyBudget bounds the bodies that are held at the same time. A request
// gives its share back once it is preprocessed.
const bodyBudget = 32 << 20

// Options of [New].
type Options struct {
	Package *model.Package
	Queue   int                 // requests inside at once, waiting ones included; 0 means DefaultQueue
	MaxBody int64               // bytes of a body, decompressed; 0 means DefaultMaxBody
	Timeout time.Duration       // for one request; 0 means DefaultTimeout
	Workers int                 // batches run at once on a CPU; 0 means one a core
	Health  *serve.Health       // told when requests are wanted
	Started func() string       // called once, just before: how long the start's phases took, for Health
	OnReady func(device string) // called once, then
	Logger  *slog.Logger
	Metrics *metrics.Set    // nil: to be seen by nobody
	Spans   *spans.Exporter // nil: there are none

	// Fetch gets a picture by its URL, bounded; its errors are *problem.Error.
	// nil: pictures by URL are refused.
	Fetch func(ctx context.Context, url string) ([]byte, error)
}

// Session is what the classifier needs of onnx.Session.
type Session interface {
	Run(ctx context.Context, in, out []onnx.Tensor) error
	Keys(output int) []string
	Device() string
}

// Classifier answers requests once [Classifier.Run] runs.
type Classifier struct {
	pkg      *model.Package
	prep     *preprocess.Preprocessor // nil, like decoder: the package serves tensors only
	decoder  *decoder
	pictures bool   // are what prep reads
	reads    string // of every answer's header
	log      *slog.Logger
	health   *serve.Health
	phases   func() string
	onReady  func(string)
	get      func(context.Context, string) ([]byte, error)
	metrics  *instruments
	spans    *spans.Exporter
	oip      http.Handler
	maxBody  int64
	timeout  time.Duration
	workers  int

	slots  slots
	cores  chan struct{} // a token for each request that is preprocessed
	bodies *serve.Budget
	queue  *queue

	running chan struct{} // closed when there are workers
	device  string        // set before running is closed
}

// New returns a Classifier of the package. It answers 503 until its Run has
// got a session.
func New(o Options) (*Classifier, error) {
	spec := o.Package.Spec
	c := &Classifier{
		pkg:      o.Package,
		pictures: spec.Preprocess.Kind == model.Picture,
		reads:    strings.Join(spec.Reads, ","),
		log:      o.Logger,
		health:   o.Health,
		phases:   o.Started,
		onReady:  o.OnReady,
		get:      o.Fetch,
		spans:    o.Spans,
		maxBody:  cmp.Or(o.MaxBody, DefaultMaxBody),
		timeout:  cmp.Or(o.Timeout, DefaultTimeout),
		workers:  cmp.Or(o.Workers, runtime.GOMAXPROCS(0)),
		slots:    slots{size: int64(cmp.Or(o.Queue, DefaultQueue))},
		bodies:   serve.NewBudget(bodyBudget),
		cores:    make(chan struct{}, runtime.GOMAXPROCS(0)),
		running:  make(chan struct{}),
	}
	if c.slots.size < 1 || c.maxBody < 1 || c.maxBody > bodyBudget || c.timeout < 0 || c.workers < 1 {
		return nil, fmt.Errorf("classifier: queue %d, body %d, timeout %s, workers %d: want at least 1 of each, and a body of at most %d", c.slots.size, c.maxBody, c.timeout, c.workers, bodyBudget)
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.health == nil {
		c.health = new(serve.Health)
	}
	if spec.Preprocess.Kind != model.None {
		fetch := c.fetch
		if o.Fetch == nil {
			fetch = nil
		}
		var err error
		if c.prep, err = preprocess.New(o.Package, preprocess.Options{Fetch: fetch}); err != nil {
			return nil, err
		}
		c.decoder = newDecoder(o.Package)
	}
	c.metrics = newInstruments(o.Metrics, c)
	largest := spec.BatchSizes[len(spec.BatchSizes)-1]
	c.queue = newQueue(int(c.slots.size), largest, c.workers, time.Duration(spec.MaxDelay), func() { c.metrics.dropped.Inc() })
	c.oip = oip.Handler(c.models(), oip.Options{
		Version: serve.Version(),
		MaxBody: c.maxBody, Bodies: c.bodies, Timeout: c.timeout,
		Admit: c.admit, Answered: c.metrics.answered, Logger: c.log,
	})
	return c, nil
}

// Run warms the session, says that it is ready, and works until ctx ends.
// End ctx only after the requests have been drained: a request that is then
// still queued is not answered. The session stays the caller's. Run is called
// once.
//
// On a CPU, batches of one are warmed before it is ready, and larger ones
// behind; elsewhere all of them before. Without preprocessing nothing is: only
// a caller knows what the graph's tensors are.
func (c *Classifier) Run(ctx context.Context, s Session) error {
	c.device = s.Device()
	c.metrics.info(c.pkg, c.device)
	sizes := c.pkg.Spec.BatchSizes
	before, workers := sizes, 1
	if c.device == onnx.CPU {
		before, workers = sizes[:1], c.workers
	}
	if c.prep == nil {
		sizes, before = nil, nil
	} else if err := c.decoder.learn(s.Keys(0)); err != nil {
		return fmt.Errorf("model package %s: %w", c.pkg.Dir, err)
	}
	for _, n := range before {
		if err := c.warm(ctx, s, n); err != nil {
			return err
		}
	}

	var wg sync.WaitGroup
	defer wg.Wait()
	answered := make(chan struct{})
	first := sync.OnceFunc(func() { close(answered) })
	for range workers {
		wg.Go(func() { (&worker{c: c, session: s}).work(ctx, first) })
	}
	close(c.running)
	if c.phases != nil {
		c.health.Started(c.phases())
	}
	c.health.Ready()
	if c.onReady != nil {
		c.onReady(c.device)
	}

	// The larger sizes, once the request that we were started for has been
	// answered: it must not share its core with them.
	wait := time.NewTimer(time.Second)
	defer wait.Stop()
	select {
	case <-answered:
	case <-wait.C:
	case <-ctx.Done():
		return nil
	}
	for _, n := range sizes[len(before):] {
		if err := c.warm(ctx, s, n); err != nil && ctx.Err() == nil {
			c.log.Warn("a batch size does not run", "size", n, "error", err)
		}
	}
	<-ctx.Done()
	return nil
}

// warm runs a batch of n blank inputs, and checks that the graph gives what
// the package promises.
func (c *Classifier) warm(ctx context.Context, s Session, n int) error {
	batch := make([]preprocess.Sample, n)
	for i := range batch {
		batch[i] = c.prep.Blank()
		defer batch[i].Release()
	}
	scores, err := (&worker{c: c, session: s}).score(ctx, batch)
	if err != nil {
		return fmt.Errorf("model package %s: a blank batch of %d does not run (do the inputs and outputs of model.yaml fit the graph?): %w", c.pkg.Dir, n, err)
	}
	if _, err := c.decoder.probabilities(scores[:len(c.decoder.labels)]); err != nil {
		return fmt.Errorf("model package %s: a blank input: %w", c.pkg.Dir, err)
	}
	return nil
}

// Model names the package for an answer.
func (c *Classifier) Model() prediction.Model {
	return prediction.Model{Name: c.pkg.Spec.Name, Version: c.pkg.Spec.Version, Digest: c.pkg.Digest}
}
