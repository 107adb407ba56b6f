package broker

import (
	"context"
	"fmt"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"

	"aisle.dev/aisle/activator/broker/ping"
	"aisle.dev/aisle/internal/problem"
)

// openPing reads a PingSource.
func openPing(o *sourcesv1.PingSource) (*ping.Source, error) {
	s, err := ping.New(o)
	if err != nil {
		return nil, err
	}
	if _, err := resolve(s.Sink, s.Namespace); err != nil {
		return nil, fmt.Errorf("spec.sink: %w", err)
	}
	return s, nil
}

// sendPing gives a tick's event to its sink. One of our Brokers takes it once
// however often it is sent, as long as JetStream remembers its id.
func (b *Broker) sendPing(ctx context.Context, s *ping.Source, ev ce.Event) error {
	to, err := resolve(s.Sink, s.Namespace)
	if err != nil {
		return err
	}
	if to.broker.Name == "" {
		reply, o := b.post(ctx, to, policy{timeout: attemptTimeout}, ev)
		reply.release() // it goes nowhere
		if o.err != nil && !retriable(o.status) {
			return fmt.Errorf("%w: %w", ping.ErrRefused, o.err)
		}
		return o.err
	}
	stream := b.brokers()[to.broker]
	if stream == nil {
		return fmt.Errorf("there is no Broker %s", to.broker)
	}
	err = b.admit(ctx, stream, []ce.Event{ev}, nats.Header{jetstream.MsgIDHeader: {ev.ID()}})
	if err != nil && !retriable(problem.Status(err)) {
		return fmt.Errorf("%w: %w", ping.ErrRefused, err)
	}
	return err
}

// pingMemory keeps what is remembered of PingSources.
type pingMemory struct{ *bucket }

// Load implements [ping.Memory].
func (m pingMemory) Load(ctx context.Context, key string) (mark ping.Mark, known bool, err error) {
	known, err = m.load(ctx, key, &mark)
	return mark, known, err
}

// Store implements [ping.Memory].
func (m pingMemory) Store(ctx context.Context, key string, mark ping.Mark) error {
	return m.store(ctx, key, mark)
}

// Forget implements [ping.Memory].
func (m pingMemory) Forget(ctx context.Context, key string) error { return m.forget(ctx, key) }
