package compose

import (
	"context"
	"fmt"
	"sync"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/product"
)

const (
	// readyFor is how long after an answer the GPU service is known to be
	// ready. Knative takes the last pod away when a revision had nothing to do
	// for its stable window, which is 6 seconds at least: whoever answered
	// within this has a pod, if nothing has killed it. No place needs to tell:
	// an answer that waited for a pod to start proves one as well as any other.
	readyFor = 5 * time.Second
	// readyWithin, and twice the fastest answer so far, is how long a service
	// that is known to be ready is waited for. One that takes longer has lost
	// its pods, or more to do than it can.
	readyWithin = time.Second
	// wakeFor bounds a request that wakes a service. A node with a GPU takes up
	// to ten minutes to come; a cluster whose proxy holds requests for less
	// fails this one earlier, and the next product's takes its place.
	wakeFor = 15 * time.Minute
	// wakeBudget bounds the products, in bytes of their JSON, in requests that
	// wake services and whose own answer is not waited for any more. What is
	// decoded and written anew of them takes as much again, twice at most.
	wakeBudget = product.MaxBody
)

// leg is one leg of a running composer.
type leg struct {
	composition.Leg
	*service          // its one; with variants, the GPU one
	cpu      *service // the CPU variant; nil: the leg has one service

	*readiness // of a leg with variants
}

// readiness is what is known of a leg's GPU service.
type readiness struct {
	mu      sync.Mutex
	seen    time.Time     // guarded by mu; when it answered last; zero: not since it failed, or was too slow
	fastest time.Duration // guarded by mu; of its answers, starts of pods not counted; 0: none yet
	waking  *attempt      // guarded by mu; the one request that wakes it; nil: there is none
}

func newLeg(spec composition.Leg, o *Options, closures *closures) (*leg, error) {
	l := &leg{Leg: spec, readiness: new(readiness)}
	names := spec.Services()
	var err error
	if l.service, err = newService(spec, names[0], o, closures); err != nil || spec.Variants == nil {
		return l, err
	}
	l.service.variant = category.GPU
	if l.cpu, err = newService(spec, names[1], o, closures); err == nil {
		l.cpu.variant = category.CPU
	}
	return l, err
}

// services are the leg's one, or its GPU and its CPU one.
func (l *leg) services() []*service {
	if l.cpu != nil {
		return []*service{l.service, l.cpu}
	}
	return []*service{l.service}
}

// state says what is known of the GPU service.
func (l *leg) state() (ready, waking bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready(time.Now()), l.waking != nil
}

// attempt is one product at one of a leg's two services.
type attempt struct {
	began  time.Time
	cancel context.CancelFunc
	done   chan struct{} // closed when r is there
	r      result

	// Guarded by the leg's mu, and fixed once done is closed. Of a GPU service.
	over  bool  // r is there
	given bool  // its product gave it up: r says nothing of the service
	kept  int64 // what it has of the composer's wakeBudget
}

// try asks a service about a product. When it is done, and before others hear
// of it, the attempt is given to after, unless that is nil.
func (c *Composer) try(ctx context.Context, s *service, p Product, after func(*attempt)) *attempt {
	a := &attempt{began: time.Now(), done: make(chan struct{})}
	ctx, a.cancel = context.WithTimeout(ctx, wakeFor)
	c.background.Go(func() {
		defer a.cancel()
		a.r = c.guarded(ctx, s, p)
		if after != nil {
			after(a)
		}
		close(a.done)
	})
	return a
}

// either asks a leg's GPU service, and its CPU one by the leg's rule. A GPU
// service that is not known to be ready is sent one product at a time, however
// many come: that one's request wakes it, and goes on when its product has been
// answered by the CPU service. The others wait for what becomes of it, or are
// answered by the CPU service. It returns by ctx's deadline.
func (c *Composer) either(ctx context.Context, l *leg, p Product) (r result) {
	start := time.Now()
	defer func() { r.LatencyMs = ms(time.Since(start)) }()
	if fields := l.reads.known(); fields != nil && !p.Has(fields) {
		r = l.result()
		r.skip(fields)
		return r
	}
	gpu, own, ready := c.turn(l, p) // own: this product's; gpu: the one that is waited for
	defer func() { c.leave(l, own, p) }()
	patience := time.NewTimer(l.patience(ready))
	defer patience.Stop()

	var cpu *attempt
	defer func() {
		if cpu != nil {
			cpu.cancel()
		}
	}()
	gpuDone, cpuDone := gpu.done, (chan struct{})(nil) // nil once looked at
	var failed *result                                 // what became of the GPU service, if it failed or is closed
	why, because := category.InsteadOfWaking, l.service.name+" is waking"
	standIn := func() {
		patience.Stop()
		cpu = c.try(ctx, l.cpu, p, nil)
		cpuDone = cpu.done
	}
	again := func() {
		if gpu, own, ready = c.turn(l, p); ready && cpu == nil {
			patience.Reset(l.patience(ready))
		}
		gpuDone = gpu.done
	}
	for {
		select {
		case <-patience.C:
			if ready {
				l.slow(own)
				because = fmt.Sprintf("%s has not answered within %s", l.service.name, time.Since(start).Round(time.Millisecond))
			}
			standIn()
		case <-gpuDone:
			gpuDone = nil
			switch {
			case gpu.r.unusable() && !gpu.given:
				failed = &gpu.r
				why, because = category.InsteadOfFailed, gpu.r.Reason
				if gpu.r.Outcome == category.Closed {
					why = category.InsteadOfClosed
				}
				switch {
				case cpu == nil:
					standIn()
				case cpuDone == nil:
					return neither(cpu.r, gpu.r, why)
				}
			case gpu == own:
				return gpu.r
			case cpu == nil || cpuDone == nil:
				again() // another product's request has woken it, or was given up
			}
		case <-cpuDone:
			if gpuDone != nil && isClosed(gpuDone) {
				continue // both are done: the GPU service's is looked at first
			}
			cpuDone = nil
			switch {
			case !cpu.r.unusable():
				return instead(cpu.r, why, because)
			case failed != nil:
				return neither(cpu.r, *failed, why)
			case gpuDone == nil:
				again()
			}
		case <-ctx.Done():
			r = l.result()
			r.fail(category.Timeout, "%s", l.explain(ctx, ctx.Err()))
			switch {
			case cpu == nil:
				return r
			case failed == nil:
				failed = &r
			}
			if <-cpu.done; cpu.r.unusable() { // it ends with ctx
				return neither(cpu.r, *failed, why)
			}
			return instead(cpu.r, why, because)
		}
	}
}

