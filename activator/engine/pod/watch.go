package pod

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Probes are what a pod is asked from its start to its end.
type Probes struct {
	Startup   *Probe // holds the others back until it has passed; nil: they begin at once
	Readiness Probe
	Liveness  *Probe // nil: a pod lives as long as its process
}

// Watch probes the pod until ctx ends, or until the pod must be ended because
// its startup or liveness probe failed: its error says which and why. When
// ctx ends, its error wraps ctx's cause, and says what the last readiness
// probe found if the pod was never ready.
//
// ready is called, one call after the other, with nil whenever the pod has
// become ready, and with the reason whenever it no longer is. A pod is not
// ready at first.
func (p *Pod) Watch(ctx context.Context, probes Probes, ready func(why error)) error {
	return probes.watch(ctx, p.Started, func(ctx context.Context, probe Probe) (answer, error) {
		a, err := probe.once(ctx, p.Address)
		if a.listens {
			p.phases.listening()
		}
		return a, err
	}, func(a answer, why error) {
		if why == nil {
			p.phases.ready(a.timing)
		}
		ready(why)
	})
}

// attempt is how a probe is tried.
type attempt func(context.Context, Probe) (answer, error)

func (p Probes) watch(ctx context.Context, started time.Time, try attempt, ready func(answer, error)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w := watcher{try, started, false}
	if p.Startup != nil {
		passed := false
		last := w.follow(ctx, *p.Startup, unsettled, func(_ answer, err error) bool {
			passed = err == nil
			if !passed {
				stop(fmt.Errorf("failed its startup probe %s", err))
			}
			return false
		})
		if !passed {
			return ended(ctx, "startup", last)
		}
	}
	var live sync.WaitGroup
	defer live.Wait()
	defer stop(nil) // before the waiting
	if p.Liveness != nil {
		live.Go(func() {
			w.follow(ctx, *p.Liveness, passing, func(_ answer, err error) bool {
				stop(fmt.Errorf("failed its liveness probe %s", err))
				return false
			})
		})
	}
	ever := false
	last := watcher{try, started, p.Readiness.Period == 0}.follow(ctx, p.Readiness, failing, func(a answer, err error) bool {
		if err != nil {
			err = fmt.Errorf("failed its readiness probe %s", err)
		} else {
			ever = true
		}
		ready(a, err)
		return true
	})
	if ever {
		return context.Cause(ctx)
	}
	return ended(ctx, "readiness", last)
}

// ended is why a watch ended before its probe had ever passed.
func ended(ctx context.Context, probe string, last error) error {
	return fmt.Errorf("%w; the last %s probe: %w", context.Cause(ctx), probe, last)
}

// verdict is what a probe's attempts have come to.
type verdict int

const (
	unsettled verdict = iota
	passing
	failing
)

type watcher struct {
	try     attempt
	started time.Time // of the process
	soon    bool      // no period is declared: until it passes, as often as makes sense
}

// How long is waited between attempts on a pod that is to be seen as soon as
// it is ready: a small part of what the start has taken so far, so that a pod
// that is up after 40 ms is seen a millisecond later and one that takes ten
// seconds costs no processor that it needs itself.
const (
	minPause   = time.Millisecond
	maxPause   = 100 * time.Millisecond
	pauseShare = 32
)

// follow tries a probe until ctx ends or told returns false, and returns what
// the last failed attempt found. told is called whenever enough attempts in a
// row have come to another verdict than before: with nil, or with how often
// and why they failed.
//
// A pod whose port is still closed is looked at in between as well: its first
// real attempt comes when it listens, not a period later.
func (w watcher) follow(ctx context.Context, p Probe, now verdict, told func(answer, error) bool) (last error) {
	period, success, failure := p.Period, max(p.Success, 1), p.Failure
	if period <= 0 {
		period = defaultPeriod
	}
	if failure <= 0 {
		failure = defaultFailure
	}
	last = errors.New("not probed yet")
	since := w.started.Add(p.Delay) // when the verdict changed last
	due := since                    // the next attempt that counts, whatever it finds
	next := time.NewTimer(time.Until(due))
	defer next.Stop()
	for row, of := 0, unsettled; ; {
		select {
		case <-ctx.Done():
			return last
		case <-next.C:
		}
		a, err := w.try(ctx, p)
		if ctx.Err() != nil {
			return last // an attempt that was cut short has found nothing
		}
		found := passing
		if err != nil {
			found, last = failing, err
		}
		at := time.Now()
		pause := min(max(at.Sub(since)/pauseShare, minPause), maxPause)
		closed := errors.Is(err, errNotListening) && now != passing
		if closed && at.Before(due) {
			next.Reset(min(pause, due.Sub(at)))
			continue
		}
		if found != of {
			row, of = 0, found
		}
		row++
		switch {
		case found == now:
		case found == passing && row >= success:
			now, since = passing, at
			if !told(a, nil) {
				return last
			}
		case found == failing && row >= failure:
			now, since = failing, at
			if !told(a, fmt.Errorf("%d times in a row: %w", row, err)) {
				return last
			}
		}
		due = at.Add(period)
		switch {
		case w.soon && now != passing:
			due = at.Add(pause)
			next.Reset(pause)
		case closed:
			next.Reset(min(pause, period))
		default:
			next.Reset(period)
		}
	}
}
