// Package lane is where the requests of one revision wait for, and hold,
// places in its pods.
//
// Guarantees:
//   - At most Concurrency requests hold a place in one pod (0: no limit), and
//     the pod with the fewest gets the next.
//   - Requests that wait are served in the order of their arrival; a caller
//     that has gone leaves the line at once.
//   - The line is bounded: who finds it full is told so immediately.
//   - Closing a pod and giving out its places exclude each other: after Close
//     has returned, nobody new gets a place in that pod, and the channel that
//     it returns is closed when the last one has been given back.
//
// It starts and stops nothing, and reads no clock.
package lane

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrFull means that as many requests wait as may.
var ErrFull = errors.New("the line is full")

// Lane is the line of one revision. P is what it knows a pod by.
type Lane[P comparable] struct {
	concurrency int
	depth       int
	waiting     func()

	mu     sync.Mutex  // guards what follows; never held while waiting is called
	pods   []*place[P] // open, the oldest first
	rest   []*place[P] // closed, with requests left
	line   list.List   // of *waiter[P]
	held   int         // places held, in closed pods too
	refuse error       // while there is no pod: told to who arrives
}

type place[P comparable] struct {
	pod    P
	held   int
	closed chan struct{} // not nil once the pod is closed; itself closed when held is 0
}

type waiter[P comparable] struct {
	got chan result[P] // capacity 1: whoever removes the waiter from the line sends once
}

type result[P comparable] struct {
	place *place[P]
	err   error
}

// New returns a lane without pods. waiting is called, without a lock held,
// whenever a request begins to wait.
func New[P comparable](concurrency, depth int, waiting func()) *Lane[P] {
	return &Lane[P]{concurrency: concurrency, depth: depth, waiting: waiting}
}

// Lease is a place in a pod, to be given back exactly once.
type Lease[P comparable] struct {
	Pod  P
	lane *Lane[P]
	at   *place[P]
	once sync.Once
}

// Try takes a place if that needs no waiting, and returns nil otherwise.
func (l *Lane[P]) Try() *Lease[P] {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now()
}

// now takes a free place. Who waits goes first. REQUIRES: l.mu is held.
func (l *Lane[P]) now() *Lease[P] {
	if l.line.Len() > 0 {
		return nil
	}
	at := l.free()
	if at == nil {
		return nil
	}
	at.held++
	l.held++
	return &Lease[P]{Pod: at.pod, lane: l, at: at}
}

// Acquire takes a place, waiting for one if it must. Its error is ErrFull,
// what Refuse said, or ctx's cause.
func (l *Lane[P]) Acquire(ctx context.Context) (*Lease[P], error) {
	l.mu.Lock()
	if lease := l.now(); lease != nil {
		l.mu.Unlock()
		return lease, nil
	}
	switch {
	case len(l.pods) == 0 && l.refuse != nil:
		defer l.mu.Unlock()
		return nil, l.refuse
	case l.line.Len() >= l.depth:
		l.mu.Unlock()
		return nil, ErrFull
	}
	w := &waiter[P]{got: make(chan result[P], 1)}
	elem := l.line.PushBack(w)
	l.mu.Unlock()
	l.waiting()

	select {
	case r := <-w.got:
		return l.lease(r)
	case <-ctx.Done():
	}
	l.mu.Lock()
	select {
	case r := <-w.got: // served in the same moment: give it to the next
		l.mu.Unlock()
		if lease, err := l.lease(r); err == nil {
			lease.Release()
		}
	default:
		l.line.Remove(elem)
		l.mu.Unlock()
	}
	return nil, context.Cause(ctx)
}

func (l *Lane[P]) lease(r result[P]) (*Lease[P], error) {
	if r.err != nil {
		return nil, r.err
	}
	return &Lease[P]{Pod: r.place.pod, lane: l, at: r.place}, nil
}

