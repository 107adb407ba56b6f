// Package compose sends a product to the classifiers of a composition and
// makes one category of what they answer.
//
// A [Composer] asks each leg of a product as soon as those that its gate
// mentions are done, the others at once, under one deadline, and gives a category.Result that says for every leg what became
// of it: an answer with failed legs says so. [Composer.Handler] is its HTTP
// and CloudEvents side. The composition itself is internal/composition's.
//
// Guarantees:
//   - One product's answer never outlasts the composition's deadline.
//   - A leg's failure, however strange, is that leg's alone: a connection
//     that breaks, an answer that is no answer, a panic.
//   - A leg is sent only the fields that it reads, once that is known, and
//     its answer is never used when it reads a field that was kept back.
//   - Of a leg with two variants, a GPU service that is not known to be ready
//     is sent one product at a time; that request's time and what is held for
//     it are bounded, and it ends by [Composer.Close].
//   - A leg whose gate is false is not asked. A gate that cannot be told counts
//     as true, and the answer says so.
//   - A shadow leg is neither waited for nor counted. Its request ends by the
//     product's deadline and by [Composer.Close]; the products in such requests
//     are bounded.
//   - What a rule forbids is never the answer.
//   - A leg that a schedule keeps closed has not failed, and is not asked again
//     for the same product.
//   - What is wrong with the input is the sender's error (4xx) and names the
//     leg that found it; what is wrong with the legs is a 503 that a broker
//     delivers again.
//
// Non-goals: it keeps nothing between two products but what services read, their
// connections, their circuit breakers and when they answered last; it decodes no
// pictures and fetches no URLs.
package compose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
)

// Options of [New].
type Options struct {
	Composition *composition.Composition
	LegURL      string            // template; empty means DefaultLegURL
	Namespace   string            // of legs that name none; empty means default
	Source      string            // of the events; empty means /aisle/composer
	MaxInFlight int               // products at once; 0 means 128
	Transport   http.RoundTripper // shared by all legs; nil means NewTransport()
	Closures    string            // path of the file that says when services are closed; empty: none does
	Logger      *slog.Logger      // nil discards
	Metrics     *metrics.Set      // nil: to be seen by nobody
}

// Composer answers products by one composition.
type Composer struct {
	spec *composition.Composition
	legs []*leg
	*process

	last     int  // the last leg that is no shadow
	shadowed bool // some leg is one
	waits    bool // some leg waits for another
	rules    []rule
	named    map[string][]string // by the taxonomy's names, for rules: the labels that each stands for

	expressive bool // some leg has a gate, or there are rules
}

// process is what a composer shares with the one that takes its place when the
// composition changes.
type process struct {
	options  Options
	source   string
	closures *closures
	slots    chan struct{} // one token per product in flight
	bulk     chan struct{} // one per product of a stream; half as many as slots
	streams  chan struct{} // one per stream of products
	bodies   *serve.Budget
	log      *slog.Logger
	metrics  *instruments
	file     *reloads // nil: the composition never changes

	// What lives longer than a product: the requests that wake services, and
	// those to shadow legs.
	life       context.Context
	end        context.CancelFunc
	background sync.WaitGroup
	kept       *semaphore.Weighted // bytes of the products in the first
	shadows    *semaphore.Weighted // bytes of the products in the second
}

// New returns a composer. It opens no connection. Whoever made it calls Close.
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
	if !composition.IsName(o.Namespace) {
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
	p := &process{options: o, source: o.Source, slots: make(chan struct{}, o.MaxInFlight),
		bulk: make(chan struct{}, max(1, o.MaxInFlight/2)), streams: make(chan struct{}, maxStreams), bodies: serve.NewBudget(bodyBudget), log: o.Logger,
		kept: semaphore.NewWeighted(wakeBudget), shadows: semaphore.NewWeighted(shadowBudget)}
	p.closures = newClosures(o.Closures, o.Logger)
	p.metrics = newInstruments(o.Metrics, p)
	p.life, p.end = context.WithCancel(context.Background())
	c, err := p.composer(o.Composition, nil)
	if err != nil {
		return nil, err
	}
	c.metrics.follow(c.legs, nil)
	return c, nil
}

