package ping

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// Memory remembers, over restarts, up to which tick a source is done.
type Memory interface {
	Load(ctx context.Context, key string) (m Mark, known bool, err error)
	Store(ctx context.Context, key string, m Mark) error
	Forget(ctx context.Context, key string) error
}

// Send gives an event to the source's sink. An error that wraps [ErrRefused]
// is final for this event; any other is tried again.
type Send func(ctx context.Context, s *Source, ev ce.Event) error

// ErrRefused is in the chain of an error where the sink would refuse the
// event again.
var ErrRefused = errors.New("refused")

// Status is how a source stands.
type Status struct {
	Last    time.Time // tick whose event the sink took last, since this process runs
	Next    time.Time // when it is looked at again: the next tick, or the next attempt
	Trouble string    // why the last attempt failed; empty after one that did not
}

const (
	// maxWait bounds how long the timer runs: it stands still while the
	// machine sleeps, and knows nothing of a clock that is set.
	maxWait = time.Minute

	firstPause = 100 * time.Millisecond
	maxPause   = time.Minute

	rememberWithin = 5 * time.Second
)

// Runner sends the events of all sources.
type Runner struct {
	send   Send
	memory Memory
	log    *slog.Logger
	clock  func() time.Time

	changed chan struct{} // there is something to look at; holds one

	mu      sync.Mutex // guards entries, and what of an entry says so
	entries map[string]*entry
}

// entry is a source at work. At most one goroutine, while busy, deals with it.
type entry struct {
	key string

	// Of the goroutine that deals with it.
	mark   Mark
	loaded bool
	failed int // attempts in a row

	// Guarded by Runner.mu.
	source *Source // nil: to be forgotten
	busy   bool
	status Status
}

// NewRunner returns a runner without sources.
func NewRunner(send Send, memory Memory, log *slog.Logger) *Runner {
	return &Runner{
		send: send, memory: memory, log: log, clock: time.Now,
		changed: make(chan struct{}, 1), entries: map[string]*entry{},
	}
}

// Set says which sources there are, all of them. One that was among them and
// no longer is, is forgotten. It does not wait for anything.
func (r *Runner) Set(sources []*Source) {
	r.mu.Lock()
	for _, e := range r.entries {
		e.source = nil
	}
	for _, s := range sources {
		e := r.entries[s.Key()]
		if e == nil {
			e = &entry{key: s.Key()}
			r.entries[s.Key()] = e
		}
		e.source = s
	}
	for _, e := range r.entries {
		e.status.Next = time.Time{} // look at each at once
	}
	r.mu.Unlock()
	r.look()
}

// Status says how a source stands, by its key.
func (r *Runner) Status(key string) (s Status, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[key]
	if e == nil || e.source == nil {
		return Status{}, false
	}
	return e.status, true
}

// Run sends events until ctx ends, and then waits for what is under way.
func (r *Runner) Run(ctx context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var before time.Time
	for {
		// Without its monotonic part, since it is compared with ticks.
		now := r.clock().Round(0)
		wait, any := r.step(ctx, now, now.Before(before), &working)
		before = now
		var fire <-chan time.Time
		if any {
			timer.Reset(min(wait, maxWait))
			fire = timer.C
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		case <-fire:
		}
	}
}

// step starts to deal with the sources whose time has come, with all of them
// after the clock was set back. It says how long there is nothing to do, if
// any source waits for its time.
func (r *Runner) step(ctx context.Context, now time.Time, all bool, working *sync.WaitGroup) (wait time.Duration, any bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		switch {
		case e.busy: // it says so when it is done
		case all, !e.status.Next.After(now):
			e.busy = true
			s := e.source
			working.Go(func() { r.deal(ctx, e, s) })
		default:
			if d := e.status.Next.Sub(now); !any || d < wait {
				wait, any = d, true
			}
		}
	}
	return wait, any
}

// deal does once what is due for a source.
func (r *Runner) deal(ctx context.Context, e *entry, s *Source) {
	var sent, next time.Time
	var err error
	if s == nil {
		err = r.memory.Forget(ctx, e.key)
		e.loaded = false
	} else {
		sent, next, err = r.tick(ctx, e, s)
	}
	refused := errors.Is(err, ErrRefused)
	if err != nil && ctx.Err() == nil && (e.failed == 0 || refused) {
		r.log.Warn("a PingSource cannot be served", "source", e.key, "again", !refused, "err", err)
	}
	if err == nil || refused {
		e.failed = 0
	} else {
		next = r.clock().Round(0).Add(min(firstPause<<min(e.failed, 20), maxPause))
		e.failed++
	}

	r.mu.Lock()
	defer r.look()
	defer r.mu.Unlock()
	e.busy = false
	if s == nil && e.source == nil && err == nil {
		delete(r.entries, e.key)
		return
	}
	e.status.Next = next
	if e.source != s {
		e.status.Next = time.Time{} // it was set meanwhile
	}
	e.status.Trouble = ""
	if err != nil {
		e.status.Trouble = err.Error()
	}
	if !sent.IsZero() {
		e.status.Last = sent
	}
}

// tick sends the tick that is due, if there is one, and says when the next
// one is.
func (r *Runner) tick(ctx context.Context, e *entry, s *Source) (sent, next time.Time, err error) {
	if !e.loaded {
		m, known, err := r.memory.Load(ctx, e.key)
		if err != nil {
			return sent, next, err
		}
		if known {
			e.mark = m
		}
		e.loaded = true
	}
	now := r.clock().Round(0)
	if m := s.resume(e.mark, now); m != e.mark {
		r.remember(ctx, e, m)
	}
	tick, due := s.due(e.mark, now)
	if !due {
		if e.mark.UpTo.After(now) {
			now = e.mark.UpTo
		}
		return sent, s.Schedule.Next(now), nil
	}
	if err = r.send(ctx, s, s.Event(tick)); err == nil {
		sent = tick
	} else if !errors.Is(err, ErrRefused) {
		return sent, next, err
	}
	r.remember(ctx, e, Mark{Schedule: s.written, UpTo: tick.UTC()})
	return sent, s.Schedule.Next(tick), err
}

// remember notes up to where a source is done. Where that cannot be stored,
// this process knows it all the same; another may send the tick again, with
// the same id.
func (r *Runner) remember(ctx context.Context, e *entry, m Mark) {
	e.mark = m
	// What was sent is remembered, whoever wants to stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rememberWithin)
	defer cancel()
	if err := r.memory.Store(ctx, e.key, m); err != nil {
		r.log.Warn("the last tick of a PingSource is not remembered; after a restart its event may be sent again, with the same id", "source", e.key, "err", err)
	}
}

func (r *Runner) look() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}
