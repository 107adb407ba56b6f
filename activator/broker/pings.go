package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

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
		_, o := b.post(ctx, to, policy{timeout: attemptTimeout}, ev)
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

// pingMemory keeps what is remembered of PingSources in a bucket of the store,
// which is made when there is something to remember.
type pingMemory struct {
	js jetstream.JetStream

	mu sync.Mutex // guards kv
	kv jetstream.KeyValue
}

func (m *pingMemory) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kv == nil {
		kv, err := m.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: "pingsources", Description: "The last tick of each PingSource", Storage: jetstream.FileStorage, History: 1,
		})
		if err != nil {
			return nil, fmt.Errorf("open the memory of PingSources: %w", err)
		}
		m.kv = kv
	}
	return m.kv, nil
}

// Load implements [ping.Memory].
func (m *pingMemory) Load(ctx context.Context, key string) (mark ping.Mark, known bool, err error) {
	kv, err := m.bucket(ctx)
	if err != nil {
		return mark, false, err
	}
	entry, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return mark, false, nil
	}
	if err == nil {
		err = json.Unmarshal(entry.Value(), &mark)
	}
	if err != nil {
		return mark, false, fmt.Errorf("read the last tick of %s: %w", key, err)
	}
	return mark, true, nil
}

// Store implements [ping.Memory].
func (m *pingMemory) Store(ctx context.Context, key string, mark ping.Mark) error {
	kv, err := m.bucket(ctx)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	_, err = kv.Put(ctx, key, raw)
	return err
}

// Forget implements [ping.Memory].
func (m *pingMemory) Forget(ctx context.Context, key string) error {
	kv, err := m.bucket(ctx)
	if err != nil {
		return err
	}
	return kv.Purge(ctx, key)
}