// composer makes one for a composition. What is known of the services that a
// leg of before, of the same name, asks at the same address is kept.
func (p *process) composer(spec *composition.Composition, before []*leg) (*Composer, error) {
	c := &Composer{spec: spec, process: p}
	for i, s := range spec.Legs {
		l, err := newLeg(s, &p.options, p.closures)
		if err != nil {
			return nil, err
		}
		if at := slices.IndexFunc(before, func(o *leg) bool { return o.Name == l.Name }); at >= 0 {
			l.inherit(before[at])
		}
		c.legs = append(c.legs, l)
		c.expressive = c.expressive || s.When != nil
		c.waits = c.waits || len(s.After) > 0
		if c.shadowed = c.shadowed || s.Shadow; !s.Shadow {
			c.last = i
		}
	}
	c.rules, c.named = newRules(spec)
	c.expressive = c.expressive || len(c.rules) > 0
	return c, nil
}

// Close ends the requests that still wake services or ask shadow legs, and
// waits for them. It is
// for when no product is on its way any more.
func (c *Composer) Close() {
	c.end()
	c.background.Wait()
}

// Product is a product on its way to the legs.
type Product struct {
	product.Product
	JSON   []byte            // as it came, for legs that are to get all of it; nil: written anew
	Header http.Header       // trace context for the legs
	Event  map[string]string // attributes of the event that brought it; nil: none did
	// Predictions is how many of each leg's the answer is to list, and of the
	// fused ones where that is more than usual; or [AllPredictions]. Whoever
	// wants them compares: shadow legs are waited for.
	Predictions int
}

// Compose asks the legs about one valid product and reduces what they
// answer. Its errors are *problem.Error: 422 when a leg found the product at
// fault or none has anything to read, 503 when legs failed and there is no
// category. The result is valid with a 503 too.
func (c *Composer) Compose(ctx context.Context, p Product) (category.Result, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.spec.Deadline-c.spec.Margin)
	defer cancel()

	r := c.start(ctx, p)
	out, err := c.reduce(p, r.snapshot())
	r.decide(out)
	elapsed := time.Since(start)
	out.DurationMs = ms(elapsed)
	c.metrics.duration.Observe(elapsed.Seconds())
	return out, err
}

// known gives an answer the taxonomy's labels, and makes one with no label that
// the taxonomy knows the leg's failure.
func (c *Composer) known(l *leg, r *result) {
	if r.Outcome != category.Answered {
		return
	}
	if l.Labels != nil {
		r.predictions = mapped(r.predictions, l.Labels)
		top := best(r.predictions)
		r.Label, r.Confidence = top.Label, top.Probability
	}
	if c.spec.Taxonomy == nil {
		return
	}
	for _, p := range r.predictions {
		if _, ok := c.spec.Taxonomy.Leaf(p.Label); ok {
			return
		}
	}
	said := r.Label
	*r = result{Leg: r.Leg, patience: r.patience}
	r.Label, r.Confidence = "", 0
	r.fail(category.BadAnswer, "%s gives no label that the taxonomy knows, such as %.80q; has the leg labels: to map them?", r.Service, said)
}

// mapped is a list under other labels, of which several may become one.
func mapped(list []prediction.Prediction, labels map[string]string) []prediction.Prediction {
	out := make([]prediction.Prediction, 0, len(list))
	index := make(map[string]int, len(list))
	for _, q := range list {
		if to, ok := labels[q.Label]; ok {
			q.Label = to
		}
		if i, ok := index[q.Label]; ok {
			out[i].Probability = min(1, out[i].Probability+q.Probability)
			continue
		}
		index[q.Label] = len(out)
		out = append(out, q)
	}
	return out
}

// leg asks one leg about a product. It returns by ctx's deadline.
func (c *Composer) leg(ctx context.Context, l *leg, p Product) result {
	if l.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.Deadline)
		defer cancel()
	}
	if l.cpu == nil {
		return c.guarded(ctx, l.service, p)
	}
	return c.either(ctx, l, p)
}

// guarded makes a panic the leg's failure.
func (c *Composer) guarded(ctx context.Context, s *service, p Product) (r result) {
	start := time.Now()
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("a leg panicked", "leg", s.leg, "service", s.name, "panic", v, "stack", string(debug.Stack()))
			s.breaker.RecordFailure() // it holds a permit
			r = s.result()
			r.LatencyMs = ms(time.Since(start))
			r.fail(category.Internal, "internal error; the composer's log says more")
		}
	}()
	return s.ask(ctx, p)
}
