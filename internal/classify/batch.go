package classify

import (
	"context"
	"sync/atomic"
	"time"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/preprocess"
)

// job is one preprocessed request on its way through the queue. Its worker
// owns it from when it is queued until done is closed; a caller that does not
// wait for that must not touch the sample again.
type job struct {
	ctx    context.Context
	sample preprocess.Sample
	queued time.Time

	// Set by the worker before it closes done.
	logits []float32
	waited time.Duration
	ran    time.Duration
	err    error
	done   chan struct{}
}

// buffers are one worker's, kept between batches.
type buffers struct {
	prep    preprocess.Buffers
	samples []preprocess.Sample
	out     []float32
}

func (b *buffers) output(n, labels int) []onnx.Tensor {
	if cap(b.out) < n*labels {
		b.out = make([]float32, n*labels)
	}
	b.out = b.out[:n*labels]
	return []onnx.Tensor{{Shape: []int64{int64(n), int64(labels)}, F32: b.out}}
}

// work runs batches until ctx ends. It calls ran after each.
func (c *Classifier) work(ctx context.Context, s Session, ran func()) {
	largest := c.pkg.Spec.BatchSizes[len(c.pkg.Spec.BatchSizes)-1]
	var b buffers
	batch := make([]*job, 0, largest)
	for {
		batch = batch[:0]
		select {
		case <-ctx.Done():
			return
		case j := <-c.queue:
			batch = c.take(batch, j)
		}
	fill:
		for len(batch) < largest {
			select {
			case j := <-c.queue:
				batch = c.take(batch, j)
			default:
				break fill
			}
		}
		if len(batch) > 0 {
			c.runBatch(ctx, s, batch, &b)
			ran()
		}
		clear(batch) // an idle worker must not keep pictures alive
		clear(b.samples)
	}
}

// take adds j to the batch, unless its caller has gone.
func (c *Classifier) take(batch []*job, j *job) []*job {
	if err := j.ctx.Err(); err != nil {
		c.metrics.dropped.Inc()
		j.err = err
		close(j.done)
		return batch
	}
	return append(batch, j)
}

func (c *Classifier) runBatch(ctx context.Context, s Session, batch []*job, b *buffers) {
	// A run is for all of its callers: it is stopped when the last has gone.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var left atomic.Int64
	left.Store(int64(len(batch)))
	for _, j := range batch {
		defer context.AfterFunc(j.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})()
	}

	began := time.Now()
	n := len(c.pkg.Labels)
	out := b.output(len(batch), n)
	b.samples = b.samples[:0]
	for _, j := range batch {
		b.samples = append(b.samples, j.sample)
	}
	err := s.Run(ctx, c.prep.Tensors(b.samples, &b.prep), out)
	ran := time.Since(began)
	c.metrics.batch.Observe(float64(len(batch)))
	c.metrics.inference.Observe(ran.Seconds())
	for i, j := range batch {
		j.waited, j.ran, j.err = began.Sub(j.queued), ran, err
		if err == nil {
			j.logits = append([]float32(nil), out[0].F32[i*n:(i+1)*n]...)
		}
		close(j.done)
	}
}
