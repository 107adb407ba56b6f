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

	"aisle.dev/aisle/internal/problem"
)

// DeadLetter is an event that a Trigger's subscriber did not take.
type DeadLetter struct {
	ID       uint64    `json:"id"`      // in the list
	Time     time.Time `json:"time"`    // when it was given up
	Trigger  string    `json:"trigger"` // NAMESPACE/NAME
	Broker   string    `json:"broker"`  // likewise
	Attempts int       `json:"attempts"`
	EventID  string    `json:"eventId"`
	Source   string    `json:"source"`
	Type     string    `json:"type"`
	Subject  string    `json:"subject,omitempty"`
	Size     int       `json:"size"` // bytes of its data
	Dest     string    `json:"dest"` // the subscriber's address
	Code     int       `json:"code"` // what it answered last; -1 for no answer
	Data     []byte    `json:"data"` // how the answer's body began
}

type deadLetter struct {
	DeadLetter
	event ce.Event
}

func readDeadLetter(id uint64, at time.Time, h nats.Header, data []byte) (deadLetter, error) {
	ev, err := fromMessage(h, data)
	if err != nil {
		return deadLetter{}, err
	}
	d := deadLetter{event: ev, DeadLetter: DeadLetter{
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
func (b *Broker) deadLetters(ctx context.Context, from uint64) iter.Seq2[deadLetter, error] {
	return func(yield func(deadLetter, error) bool) {
		state, err := b.store.state(ctx, deadLetterStream)
		if err != nil {
			yield(deadLetter{}, err)
			return
		}
		if state.Msgs == 0 || from > state.LastSeq {
			return
		}
		for m, err := range b.store.messages(ctx, deadLetterStream, from, state.LastSeq, false) {
			d := deadLetter{}
			if err == nil {
				d, err = readDeadLetter(m.seq, m.time, m.header, m.data)
			}
			if !yield(d, err) {
				return
			}
		}
	}
}

func (b *Broker) deadLetterByID(ctx context.Context, id uint64) (deadLetter, error) {
	st, err := b.store.js.Stream(ctx, deadLetterStream)
	if err != nil {
		return deadLetter{}, fmt.Errorf("look at the dead letters: %w", err)
	}
	m, err := st.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return deadLetter{}, problem.New(http.StatusNotFound, "there is no dead letter %d (any more)", id)
	}
	if err != nil {
		return deadLetter{}, fmt.Errorf("look at dead letter %d: %w", id, err)
	}
	return readDeadLetter(m.Sequence, m.Time, m.Header, m.Data)
}

func (b *Broker) dropDeadLetter(ctx context.Context, id uint64) error {
	st, err := b.store.js.Stream(ctx, deadLetterStream)
	if err == nil {
		err = st.DeleteMsg(ctx, id)
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("take dead letter %d off the list: %w", id, err)
	}
	return nil
}

// sendAgain puts a dead letter into its Broker, for its Trigger alone: the
// others have had it.
func (b *Broker) sendAgain(ctx context.Context, d deadLetter) error {
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
