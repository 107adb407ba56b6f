package compose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
)

// candidates is how many of the pooled labels an answer lists.
const candidates = 5

// Options of [New].
type Options struct {
	Composition *Composition
	LegURL      string            // template; empty means DefaultLegURL
	Namespace   string            // of legs that name none; empty means default
	Source      string            // of the events; empty means /aisle/composer
	MaxInFlight int               // products at once; 0 means 128
	Transport   http.RoundTripper // shared by all legs; nil means NewTransport()
	Logger      *slog.Logger      // nil discards
	Metrics     *metrics.Set      // nil: to be seen by nobody
}

// Composer answers products by one composition.
type Composer struct {
	spec    *Composition
	source  string
	legs    []*leg
	slots   chan struct{} // one token per product in flight
	bodies  *serve.Budget
	log     *slog.Logger
	metrics *instruments
}

// New returns a composer. It opens no connection.
func New(o Options) (*Composer, error) {
	if o.Composition == nil {
		return nil, errors.New("there is no composition")
	}
	if o.LegURL == "" {
		o.LegURL = DefaultLegURL
	}
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if !dnsLabel.MatchString(o.Namespace) {
		return nil, fmt.Errorf("NAMESPACE %q is not a DNS label", o.Namespace)
	}
	if o.Source == "" {
		o.Source = "/aisle/composer"
	}
	if _, err := event.New(event.TypeCategory, o.Source, "1", event.SchemaCategory, nil); err != nil {
		return nil, fmt.Errorf("SOURCE %q is not a URI reference: %w", o.Source, err)
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 128
	}
	if o.MaxInFlight < 1 || o.MaxInFlight > 100_000 {
		return nil, fmt.Errorf("MAX_INFLIGHT %d: want 1 to 100000", o.MaxInFlight)
	}
	if o.Transport == nil {
		o.Transport = NewTransport()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.New()
	}
	c := &Composer{spec: o.Composition, source: o.Source, slots: make(chan struct{}, o.MaxInFlight), bodies: serve.NewBudget(bodyBudget), log: o.Logger}
	for _, s := range o.Composition.Legs {
		l, err := newLeg(s, o.LegURL, o.Namespace, o.Transport)
		if err != nil {
			return nil, err
		}
		c.legs = append(c.legs, l)
	}
	c.metrics = newInstruments(o.Metrics, c)
	return c, nil
}

// Product is a product on its way to the legs.
type Product struct {
	product.Product
	JSON   []byte      // as it came, for legs that are to get all of it; nil: written anew
	Header http.Header // trace context for the legs
}

// Compose asks all legs about one valid product and reduces what they
// answer. Its errors are *problem.Error: 422 when a leg found the product at
// fault or none has anything to read, 503 when legs failed and there is no
// category. The result is valid with a 503 too.
func (c *Composer) Compose(ctx context.Context, p Product) (category.Result, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.spec.Deadline)
	defer cancel()

	results := make([]result, len(c.legs))
	var wg sync.WaitGroup
	for i, l := range c.legs {
		ask := func() {
			results[i] = c.guarded(ctx, l, p)
			c.metrics.observe(&results[i])
		}
		if i == len(c.legs)-1 {
			ask() // the last one needs no goroutine
		} else {
			wg.Go(ask)
		}
	}
	wg.Wait()

	out, err := c.reduce(p, results)
	elapsed := time.Since(start)
	out.DurationMs = ms(elapsed)
	c.metrics.duration.Observe(elapsed.Seconds())
	return out, err
}

// guarded makes a panic the leg's failure.
func (c *Composer) guarded(ctx context.Context, l *leg, p Product) (r result) {
	start := time.Now()
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("a leg panicked", "leg", l.Name, "panic", v, "stack", string(debug.Stack()))
			l.breaker.RecordFailure() // it holds a permit
			r = result{Leg: category.Leg{Name: l.Name, Service: l.Service, LatencyMs: ms(time.Since(start))}}
			r.fail("internal error; the composer's log says more")
		}
	}()
	return l.ask(ctx, p)
}

// reduce makes one answer of the legs' results. It is pure.
func (c *Composer) reduce(p Product, results []result) (category.Result, error) {
	out := category.Result{
		ID:          p.ID,
		Status:      category.Complete,
		Legs:        make([]category.Leg, len(results)),
		Composition: category.Composition{Name: c.spec.Name, Digest: c.spec.Digest},
	}
	lists := make([][]prediction.Prediction, len(results))
	var answered, failed int
	var refused *problem.Error
	var missing []string // required legs that failed
	var patience time.Duration
	for i := range results {
		r := &results[i]
		out.Legs[i] = r.Leg
		out.Legs[i].Weight = c.spec.Pool.Weights[i]
		switch r.Outcome {
		case category.Answered:
			answered++
			lists[i] = r.predictions
		case category.LegFailed:
			failed++
			patience = max(patience, r.patience)
			if r.refused != nil && refused == nil {
				refused = r.refused
			}
			if c.legs[i].Required {
				missing = append(missing, r.Name)
			}
		}
	}
	switch {
	case refused != nil:
		refused.Extra = map[string]any{"legs": out.Legs}
		return out, refused
	case answered == 0 && failed == 0:
		e := problem.New(http.StatusUnprocessableEntity, "the product has nothing that any leg reads; %s", reasons(out.Legs))
		e.Type = problem.TypeNothingToRead
		e.Extra = map[string]any{"legs": out.Legs}
		return out, e
	case answered == 0 || len(missing) > 0:
		out.Status = category.Failed
		why := "no leg answered"
		if len(missing) > 0 {
			why = "there is no category without leg " + strings.Join(missing, ", ")
		}
		e := problem.New(http.StatusServiceUnavailable, "%s; %s", why, reasons(out.Legs))
		e.RetryAfter = min(max(patience, time.Second), maxPatience)
		e.Extra = map[string]any{"legs": out.Legs, "composition": out.Composition}
		return out, e
	case failed > 0:
		out.Status = category.Partial
	}
	pooled := c.spec.Pool.Answers(lists)
	out.Candidates = pooled[:min(candidates, len(pooled))]
	out.Category = &category.Category{Label: pooled[0].Label, Path: []string{pooled[0].Label}, Confidence: pooled[0].Probability}
	if leaf, ok := c.spec.Taxonomy.Leaf(pooled[0].Label); ok {
		out.Category.ID, out.Category.Path = leaf.ID, leaf.Path
	}
	return out, nil
}

// reasons says in one line what became of the legs that did not answer.
func reasons(legs []category.Leg) string {
	var out []string
	for _, l := range legs {
		if l.Reason != "" {
			out = append(out, l.Name+": "+l.Reason)
		}
	}
	return strings.Join(out, "; ")
}
