package classify

import (
	"context"
	"sync/atomic"
	"time"

	"aisle.dev/aisle/internal/onnx"
)

// job is one preprocessed request on its way through the queue. Its worker
// owns it from when it is queued until done is closed; a caller that does not
// wait for that must not touch the sample again.
type job struct {
	ctx    context.Context
	sample sample
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
	floats []float32
	ids    []int32
	wide   []int64
	out    []float32
}

func (b *buffers) output(n, labels int) []onnx.Tensor {
	b.out = grow(b.out, n*labels)
	return []onnx.Tensor{{Shape: []int64{int64(n), int64(labels)}, F32: b.out}}
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
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
	err := s.Run(ctx, c.prep.tensors(batch, b), out)
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
