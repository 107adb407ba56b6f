package classify

import (
	"context"
	"sync"
	"time"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/preprocess"
)

// job is what one caller wants run, on its way through the queue: the sample
// of a product, or tensors. Its worker owns it from when it is queued until
// done is closed; a caller that does not wait for that must not touch the
// sample or the tensors again.
type job struct {
	ctx    context.Context
	group  string // jobs of other groups are never in its batch
	alone  bool   // nor are those of its own
	rows   int    // how many of a batch's rows it fills
	sample preprocess.Sample
	in     []onnx.Tensor // without a sample
	queued time.Time

	// Set by the worker before it closes done.
	scores []float32     // of a sample, one for each label
	out    []onnx.Tensor // of tensors
	waited time.Duration
	ran    time.Duration
	err    error
	done   chan struct{}
}

// queue is where jobs wait for a worker. It forms batches of what is there:
// the oldest job and those of its group behind it.
type queue struct {
	largest int           // rows of a batch
	delay   time.Duration // how long a job may wait for company
	most    int           // jobs whose callers wait, at most
	dropped func()        // told of each job whose caller had gone
	wake    chan struct{} // with room for a token for each worker: each that waits looks again

	mu   sync.Mutex
	jobs []*job         // guarded by mu; by arrival
	rows map[string]int // guarded by mu; what waits of each group
}

func newQueue(most, largest, workers int, delay time.Duration, dropped func()) *queue {
	return &queue{largest: largest, delay: delay, most: most, dropped: dropped, wake: make(chan struct{}, workers), rows: map[string]int{}}
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs)
}

// push queues j. There are never more than most jobs whose callers wait, since
// each of them has been admitted: if there are more, some have gone.
func (q *queue) push(j *job) {
	q.mu.Lock()
	if len(q.jobs) >= q.most {
		kept := q.jobs[:0]
		for _, j := range q.jobs {
			if !q.gone(j) {
				kept = append(kept, j)
			}
		}
		clear(q.jobs[len(kept):])
		q.jobs = kept
	}
	q.jobs = append(q.jobs, j)
	q.rows[j.group] += j.rows
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default: // every worker has been told already
	}
}

// gone ends a job whose caller has gone, and reports whether it did.
//
// REQUIRES: q.mu is held; the caller removes such a job from q.jobs.
func (q *queue) gone(j *job) bool {
	err := j.ctx.Err()
	if err == nil {
		return false
	}
	q.left(j)
	q.dropped()
	j.err = err
	close(j.done)
	return true
}

// left counts j out.
//
// REQUIRES: q.mu is held.
func (q *queue) left(j *job) {
	if q.rows[j.group] -= j.rows; q.rows[j.group] == 0 {
		delete(q.rows, j.group) // shapes come from callers: they are not kept
	}
}

// take moves the next batch to the end of batch. Where nothing is to be run
// yet, it gives none, and when there will be if nobody else comes: zero for an
// empty queue.
func (q *queue) take(now time.Time, batch []*job) (_ []*job, due time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := 0; i < len(q.jobs); i++ {
		j := q.jobs[i]
		if ripe := j.queued.Add(q.delay); q.delay > 0 && !j.alone && now.Before(ripe) && q.rows[j.group] < q.largest {
			if due.IsZero() {
				due = ripe
			}
			continue
		}
		if batch = q.collect(i, batch); len(batch) > 0 {
			return batch, time.Time{}
		}
		i-- // all of them had gone
	}
	return batch, due
}

// collect moves the i-th job and those of its group behind it, as many as go
// together, to the end of batch.
//
// REQUIRES: q.mu is held.
func (q *queue) collect(i int, batch []*job) []*job {
	first, rows := q.jobs[i], 0
	kept := q.jobs[:i]
	for k := i; k < len(q.jobs); k++ {
		j := q.jobs[k]
		fits := j == first || !j.alone && !first.alone && j.group == first.group && rows+j.rows <= q.largest
		switch {
		case fits && q.gone(j):
		case fits:
			q.left(j)
			batch, rows = append(batch, j), rows+j.rows
		default:
			kept = append(kept, j)
		}
		if rows >= q.largest || first.alone {
			kept = append(kept, q.jobs[k+1:]...)
			break
		}
	}
	clear(q.jobs[len(kept):])
	q.jobs = kept
	return batch
}

// wait returns when there may be something to take, at due at the latest if
// that is not zero; false when ctx has ended.
func (q *queue) wait(ctx context.Context, due time.Time) bool {
	var timeout <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(time.Until(due))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-q.wake:
	case <-timeout:
	}
	return true
}
