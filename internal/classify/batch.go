package classify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/preprocess"
)

// worker runs batches, one after the other.
type worker struct {
	c       *Classifier
	session Session

	// Kept between batches.
	prep    preprocess.Buffers
	samples []preprocess.Sample
	answer  []float32
}

// work runs batches until ctx ends. It calls ran after each.
func (w *worker) work(ctx context.Context, ran func()) {
	q := w.c.queue
	var batch []*job
	var due time.Time
	for ctx.Err() == nil {
		// A job wakes its worker at once. The requests that the same core is
		// about to queue come first: so busy a core forms batches of them, and
		// one with nothing else to do loses nothing.
		runtime.Gosched()
		if batch, due = q.take(time.Now(), batch[:0]); len(batch) == 0 {
			if !q.wait(ctx, due) {
				return
			}
			continue
		}
		w.runBatch(ctx, batch)
		ran()
		clear(batch) // an idle worker must not keep pictures alive
	}
}

// runBatch runs a batch and ends its jobs. Where the graph fails, each of them
// is run again alone, once: one whose input it cannot take does not fail its
// neighbours.
func (w *worker) runBatch(ctx context.Context, batch []*job) {
	began := time.Now()
	err := w.run(ctx, batch, began)
	if err == nil || len(batch) == 1 || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		end(batch, err)
		return
	}
	w.c.metrics.split.Inc()
	for i := range batch {
		one := batch[i : i+1]
		err := one[0].ctx.Err()
		if err == nil {
			err = w.run(ctx, one, began)
		}
		end(one, err)
	}
}

func end(batch []*job, err error) {
	for _, j := range batch {
		j.err = err
		close(j.done)
	}
}

// run runs jobs together, and gives them their results.
func (w *worker) run(ctx context.Context, batch []*job, began time.Time) error {
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

	rows := 0
	for _, j := range batch {
		rows += j.rows
	}
	start := time.Now()
	var err error
	if batch[0].sample != nil {
		err = w.runSamples(ctx, batch)
	} else {
		err = w.runTensors(ctx, batch, rows)
	}
	ran := time.Since(start)
	m := w.c.metrics
	m.batch.Observe(float64(rows))
	m.inference.Observe(ran.Seconds())
	for _, j := range batch {
		j.waited, j.ran = began.Sub(j.queued), ran
	}
	return err
}

// runSamples gives each job its labels' scores.
func (w *worker) runSamples(ctx context.Context, batch []*job) error {
	w.samples = w.samples[:0]
	for _, j := range batch {
		w.samples = append(w.samples, j.sample)
	}
	defer func() { clear(w.samples) }()
	if w.c.device != onnx.CPU {
		// There a batch of a new size costs a search for kernels: it is filled
		// up to one that has been warmed.
		for n := w.c.bucket(len(batch)); len(w.samples) < n; {
			s := w.c.prep.Blank()
			defer s.Release()
			w.samples = append(w.samples, s)
		}
	}
	scores, err := w.score(ctx, w.samples)
	if err != nil {
		return err
	}
	n := len(w.c.decoder.labels)
	for i, j := range batch {
		j.scores = scores[i*n : (i+1)*n : (i+1)*n]
	}
	return nil
}

// bucket is the smallest batch size of the package that takes n samples.
func (c *Classifier) bucket(n int) int {
	sizes := c.pkg.Spec.BatchSizes
	i, _ := slices.BinarySearch(sizes, n)
	return sizes[min(i, len(sizes)-1)]
}

// score runs samples and gives the scores of each, one row of labels behind
// the other.
func (w *worker) score(ctx context.Context, samples []preprocess.Sample) ([]float32, error) {
	out := []onnx.Tensor{w.c.decoder.output(len(samples), &w.answer)}
	if err := w.session.Run(ctx, w.c.prep.Tensors(samples, &w.prep), out); err != nil {
		return nil, err
	}
	return w.c.decoder.scores(out[0], len(samples)), nil
}

// runTensors gives each job its rows of every output.
func (w *worker) runTensors(ctx context.Context, batch []*job, rows int) error {
	in := batch[0].in
	if len(batch) > 1 {
		in = make([]onnx.Tensor, len(batch[0].in))
		for i := range in {
			in[i] = joined(batch, i, rows)
		}
	}
	out := make([]onnx.Tensor, len(w.c.pkg.Spec.Outputs))
	if err := w.session.Run(ctx, in, out); err != nil {
		return err
	}
	if len(batch) == 1 {
		batch[0].out = out
		return nil
	}
	for i, t := range out {
		if len(t.Shape) == 0 || t.Shape[0] != int64(rows) {
			return fmt.Errorf("output %s of a batch of %d rows has the shape %v", w.c.pkg.Spec.Outputs[i].Name, rows, t.Shape)
		}
	}
	at := 0
	for _, j := range batch {
		j.out = make([]onnx.Tensor, len(out))
		for i, t := range out {
			j.out[i] = slice(t, at, at+j.rows)
		}
		at += j.rows
	}
	return nil
}

// joined is the i-th input of all jobs, one below the other.
func joined(batch []*job, i, rows int) onnx.Tensor {
	first := batch[0].in[i]
	t := onnx.Tensor{Datatype: first.Datatype, Shape: slices.Clone(first.Shape)}
	t.Shape[0] = int64(rows)
	for _, j := range batch {
		in := j.in[i]
		t.F32 = append(t.F32, in.F32...)
		t.I32 = append(t.I32, in.I32...)
		t.I64 = append(t.I64, in.I64...)
		t.Strings = append(t.Strings, in.Strings...)
		t.Raw = append(t.Raw, in.Raw...)
	}
	return t
}

// slice is the rows from..to of t, in t's memory.
func slice(t onnx.Tensor, from, to int) onnx.Tensor {
	rows := int(t.Shape[0])
	s := onnx.Tensor{Datatype: t.Datatype, Shape: slices.Clone(t.Shape)}
	s.Shape[0] = int64(to - from)
	s.F32, s.I32, s.I64 = cut(t.F32, rows, from, to), cut(t.I32, rows, from, to), cut(t.I64, rows, from, to)
	s.Strings, s.Raw = cut(t.Strings, rows, from, to), cut(t.Raw, rows, from, to)
	return s
}

func cut[T any](all []T, rows, from, to int) []T {
	n := len(all) / rows
	return all[from*n : to*n : to*n]
}
