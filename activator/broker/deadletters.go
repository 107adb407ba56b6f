package broker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"
	eventingbroker "knative.dev/eventing/pkg/broker"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/problem"
)

// deadLetter is one with its event.
type deadLetter struct {
	client.DeadLetter
	event ce.Event
}

func readDeadLetter(id uint64, at time.Time, h nats.Header, data []byte) (deadLetter, error) {
	ev, err := fromMessage(h, data)
	if err != nil {
		return deadLetter{}, err
	}
	d := deadLetter{event: ev, DeadLetter: client.DeadLetter{
		ID: id, Time: at, Trigger: h.Get(triggerHeader), Broker: h.Get(brokerHeader),
		EventID: ev.ID(), Source: ev.Source(), Type: ev.Type(), Subject: ev.Subject(), Size: len(ev.Data()),
	}}
	d.Attempts, _ = strconv.Atoi(h.Get(attemptHeader)) // written by deadLetter, like these
	ext := ev.Extensions()
	d.Dest, _ = ext[errorDest].(string)
	code, _ := ext[errorCode].(string)
	d.Code, _ = strconv.Atoi(code)
	text, _ := ext[errorData].(string)
	d.Data = decodeErrorData(text)
	return d, nil
}

// deadLetters gives the list as it is now, from an id on.
func (b *Broker) deadLetters(ctx context.Context, from uint64) iter.Seq2[client.DeadLetter, error] {
	return func(yield func(client.DeadLetter, error) bool) {
		state, err := b.store.state(ctx, deadLetterStream)
		if err != nil {
			yield(client.DeadLetter{}, err)
			return
		}
		if state.Msgs == 0 || from > state.LastSeq {
			return
		}
		for m, err := range b.store.messages(ctx, deadLetterStream, from, state.LastSeq) {
			d := deadLetter{}
			if err == nil {
				if d, err = readDeadLetter(m.seq, m.time, m.header, nil); err != nil { // in structured mode it has no head
					d, err = b.deadLetterByID(ctx, m.seq)
				} else {
					d.Size = m.size
				}
			}
			if gone(err) {
				continue
			}
			if !yield(d.DeadLetter, err) {
				return
			}
		}
	}
}

// gone says that a dead letter is not on the list, or no longer.
func gone(err error) bool { return err != nil && problem.Status(err) == http.StatusNotFound }

func (b *Broker) deadLetterByID(ctx context.Context, id uint64) (deadLetter, error) {
	st, err := b.store.js.Stream(ctx, deadLetterStream)
	if err != nil {
		return deadLetter{}, fmt.Errorf("look at the dead letters: %w", err)
	}
	m, err := st.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return deadLetter{}, noLetter(id)
	}
	if err != nil {
		return deadLetter{}, fmt.Errorf("look at dead letter %d: %w", id, err)
	}
	return readDeadLetter(m.Sequence, m.Time, m.Header, m.Data)
}

func noLetter(id uint64) error {
	return problem.New(http.StatusNotFound, "there is no dead letter %d (any more)", id)
}

// purge takes a dead letter off the list.
func (b *Broker) purge(ctx context.Context, id uint64) error {
	b.letters.Lock()
	defer b.letters.Unlock()
	return b.dropDeadLetter(ctx, id)
}

// dropDeadLetter is purge. REQUIRES: b.letters is held.
func (b *Broker) dropDeadLetter(ctx context.Context, id uint64) error {
	st, err := b.store.js.Stream(ctx, deadLetterStream)
	if err == nil {
		err = st.DeleteMsg(ctx, id)
	}
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // it does not say why
		if _, gerr := st.GetMsg(ctx, id); errors.Is(gerr, jetstream.ErrMsgNotFound) {
			return noLetter(id)
		}
	}
	if err != nil {
		return fmt.Errorf("take dead letter %d off the list: %w", id, err)
	}
	return nil
}

// replay puts a dead letter into its Broker, for its Trigger alone: the others
// have had it.
func (b *Broker) replay(ctx context.Context, id uint64) error {
	b.letters.Lock()
	defer b.letters.Unlock()
	d, err := b.deadLetterByID(ctx, id)
	if err != nil {
		return err
	}
	namespace, name, _ := strings.Cut(d.Broker, "/")
	to := b.brokers()[types.NamespacedName{Namespace: namespace, Name: name}]
	if to == nil {
		return problem.New(http.StatusConflict, "dead letter %d is of Broker %s, which is not there any more", d.ID, d.Broker)
	}
	namespace, name, _ = strings.Cut(d.Trigger, "/")
	if b.config.Load().triggers[types.NamespacedName{Namespace: namespace, Name: name}] == nil {
		return problem.New(http.StatusConflict, "dead letter %d is of Trigger %s, which is not there any more", d.ID, d.Trigger)
	}
	ev := d.event.Clone()
	for _, name := range []string{errorDest, errorCode, errorData} {
		ev.SetExtension(name, nil)
	}
	if err := eventingbroker.SetTTL(ev.Context, maxTTL); err != nil {
		return err
	}
	m, err := toMessage(to.subject, ev)
	if err != nil {
		return err
	}
	m.Header.Set(onlyHeader, d.Trigger)
	if err := b.put(ctx, to, []*message{m}, int64(m.Size())); err != nil {
		return err
	}
	return b.dropDeadLetter(ctx, d.ID)
}
