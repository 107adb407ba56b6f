package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"
)

// Stored is an event as a Broker has it.
type Stored struct {
	Broker types.NamespacedName
	Seq    uint64    // its place in the Broker, from 1; not without gaps
	Time   time.Time // when it was accepted
	Event  ce.Event
}

// ErrNoBroker says that no such Broker was applied.
var ErrNoBroker = errors.New("there is no such Broker")

// Read gives a Broker's events that are stored now, history included, from the
// sequence from on, oldest first. An error ends it.
func (b *Broker) Read(ctx context.Context, broker types.NamespacedName, from uint64) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		s := b.brokers()[broker]
		if s == nil {
			yield(Stored{}, fmt.Errorf("%w: %s", ErrNoBroker, broker))
			return
		}
		info, err := b.store.state(ctx, s.name)
		if err != nil {
			yield(Stored{}, err)
			return
		}
		if info.Msgs > 0 && from <= info.LastSeq {
			b.read(ctx, s, from, info.LastSeq, yield)
		}
	}
}

// Follow is Read that goes on with what is accepted later, until ctx ends.
func (b *Broker) Follow(ctx context.Context, broker types.NamespacedName, from uint64) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		s := b.brokers()[broker]
		if s == nil {
			yield(Stored{}, fmt.Errorf("%w: %s", ErrNoBroker, broker))
			return
		}
		b.read(ctx, s, from, 0, yield)
	}
}

// Last is the sequence of a Broker's newest event; 0 if there was none yet.
func (b *Broker) Last(broker types.NamespacedName) (uint64, error) {
	s := b.brokers()[broker]
	if s == nil {
		return 0, fmt.Errorf("%w: %s", ErrNoBroker, broker)
	}
	return s.last.Load(), nil
}

// read yields the events from from up to upTo, or for ever where that is 0.
func (b *Broker) read(ctx context.Context, s *stream, from, upTo uint64, yield func(Stored, error) bool) {
	for m, err := range b.store.messages(ctx, s.name, from, upTo, false) {
		if err != nil {
			yield(Stored{}, fmt.Errorf("read the events of %s: %w", s.broker, err))
			return
		}
		ev, err := fromMessage(m.header, m.data)
		if !yield(Stored{s.broker, m.seq, m.time, ev}, err) {
			return
		}
	}
}

// stored is a message as the store gives it.
type stored struct {
	seq    uint64
	time   time.Time
	header nats.Header
	data   []byte
}

// messages gives a stream's messages from from up to upTo, or for ever where
// that is 0; without their data where their headers will do. An error is the
// last.
func (s *store) messages(ctx context.Context, name string, from, upTo uint64, headersOnly bool) iter.Seq2[stored, error] {
	return func(yield func(stored, error) bool) {
		cons, err := s.js.OrderedConsumer(ctx, name, jetstream.OrderedConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1), HeadersOnly: headersOnly,
		})
		if err != nil {
			yield(stored{}, err)
			return
		}
		if upTo > 0 && cons.CachedInfo().NumPending == 0 { // the last ones may be gone
			return
		}
		msgs, err := cons.Messages(jetstream.PullMaxMessages(ahead))
		if err != nil {
			yield(stored{}, err)
			return
		}
		defer msgs.Stop()
		for {
			m, err := msgs.Next(jetstream.NextContext(ctx))
			if err != nil {
				yield(stored{}, cmp.Or(ctx.Err(), err))
				return
			}
			md, err := m.Metadata()
			if err != nil {
				yield(stored{}, err)
				return
			}
			if !yield(stored{md.Sequence.Stream, md.Timestamp, m.Headers(), m.Data()}, nil) || upTo > 0 && (md.Sequence.Stream >= upTo || md.NumPending == 0) {
				return
			}
		}
	}
}

// state is what the store says of a stream.
func (s *store) state(ctx context.Context, name string) (jetstream.StreamState, error) {
	st, err := s.js.Stream(ctx, name)
	if err != nil {
		return jetstream.StreamState{}, fmt.Errorf("look at the stream %s: %w", name, err)
	}
	return st.CachedInfo().State, nil
}
