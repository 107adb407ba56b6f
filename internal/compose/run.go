package compose

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/gate"
	"aisle.dev/aisle/internal/product"
)

// shadowBudget bounds the products, in bytes of their JSON, that shadow legs
// are asked about: one that does not fit is not asked about. A product counts
// for shadowFloor at least, so that the requests are bounded in number too.
const (
	shadowBudget = product.MaxBody
	shadowFloor  = 8 << 10
)

// run is one product's way through the legs.
type run struct {
	*Composer
	product Product
	results []atomic.Pointer[result] // of the legs that are done
	done    []chan struct{}          // closed after a result is there; nil: no gate waits for one
	// decided is closed when label is there, for shadow legs; nil: there are none.
	decided chan struct{}
	label   string // the likeliest; "" when there is no category
}

// start asks the legs, each when those that its gate mentions are done, and
// waits for all but the shadow ones; for these too, when the product's sender
// wants to compare. It returns by ctx's deadline. Whoever called it calls
// [run.decide].
func (c *Composer) start(ctx context.Context, p Product) *run {
	r := &run{Composer: c, product: p, results: make([]atomic.Pointer[result], len(c.legs))}
	if c.waits {
		r.done = make([]chan struct{}, len(c.legs))
		for i := range r.done {
			r.done[i] = make(chan struct{})
		}
	}
	if c.shadowed {
		r.decided = make(chan struct{})
	}
	var counted, compared sync.WaitGroup
	for i, l := range c.legs {
		switch {
		case l.Shadow:
			r.shadow(ctx, i, &compared)
		case i != c.last:
			counted.Go(func() { r.leg(ctx, i) })
		}
	}
	r.leg(ctx, c.last) // it needs no goroutine
	counted.Wait()
	if p.Predictions > 0 {
		compared.Wait() // each keeps to ctx's deadline
	}
	return r
}

// shadow asks a shadow leg. Its request outlives the product's answer, but
// neither the product's deadline nor [Composer.Close].
func (r *run) shadow(ctx context.Context, i int, compared *sync.WaitGroup) {
	n := max(size(r.product), shadowFloor)
	if !r.shadows.TryAcquire(n) {
		res := r.legs[i].result()
		res.fail(category.Overloaded, "too many products are with shadow legs")
		r.finish(i, &res)
		return
	}
	deadline, _ := ctx.Deadline()
	compared.Add(1)
	r.background.Go(func() {
		defer r.shadows.Release(n)
		ctx, cancel := context.WithDeadline(r.life, deadline)
		defer cancel()
		r.leg(ctx, i)
		compared.Done()
		<-r.decided
		r.agreement(i)
	})
}

// agreement records what a shadow leg said beside the category that was given.
func (r *run) agreement(i int) {
	res := r.results[i].Load()
	agrees := "unanswered"
	if res.Outcome == category.Answered {
		agrees = "no"
		if res.Label == r.label {
			agrees = "yes"
		}
	}
	r.metrics.shadows.Inc(res.Name, agrees)
	r.log.Debug("a shadow leg is done", "leg", res.Name, "product", r.product.ID, "outcome", res.Outcome, "label", res.Label, "confidence", res.Confidence, "category", r.label, "reason", res.Reason)
}

// decide tells the shadow legs what the answer is.
func (r *run) decide(out category.Result) {
	if r.decided != nil {
		if out.Category != nil {
			r.label = out.Candidates[0].Label // of a leaf, as legs give them
		}
		close(r.decided)
	}
}

// snapshot is what has become of each leg so far.
func (r *run) snapshot() []result {
	out := make([]result, len(r.results))
	for i := range r.results {
		if res := r.results[i].Load(); res != nil {
			out[i] = *res
		} else {
			out[i] = r.legs[i].result()
			out[i].Outcome, out[i].Reason = category.Pending, "a shadow leg is not waited for"
		}
		out[i].Shadow = r.legs[i].Shadow
	}
	return out
}

// leg asks one leg, if its gate holds, when those that it waits for are done.
func (r *run) leg(ctx context.Context, i int) {
	l := r.legs[i]
	for _, j := range l.After {
		<-r.done[j] // each leg keeps to ctx's deadline
	}
	holds, err := true, error(nil)
	if l.When != nil {
		holds, err = l.When.Eval(r.input(l.After))
	}
	var res result
	switch {
	case err == nil && !holds:
		res = l.result()
		res.Outcome, res.Gate, res.Reason = category.Skipped, l.When.String(), "its gate is false"
	case len(l.After) > 0 && ctx.Err() != nil:
		res = l.result() // not asked: it says nothing of the service
		res.fail(category.Timeout, "the legs that its gate mentions left it no time")
	default:
		res = r.Composer.leg(ctx, l, r.product)
		r.known(l, &res)
	}
	if err != nil { // rather one call too many
		res.GateError = printable(err.Error())
		r.metrics.expressions.Inc("leg", l.Name)
	}
	r.finish(i, &res)
}

// finish lets those that wait for a leg go on.
func (r *run) finish(i int, res *result) {
	r.metrics.observe(res)
	r.results[i].Store(res)
	if r.done != nil {
		close(r.done[i])
	}
}

// input is what an expression that mentions these legs is about. They are done.
func (r *run) input(legs []int) gate.Input {
	in := gate.Input{Product: r.product.Product, Event: r.product.Event, Legs: make(map[string]gate.Leg, len(legs))}
	for _, i := range legs {
		in.Legs[r.legs[i].Name] = r.results[i].Load().gate()
	}
	return in
}

// gate is what a gate sees of a leg. A leg that is closed gives as little as
// one that failed.
func (r *result) gate() gate.Leg {
	return gate.Leg{
		Label: r.Label, Confidence: r.Confidence, Margin: margin(r),
		Answered: r.Outcome == category.Answered,
		Failed:   r.Outcome == category.LegFailed || r.Outcome == category.Closed,
		Skipped:  r.Outcome == category.Skipped,
	}
}

// margin is by how much the leg's best label is ahead of the next one.
func margin(r *result) float64 {
	if len(r.predictions) < 2 {
		return r.Confidence
	}
	first, second := math.Inf(-1), math.Inf(-1)
	for _, p := range r.predictions {
		switch {
		case p.Probability > first:
			first, second = p.Probability, first
		case p.Probability > second:
			second = p.Probability
		}
	}
	return first - second
}
