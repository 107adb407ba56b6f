package broker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"aisle.dev/aisle/activator/broker/deferral"
)

// gate delivers the events of a Trigger that defers them: it is shut until
// what waits is released, and then open until there is nothing left to do for
// the Trigger. What comes while it is open is delivered along.
//
// Nothing is remembered but what the store knows anyway: what waits is what
// comes after the last event handed out, and a gate was open when the process
// ended if events had been handed out and not finished.
type gate struct {
	b       *Broker
	trigger *trigger
	cancel  context.CancelFunc
	ended   chan struct{}
	look    chan struct{} // capacity 1: decide again

	mu       sync.Mutex // guards what follows
	waiting  deferral.Snapshot
	decision deferral.Decision
}

const (
	// drainedEvery is how often an open gate looks whether it can shut.
	drainedEvery = time.Second

	// maxHold bounds how long a timer runs, which knows nothing of a clock
	// that is set or of a machine that slept.
	maxHold = time.Minute

	// passBy is how many events that are not for the Trigger may pile up
	// before it: they keep history from being trimmed. passAtOnce bounds how
	// many are held while they are let by.
	passBy     = 10_000
	passAtOnce = 16
)

// openGate makes sure that a Trigger that defers its events is worked for.
func (b *Broker) openGate(ctx context.Context, t *trigger) *gate {
	if g, ok := b.gates.Load(t.name); ok {
		return g.(*gate)
	}
	ctx, cancel := context.WithCancel(ctx)
	g := &gate{b: b, trigger: t, cancel: cancel, ended: make(chan struct{}), look: make(chan struct{}, 1)}
	b.gates.Store(t.name, g)
	go func() {
		defer close(g.ended)
		g.run(ctx)
	}()
	return g
}

// closeGates ends the gates that are chosen, and waits for them.
func (b *Broker) closeGates(choose func(*gate) bool) {
	var chosen []*gate
	for _, v := range b.gates.Range {
		if g := v.(*gate); choose(g) {
			g.cancel()
			chosen = append(chosen, g)
		}
	}
	for _, g := range chosen {
		<-g.ended
		b.gates.Delete(g.trigger.name)
		b.metrics.forget(g.trigger)
	}
}

func (g *gate) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := g.hold(ctx)
		if err == nil {
			err = g.deliver(ctx)
		}
		if err != nil && ctx.Err() == nil {
			g.b.log.Error("deferred events cannot be delivered; it is tried again", "trigger", g.trigger.name, "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(ownRetry):
			}
		}
	}
}

func (g *gate) decide(waiting deferral.Snapshot, d deferral.Decision) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting, g.decision = waiting, d
}

// state says what waits, and for what; released events wait no more.
func (g *gate) state() (deferral.Snapshot, deferral.Decision) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting, g.decision
}

