package broker

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Run delivers events until ctx ends, and then waits for the deliveries that
// are under way, at most Options.Drain. Ingress refuses from then on.
func (b *Broker) Run(ctx context.Context) error {
	running := map[types.NamespacedName]*dispatcher{}
	pinging := make(chan struct{})
	pings, stopPings := context.WithCancel(ctx)
	defer stopPings()
	go func() {
		defer close(pinging)
		b.pings.Run(pings)
	}()
	for ctx.Err() == nil {
		wait := b.trimHistory(ctx)
		ended, err := b.reconcile(ctx, running)
		wait = min(wait, b.sweepParked(ctx, ended))
		if err != nil && ctx.Err() == nil {
			b.log.Error("not all Triggers are delivered to; it is tried again", "err", err)
			wait = ownRetry
		}
		next := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-b.changed:
		case <-b.trimNow:
		case <-b.told:
			if b.opts.StatusChanged != nil {
				b.opts.StatusChanged()
			}
		case <-next.C:
		}
		next.Stop()
	}
	// 1. Nothing new comes in. 2. Deliveries end. The store stays open: what
	// subscribers reply is still to be written.
	b.stopping.Store(true)
	b.end()
	stopPings()
	<-pinging
	b.closeGates(func(*gate) bool { return true })
	for _, d := range running {
		d.cancel()
	}
	for _, d := range running {
		<-d.ended
	}
	return nil
}

// reconcile makes the dispatchers those of the Triggers applied, and says
// whether any has ended.
func (b *Broker) reconcile(ctx context.Context, running map[types.NamespacedName]*dispatcher) (ended bool, err error) {
	c := b.config.Load()
	b.closeGates(func(g *gate) bool { return c.triggers[g.trigger.name] != g.trigger })
	var going []*dispatcher
	for name, d := range running {
		if t := c.triggers[name]; t == nil || t.stream != d.stream || t.deferral != nil {
			d.cancel()
			going = append(going, d)
			delete(running, name)
		}
	}
	for _, d := range going { // all at once: each may take Options.Drain
		<-d.ended
		b.metrics.forget(d.trigger)
	}
	var errs []error
	for name, t := range c.triggers {
		if t.deferral != nil {
			b.openGate(ctx, t).nudge()
			continue
		}
		if d := running[name]; d != nil {
			d.nudge() // it finds the changed Trigger by itself
			continue
		}
		d, err := b.newDispatcher(ctx, t)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		running[name] = d
	}
	return len(going) > 0, errors.Join(errs...)
}
