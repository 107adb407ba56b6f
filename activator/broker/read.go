package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"
)

// ErrNoBroker says that no such Broker was applied.
var ErrNoBroker = errors.New("there is no such Broker")

// Last is the sequence of a Broker's newest event; 0 if there was none yet.
func (b *Broker) Last(broker types.NamespacedName) (uint64, error) {
	s := b.brokers()[broker]
	if s == nil {
		return 0, fmt.Errorf("%w: %s", ErrNoBroker, broker)
	}
	return s.last.Load(), nil
}

// stored is a message in the store, without its data.
type stored struct {
	seq    uint64
	time   time.Time
	header nats.Header
	size   int // bytes of its data
}

// messages gives what a stream has from from up to upTo, or for ever where
// that is 0. Data is left out: it may be 64 events of 24 MB that are read
// ahead. An error is the last.
func (s *store) messages(ctx context.Context, name string, from, upTo uint64) iter.Seq2[stored, error] {
	return func(yield func(stored, error) bool) {
		cons, err := s.js.OrderedConsumer(ctx, name, jetstream.OrderedConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1), HeadersOnly: true,
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
			size, err := strconv.Atoi(m.Headers().Get(server.JSMsgSize))
			if err != nil {
				yield(stored{}, fmt.Errorf("the store does not say how large event %d is: %w", md.Sequence.Stream, err))
				return
			}
			if !yield(stored{md.Sequence.Stream, md.Timestamp, m.Headers(), size}, nil) || upTo > 0 && (md.Sequence.Stream >= upTo || md.NumPending == 0) {
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
