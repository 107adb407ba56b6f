package classify

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/problem"
)

// timing is what Server-Timing says of one product.
type timing struct {
	queue, preprocess, infer time.Duration
}

func (t *timing) header() string {
	b := make([]byte, 0, 64)
	for i, p := range []struct {
		name string
		d    time.Duration
	}{{"queue", t.queue}, {"preprocess", t.preprocess}, {"infer", t.infer}} {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, p.name...), ";dur="...)
		b = strconv.AppendFloat(b, float64(p.d.Microseconds())/1000, 'f', -1, 64)
	}
	return string(b)
}

// longest keeps of each phase what took longest.
func (t *timing) longest(of timing) {
	t.queue, t.preprocess, t.infer = max(t.queue, of.queue), max(t.preprocess, of.preprocess), max(t.infer, of.infer)
}

// onCore runs f, which makes a sample, when a core is free for it.
func (c *Classifier) onCore(ctx context.Context, t *timing, f func() (preprocess.Sample, error)) (preprocess.Sample, error) {
	asked := time.Now()
	select {
	case c.cores <- struct{}{}:
		defer func() { <-c.cores }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	t.queue += began.Sub(asked)
	s, err := f()
	t.preprocess = time.Since(began)
	c.metrics.preprocess.Observe(t.preprocess.Seconds())
	return s, err
}

// fetch gets a picture for a preprocessing, which is on a core: others have it
// meanwhile.
func (c *Classifier) fetch(ctx context.Context, url string) ([]byte, error) {
	<-c.cores
	defer func() { c.cores <- struct{}{} }()
	return c.get(ctx, url)
}

// do queues a job, whose ctx is set, and waits for it.
func (c *Classifier) do(j *job) error {
	j.queued, j.done = time.Now(), make(chan struct{})
	c.queue.push(j)
	select {
	case <-j.done:
	case <-j.ctx.Done():
		return j.ctx.Err() // the job is the worker's
	}
	c.metrics.queue.Observe(j.waited.Seconds())
	switch {
	case j.err == nil:
		return nil
	case j.ctx.Err() != nil:
		return j.ctx.Err()
	case errors.Is(j.err, context.Canceled): // by Run's context, not by ours
		return &problem.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Detail: "this instance has stopped; another one will answer"}
	}
	return j.err
}

// ask gives the probabilities of one sample's labels. The sample is no longer
// the caller's.
func (c *Classifier) ask(ctx context.Context, s preprocess.Sample, t *timing) ([]float64, error) {
	j := &job{ctx: ctx, sample: s, group: c.prep.Group(s), rows: 1}
	if err := c.do(j); err != nil {
		return nil, err
	}
	s.Release()
	t.queue += j.waited
	t.infer = j.ran
	began := time.Now()
	p, err := c.decoder.probabilities(j.scores)
	c.metrics.post.Observe(time.Since(began).Seconds())
	return p, err
}

// result is the answer of probabilities.
func (c *Classifier) result(id string, p []float64, top int) prediction.Result {
	return prediction.Result{ID: id, Model: c.Model(), Device: c.device, Predictions: c.decoder.best(p, top)}
}