// hold returns when what waits is to be delivered.
func (g *gate) hold(ctx context.Context) error {
	info, err := g.info(ctx)
	if err != nil {
		return err
	}
	if info.NumAckPending > 0 {
		g.decide(deferral.Snapshot{}, deferral.Decision{Release: true, Why: "deliveries had begun"})
		return nil
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	arrived := make(chan seen, 256)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer stop() // before it is waited for
	reader.Go(func() { g.read(reading, info.Delivered.Stream+1, arrived) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	var waiting deferral.Snapshot
	others := 0
	for {
		waiting.Full = g.trigger.stream.bytes.Load() > g.b.opts.MaxBytes/4*3
		now := time.Now().Round(0) // without its monotonic part: it is compared with times of the store
		d := g.trigger.deferral.Decide(now, waiting)
		if waiting.Waiting == 0 && (others >= passBy || others > 0 && waiting.Full) {
			n, err := g.pass(ctx, others)
			if err != nil {
				return err
			}
			if others -= n; others > 0 { // the store hands them out in a moment
				time.AfterFunc(drainedEvery, g.nudge)
			}
		}
		until, closed := g.b.closed(g.trigger)
		closed = closed && d.Release
		if closed {
			d = deferral.Decision{Next: until, Why: whyClosed}
		}
		g.decide(waiting, d)
		if d.Release {
			g.b.log.Info("deferred events are released", "trigger", g.trigger.name, "events", waiting.Waiting, "why", d.Why)
			return nil
		}
		var fire <-chan time.Time
		if !d.Next.IsZero() && !closed { // it is said when it opens
			timer.Reset(min(d.Next.Sub(now), maxHold))
			fire = timer.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-fire:
		case <-g.look:
		case s := <-arrived:
			switch {
			case s.err != nil:
				return s.err
			case s.mine:
				waiting.Add(s.accepted, s.expiry)
			default:
				others++
			}
		}
	}
}

func (g *gate) nudge() {
	select {
	case g.look <- struct{}{}:
	default:
	}
}

// pass acknowledges the next n events, of which none is for the Trigger. It
// says how many it got.
func (g *gate) pass(ctx context.Context, n int) (passed int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("let by what is not for Trigger %s: %w", g.trigger.name, err)
		}
	}()
	cons, err := g.b.store.js.Consumer(ctx, g.trigger.stream.name, g.trigger.consumer)
	if err != nil {
		return 0, err
	}
	for passed < n {
		batch, err := cons.FetchNoWait(min(n-passed, passAtOnce))
		if err != nil {
			return passed, err
		}
		got := 0
		for m := range batch.Messages() {
			if err := m.DoubleAck(ctx); err != nil { // at the end of it none may count as under way
				return passed, err
			}
			got++
		}
		if got == 0 {
			return passed, batch.Error()
		}
		passed += got
	}
	return passed, nil
}

// seen is an event that was read, and not handed out.
type seen struct {
	mine             bool // the Trigger takes it
	accepted, expiry time.Time
	err              error
}

// read tells of the events from a sequence on, until ctx ends.
func (g *gate) read(ctx context.Context, from uint64, arrived chan<- seen) {
	tell := func(s seen) bool {
		select {
		case arrived <- s:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for m, err := range g.b.store.messages(ctx, g.trigger.stream.name, from, 0) {
		if err != nil {
			tell(seen{err: fmt.Errorf("read what waits: %w", err)})
			return
		}
		s := seen{accepted: m.time}
		ev, err := fromMessage(m.header, nil)
		switch only := m.header.Get(onlyHeader); {
		case err != nil:
			s.mine = true // an event in structured mode, without its data: who delivers it will see
		case only != "":
			s.mine = only == g.trigger.name.String()
		default:
			s.mine = g.trigger.filter.takes(ev)
		}
		if err == nil {
			if text, ok := ev.Extensions()["expirytime"].(string); ok {
				s.expiry, _ = time.Parse(time.RFC3339, text) // one that is no time says nothing
			}
		}
		if !tell(s) {
			return
		}
	}
}

// deliver delivers until there is nothing left to do.
func (g *gate) deliver(ctx context.Context) error {
	d, err := g.b.newDispatcher(ctx, g.trigger)
	if err != nil {
		return err
	}
	defer func() {
		d.cancel()
		<-d.ended
	}()
	look := time.NewTicker(drainedEvery)
	defer look.Stop()
	for {
		drained := look.C
		if _, closed := g.b.closed(g.trigger); closed {
			drained = nil // nothing can happen until it is open
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.look:
			d.nudge()
			continue
		case <-drained:
		}
		info, err := g.info(ctx)
		if err != nil {
			return err
		}
		if info.NumPending == 0 && info.NumAckPending == 0 {
			return nil
		}
	}
}

func (g *gate) info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	cons, err := g.b.store.js.Consumer(ctx, g.trigger.stream.name, g.trigger.consumer)
	if err != nil {
		return nil, fmt.Errorf("look at what waits for Trigger %s: %w", g.trigger.name, err)
	}
	return cons.CachedInfo(), nil
}