// turn gives the attempt at the GPU service to wait for: one of this product's
// own, where the service is known to be ready or nobody wakes it, else the one
// that wakes it.
func (c *Composer) turn(l *leg, p Product) (gpu, own *attempt, ready bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ready = l.ready(time.Now())
	if !ready && l.waking != nil {
		return l.waking, nil, false
	}
	own = c.try(c.life, l.service, p, func(a *attempt) { c.note(l, a) })
	if !ready {
		l.waking = own
	}
	return own, own, ready
}

// note takes from an attempt that is done what it says of the GPU service.
func (c *Composer) note(l *leg, a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.over = true
	outcome := string(a.r.Outcome)
	switch {
	case a.given:
		outcome = "given up"
	case a.r.unusable():
		l.seen = time.Time{}
	case a.r.Attempts > 0:
		l.seen = time.Now()
		took := time.Duration((a.r.LatencyMs - a.r.ColdMs) * float64(time.Millisecond))
		if took > 0 && (l.fastest == 0 || took < l.fastest) {
			l.fastest = took
		}
	}
	if l.waking == a {
		l.waking = nil
		c.metrics.wakes.Inc(l.Name, outcome)
	}
	c.kept.Release(a.kept)
}

// leave ends a product's own attempt at the GPU service, if it is not done,
// unless that is what wakes the service.
func (c *Composer) leave(l *leg, own *attempt, p Product) {
	if own == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if own.over {
		return
	}
	if l.waking == nil && !l.ready(time.Now()) {
		l.waking = own
	}
	if n := size(p); l.waking == own && c.kept.TryAcquire(n) {
		own.kept = n
		return
	}
	if own.given = true; l.waking == own {
		l.waking = nil
		c.metrics.wakes.Inc(l.Name, "given up")
	}
	own.cancel()
}

// slow says that the GPU service, known to be ready, did not answer in good
// time. It is not known to be ready any more, unless it has answered others.
func (l *leg) slow(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seen.After(a.began) {
		l.seen = time.Time{}
	}
}

// ready reports whether the GPU service is known to be ready.
//
// REQUIRES: l.mu is held.
func (l *leg) ready(now time.Time) bool { return !l.seen.IsZero() && now.Sub(l.seen) < readyFor }

// patience is how long the GPU service is waited for before the CPU one is
// asked.
func (l *leg) patience(ready bool) time.Duration {
	if !ready {
		return l.Variants.Wait
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.Variants.Wait, readyWithin+2*l.fastest)
}

// instead is the answer of the CPU service, which stands in for the GPU one.
func instead(r result, why category.StandIn, because string) result {
	r.StandIn = why
	if r.Outcome == category.Answered {
		r.Reason = because
	}
	return r
}

// neither is what becomes of a leg whose services have both failed or are
// closed: it is closed when both are, until one of them opens.
func neither(cpu, gpu result, why category.StandIn) result {
	r := cpu
	r.StandIn = why
	r.Reason = gpu.Reason + "; " + cpu.Reason
	switch {
	case gpu.Outcome != cpu.Outcome: // when the failed one is to be asked again
		r.Outcome, r.Opens = category.LegFailed, time.Time{}
		if gpu.Outcome == category.LegFailed {
			r.Failure, r.patience = gpu.Failure, gpu.patience
		}
	case cpu.Outcome == category.LegFailed:
		r.patience = max(gpu.patience, cpu.patience)
	case cpu.Opens.IsZero() || !gpu.Opens.IsZero() && gpu.Opens.Before(cpu.Opens):
		r.Opens, r.patience = gpu.Opens, gpu.patience
	}
	return r
}

// unusable reports whether the service failed or is closed: a leg's other
// service may still answer.
func (r *result) unusable() bool {
	return r.Outcome == category.Closed || r.Outcome == category.LegFailed && r.refused == nil
}

// size is about how many bytes are held with a product, as its JSON.
func size(p Product) int64 {
	n := len(p.JSON)
	if n == 0 {
		for _, i := range p.Images {
			n += len(i.Data)
		}
	}
	return int64(n)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
