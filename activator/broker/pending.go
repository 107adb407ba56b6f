package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"aisle.dev/aisle/internal/client"
)

// listPending lists the Triggers for which something waits, by name; also
// those of deleted Brokers. Where
// nothing is deferred, events that were not yet looked at are all counted,
// whether the Trigger takes them or not.
func (b *Broker) listPending(w http.ResponseWriter, r *http.Request) error {
	items := []client.Pending{}
	for _, t := range b.config.Load().triggers {
		p, err := b.pending(r.Context(), t)
		if err != nil {
			return err
		}
		if p.Events > 0 {
			items = append(items, p)
		}
	}
	for _, p := range b.parkedBrokers() {
		items = append(items, p.pending...)
	}
	slices.SortFunc(items, func(a, b client.Pending) int { return cmp.Compare(a.Trigger, b.Trigger) })
	return answer(w, map[string]any{"items": items})
}

func (b *Broker) pending(ctx context.Context, t *trigger) (client.Pending, error) {
	p := client.Pending{Trigger: t.name.String(), Broker: t.broker.String()}
	released := ""
	if g, ok := b.gates.Load(t.name); ok {
		waiting, decision := g.(*gate).state()
		if !decision.Release {
			p.Events, p.Oldest = waiting.Waiting, waiting.Oldest
			p.Until, p.Reason = decision.Next, decision.Why
			return p, nil
		}
		released = "; released: " + decision.Why
	}
	st, err := b.store.js.Stream(ctx, t.stream.name)
	if err != nil {
		return p, fmt.Errorf("look at the stream of Broker %s: %w", t.broker, err)
	}
	cons, err := st.Consumer(ctx, t.consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return p, nil // it has just been deleted
	}
	if err != nil {
		return p, fmt.Errorf("look at what waits for Trigger %s: %w", t.name, err)
	}
	info := cons.CachedInfo()
	p.Events, p.Retrying = int(info.NumPending)+info.NumAckPending, info.NumRedelivered
	if p.Events == 0 {
		return p, nil
	}
	p.Reason = "being delivered" + released
	if t.deferral != nil && released == "" {
		p.Reason = "not looked at yet" // Run has just begun with it
	}
	if p.Retrying > 0 {
		p.Reason = fmt.Sprintf("%d were tried before%s", p.Retrying, released)
	}
	if until, closed := b.closed(t); closed {
		p.Until, p.Reason = until, whyClosed
	}
	switch m, err := st.GetMsg(ctx, info.AckFloor.Stream+1); {
	case err == nil:
		p.Oldest = m.Time
	case !errors.Is(err, jetstream.ErrMsgNotFound): // it may just have gone
		return p, fmt.Errorf("look at what waits for Trigger %s: %w", t.name, err)
	}
	return p, nil
}

func (b *Broker) listPingSources(w http.ResponseWriter, _ *http.Request) error {
	items := []client.Ticks{}
	for _, s := range b.config.Load().pings {
		if status, known := b.pings.Status(s.Key()); known {
			items = append(items, client.Ticks{Name: s.Key(), Last: status.Last.UTC(), Next: status.Next.UTC(), Trouble: status.Trouble})
		}
	}
	return answer(w, map[string]any{"items": items})
}
