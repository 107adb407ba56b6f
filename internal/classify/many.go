package classify

import (
	"context"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"

	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// MaxProducts is how many products one request may have.
const MaxProducts = 256

// many answers an array of products with an array of items, in its order. A
// product that is refused is an item with an error, and its neighbours are
// answered.
//
// As many as its share of the slots are under way at once, so that a long
// array neither fills the queue nor waits for itself.
func (c *Classifier) many(w http.ResponseWriter, r *http.Request, body []byte, q query) error {
	ctx := r.Context()
	if q.explain {
		return problem.New(http.StatusUnprocessableEntity, "several products are not explained at once; send each in a request of its own")
	}
	texts, err := product.Split(body, MaxProducts)
	if err != nil {
		return err
	}
	atOnce := max(1, min(len(texts), c.slots.share()))
	if err := c.slots.take(atOnce - 1); err != nil { // one it has
		return err
	}
	defer c.slots.give(atOnce - 1)

	items := make([]prediction.Item, len(texts))
	var mu sync.Mutex
	var slowest timing // guarded by mu
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, text := range texts {
		g.Go(func() error {
			var t timing
			res, err := c.one(ctx, text, q.top, &t)
			if err != nil {
				if s := problem.Status(err); s >= http.StatusInternalServerError && s != http.StatusServiceUnavailable {
					c.logFor(r).Error("one of several products failed", "item", i, "error", err)
				}
				items[i].Error = problem.Members(err)
				return nil
			}
			items[i].Result = &res
			mu.Lock()
			defer mu.Unlock()
			slowest.longest(t)
			return nil
		})
	}
	_ = g.Wait() // an item's error is in the item
	if err := context.Cause(ctx); err == context.Canceled {
		return err // nobody reads it
	}
	w.Header().Set("Server-Timing", slowest.header())
	return writeJSON(w, items)
}

// one classifies one of several products.
func (c *Classifier) one(ctx context.Context, text []byte, top int, t *timing) (prediction.Result, error) {
	var asked product.Asked
	s, err := c.onCore(ctx, t, func() (preprocess.Sample, error) {
		var err error
		if asked, err = product.DecodeAsked(text); err != nil {
			return nil, err
		}
		if asked.Explain {
			return nil, problem.New(http.StatusUnprocessableEntity, "one of several products is not explained; send it in a request of its own")
		}
		return c.prep.Product(ctx, asked.Product)
	})
	if err != nil {
		return prediction.Result{}, err
	}
	p, err := c.ask(ctx, s, t)
	if err != nil {
		return prediction.Result{}, err
	}
	return c.result(asked.ID, p, top), nil
}
