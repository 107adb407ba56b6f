package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"aisle.dev/aisle/internal/client"
)

// parked is what a Broker has left that is not declared any more: events that
// those of its Triggers that are still declared had yet to get. Nothing of it
// changes until the Broker comes back, its Triggers go or its time is over.
type parked struct {
	broker  string // NAMESPACE/NAME
	stream  string
	until   time.Time
	pending []client.Pending // by Trigger
}

func (p parked) events() int {
	n := 0
	for _, w := range p.pending {
		n = max(n, w.Events) // the same ones may wait for several Triggers
	}
	return n
}

// parkedBrokers is what deleted Brokers have left, as it was last seen.
func (b *Broker) parkedBrokers() []parked {
	if p := b.parked.Load(); p != nil {
		return *p
	}
	return nil
}

// sweep deletes what belongs to no object any more, and what Brokers have left
// whose time is over. REQUIRES: b.apply is held.
func (b *Broker) sweep(ctx context.Context, c *config) error {
	declared := map[string]bool{}
	for _, s := range c.brokers {
		declared[s.name] = true
	}
	wanted := map[[2]string]bool{}
	for _, t := range c.triggers {
		wanted[[2]string{t.stream.name, t.consumer}] = true
	}
	var errs []error
	var left []parked
	list := b.store.js.StreamNames(ctx, jetstream.WithStreamListSubject("aisle.events.*"))
	for name := range list.Name() {
		if declared[name] {
			errs = append(errs, b.sweepConsumers(ctx, name, wanted))
			continue
		}
		// With its Trigger goes what a Trigger had yet to get, here too.
		if err := b.sweepConsumers(ctx, name, c.orphans); err != nil {
			errs = append(errs, err)
			continue
		}
		p, err := b.park(ctx, name)
		errs = append(errs, err)
		if p != nil {
			left = append(left, *p)
		}
	}
	b.parked.Store(&left)
	if err := errors.Join(append(errs, list.Err())...); err != nil {
		return fmt.Errorf("delete what is not declared any more: %w", err)
	}
	return nil
}

func (b *Broker) sweepConsumers(ctx context.Context, name string, wanted map[[2]string]bool) error {
	_, consumers, err := b.consumersOf(ctx, name)
	if err != nil {
		return err
	}
	for _, info := range consumers {
		if wanted[[2]string{name, info.Name}] {
			continue
		}
		if err := b.store.js.DeleteConsumer(ctx, name, info.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
	}
	return nil
}

// consumersOf gives a stream with the consumers of its Triggers: the others
// are who reads along.
func (b *Broker) consumersOf(ctx context.Context, name string) (jetstream.Stream, []*jetstream.ConsumerInfo, error) {
	st, err := b.store.js.Stream(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	var all []*jetstream.ConsumerInfo
	list := st.ListConsumers(ctx)
	for info := range list.Info() {
		if info.Config.Durable != "" {
			all = append(all, info)
		}
	}
	return st, all, list.Err()
}

// park keeps what a Broker has left that is not declared any more, or deletes
// it and gives nil: where nothing waits for a Trigger, and where it has been
// so for long.
func (b *Broker) park(ctx context.Context, name string) (*parked, error) {
	st, consumers, err := b.consumersOf(ctx, name)
	if err != nil {
		return nil, err
	}
	p := &parked{stream: name, broker: strings.TrimPrefix(st.CachedInfo().Config.Description, brokerDescription)}
	for _, info := range consumers {
		if n := int(info.NumPending) + info.NumAckPending; n > 0 {
			p.pending = append(p.pending, client.Pending{
				Broker: p.broker, Trigger: strings.TrimPrefix(info.Config.Description, triggerDescription), Events: n, Retrying: info.NumRedelivered,
			})
		}
	}
	now, since := time.Now(), time.Time{}
	known, err := b.deleted.load(ctx, name, &since)
	if err != nil {
		return nil, err
	}
	if !known {
		since = now
	}
	p.until = since.Add(b.opts.MaxAge)
	switch over := !now.Before(p.until); {
	case over && len(p.pending) > 0:
		b.log.Error("a Broker was deleted long ago and has not come back: the events that were not delivered are removed", "broker", p.broker, "undelivered", p.events(), "deleted", since)
		fallthrough
	case len(p.pending) == 0:
		if err := b.store.js.DeleteStream(ctx, name); err != nil {
			return nil, err
		}
		return nil, b.deleted.forget(ctx, name)
	case !known:
		if err := b.deleted.store(ctx, name, since); err != nil {
			return nil, err
		}
	}
	for i := range p.pending {
		p.pending[i].Until, p.pending[i].Reason = p.until.UTC(), "its Broker is deleted: they wait for its return, and are removed then"
	}
	if !slices.ContainsFunc(b.parkedBrokers(), func(was parked) bool { return was.stream == name }) {
		b.log.Warn("a Broker that is not declared any more has events that were not delivered; they are kept for its return, and then removed", "broker", p.broker, "undelivered", p.events(), "until", p.until)
	}
	return p, nil
}

// sweepParked sweeps where the time of what a Broker has left is over, or
// where it may have been delivered since, and says after how long to look again.
func (b *Broker) sweepParked(ctx context.Context, delivered bool) time.Duration {
	if wait := b.parkedFor(); wait > 0 && !delivered {
		return wait
	}
	b.apply.Lock() // an Apply may be about to say what is left
	defer b.apply.Unlock()
	if len(b.parkedBrokers()) == 0 {
		return b.opts.MaxAge
	}
	if err := b.sweep(ctx, b.config.Load()); err != nil {
		if ctx.Err() == nil {
			b.log.Error("what a deleted Broker has left stays; it is tried again", "err", err)
		}
		return trimEvery
	}
	b.statusChanged()
	return b.parkedFor()
}

// parkedFor is how long nothing is over of what deleted Brokers have left.
func (b *Broker) parkedFor() time.Duration {
	wait := b.opts.MaxAge
	for _, p := range b.parkedBrokers() {
		wait = min(wait, time.Until(p.until))
	}
	return wait
}
