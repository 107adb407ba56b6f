package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/internal/problem"
)

// message is an event as the store has it.
type message = nats.Msg

// stream is the events of one Broker: a stream in the store. It lives as long
// as its Broker is declared, whatever else of it changes.
type stream struct {
	broker        types.NamespacedName
	name, subject string
	last          atomic.Uint64 // sequence of the newest event that is known of
	sinceTrim     atomic.Int64  // bytes stored since history was last trimmed

	bytes    atomic.Int64 // about what the store holds of it
	looked   atomic.Int64 // when room was last looked for, in Unix nanoseconds
	trimming sync.Mutex   // one trim at a time
}

func newStream(broker types.NamespacedName, state jetstream.StreamState) *stream {
	s := &stream{broker: broker, name: streamOf(broker), subject: subjectOf(broker)}
	s.last.Store(state.LastSeq)
	s.bytes.Store(int64(state.Bytes))
	return s
}

// stored notes that events up to the sequence seq are in the store.
func (s *stream) stored(seq uint64) {
	for old := s.last.Load(); old < seq; old = s.last.Load() {
		s.last.CompareAndSwap(old, seq)
	}
}

var (
	errFull     = errors.New("the stream is full")
	errTooLarge = errors.New("the message is too large")
)

// Codes of JetStream's errors (nats-server/server/errors.json) that the client
// library does not name.
const (
	codeMessageTooLarge = 10054
	codeStoreFailed     = 10077
)

// publish writes messages and gives the sequence of the last. It returns when
// the store has answered for each; some may be there when others are not.
func (s *store) publish(ctx context.Context, msgs []*message) (last uint64, err error) {
	acks := make([]jetstream.PubAckFuture, 0, len(msgs))
	for _, m := range msgs {
		ack, perr := s.js.PublishMsgAsync(m)
		if perr != nil {
			err = storeError(perr)
			break
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case ok := <-ack.Ok():
			last = max(last, ok.Sequence)
		case aerr := <-ack.Err():
			err = errors.Join(err, storeError(aerr))
		case <-ctx.Done():
			return last, errors.Join(err, ctx.Err())
		}
	}
	return last, err
}

func storeError(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) { // another's server may carry less than ours
		return errTooLarge
	}
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch e.ErrorCode {
		case codeStoreFailed:
			if e.Description == "maximum bytes exceeded" {
				return errFull
			}
		case codeMessageTooLarge:
			return errTooLarge
		}
	}
	return err
}

// reserve is what must stay free on the disk for the store's own books, so
// that events can be delivered when no more are accepted: a JetStream that
// cannot write stops altogether.
const reserve = 32 << 20

// room is nil if the disk has room for size bytes more.
func (s *store) room(size int64) error {
	if s.dir == "" {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return fmt.Errorf("look at the room for events: %w", err)
	}
	free, all := int64(fs.Bavail)*fs.Bsize, int64(fs.Blocks)*fs.Bsize
	if free-size < min(reserve, all/4) {
		return &problem.Error{Status: http.StatusInsufficientStorage, RetryAfter: fullRetryAfter,
			Detail: fmt.Sprintf("the disk of the events' store %s is full: %d MB are free, and %d MB are kept for the store's books; make room on it, and send again", s.dir, free>>20, min(reserve, all/4)>>20)}
	}
	return nil
}