// free returns the open pod with the fewest requests that has a place, or nil.
// Among equals the oldest is chosen, so that the newest fall idle and can be
// stopped. REQUIRES: l.mu is held.
func (l *Lane[P]) free() *place[P] {
	var best *place[P]
	for _, at := range l.pods {
		if (l.concurrency == 0 || at.held < l.concurrency) && (best == nil || at.held < best.held) {
			best = at
		}
	}
	return best
}

// serve gives free places to who waits. REQUIRES: l.mu is held.
func (l *Lane[P]) serve() {
	for l.line.Len() > 0 {
		at := l.free()
		if at == nil {
			return
		}
		w := l.line.Remove(l.line.Front()).(*waiter[P])
		at.held++
		l.held++
		w.got <- result[P]{place: at} // never blocks: capacity 1 and removed from the line
	}
}

// Release gives the place back. Further calls do nothing.
func (le *Lease[P]) Release() {
	le.once.Do(func() {
		l := le.lane
		l.mu.Lock()
		defer l.mu.Unlock()
		le.at.held--
		l.held--
		if le.at.closed == nil {
			l.serve()
		} else if le.at.held == 0 {
			l.rest = slices.DeleteFunc(l.rest, func(at *place[P]) bool { return at == le.at })
			close(le.at.closed)
		}
	})
}

// Open adds a pod, which takes requests from now on. One that was closed may be
// opened again; the channel that its Close returned then means nothing.
func (l *Lane[P]) Open(pod P) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := &place[P]{pod: pod}
	if i := slices.IndexFunc(l.rest, func(at *place[P]) bool { return at.pod == pod }); i >= 0 {
		at = l.rest[i]
		at.closed = nil
		l.rest = slices.Delete(l.rest, i, i+1)
	}
	l.pods = append(l.pods, at)
	l.refuse = nil
	l.serve()
}

// Close removes a pod: it gets no further request. The channel is closed when
// the last request that it has is done. An unknown pod is done already.
func (l *Lane[P]) Close(pod P) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.close(pod)
}

// CloseIdle closes the pod unless it has requests, and reports whether it is
// closed.
func (l *Lane[P]) CloseIdle(pod P) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heldIn(pod) > 0 {
		return false
	}
	l.close(pod)
	return true
}

// close does what Close says. REQUIRES: l.mu is held.
func (l *Lane[P]) close(pod P) <-chan struct{} {
	is := func(at *place[P]) bool { return at.pod == pod }
	if i := slices.IndexFunc(l.rest, is); i >= 0 {
		return l.rest[i].closed
	}
	done := make(chan struct{})
	i := slices.IndexFunc(l.pods, is)
	if i < 0 || l.pods[i].held == 0 {
		close(done)
	} else {
		l.rest = append(l.rest, l.pods[i])
	}
	if i >= 0 {
		l.pods[i].closed = done
		l.pods = slices.Delete(l.pods, i, i+1)
	}
	return done
}

// Refuse answers err to all who wait and, until the next Open or Accept, to
// all who arrive while there is no open pod. With open pods it does nothing.
func (l *Lane[P]) Refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pods) > 0 {
		return
	}
	l.refuse = err
	for l.line.Len() > 0 {
		l.line.Remove(l.line.Front()).(*waiter[P]).got <- result[P]{err: err}
	}
}

// Accept ends a Refuse: who arrives waits again.
func (l *Lane[P]) Accept() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = nil
}

// Counts returns how many requests wait and how many hold a place.
func (l *Lane[P]) Counts() (waiting, held int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.line.Len(), l.held
}

// Held returns how many requests hold a place in a pod.
func (l *Lane[P]) Held(pod P) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heldIn(pod)
}

// heldIn is Held. REQUIRES: l.mu is held.
func (l *Lane[P]) heldIn(pod P) int {
	for _, list := range [][]*place[P]{l.pods, l.rest} {
		for _, at := range list {
			if at.pod == pod {
				return at.held
			}
		}
	}
	return 0
}
