package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go/jetstream"
	eventingbroker "knative.dev/eventing/pkg/broker"
)

// Attributes of a dead letter, as Knative has them
// (pkg/kncloudevents/attributes, which links too much).
const (
	errorDest = "knativeerrordest"
	errorCode = "knativeerrorcode"
	errorData = "knativeerrordata"
)

// Headers of a message beside those of its event.
const (
	onlyHeader    = "Aisle-Only"    // the one Trigger, NAMESPACE/NAME, that an event sent again is for
	triggerHeader = "Aisle-Trigger" // of a dead letter or a reply: the Trigger that it is of
	brokerHeader  = "Aisle-Broker"  // of a dead letter: its Broker
	attemptHeader = "Aisle-Attempts"
	causeHeader   = "Aisle-Cause" // of a reply: the sequence of the event that it answers
)

// minimalWindow is how long JetStream remembers message ids: only dead letters
// and the ticks of PingSources have one, and their duplicates come soon.
const minimalWindow = 2 * time.Minute

func (b *Broker) openDeadLetters(ctx context.Context) error {
	_, err := b.store.openStream(ctx, jetstream.StreamConfig{
		Name: deadLetterStream, Subjects: []string{deadLetterSubject}, Description: "Dead letters of all Triggers",
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardNew, MaxBytes: b.opts.MaxBytes, Duplicates: minimalWindow,
	})
	return err
}

// deadLetter gives an event up: to the dead-letter sink, and to the list of
// dead letters unless a sink that is none of our Brokers has taken it. An
// error means that it is nowhere yet. Ttl is how many Brokers it may still
// pass: a sink whose own dead letters come back here would go on for ever.
func (b *Broker) deadLetter(ctx context.Context, t *trigger, x *delivery, o outcome, ttl int32) error {
	dead := x.ev.Clone()
	_ = eventingbroker.DeleteTTL(dead.Context) // left on for a subscriber that is one of our Brokers
	code := strconv.Itoa(o.status)
	if o.status == 0 {
		code = "-1" // Knative's for no answer
	}
	data := base64.StdEncoding.EncodeToString(o.data[:min(len(o.data), errorBody)])
	for name, v := range map[string]string{errorDest: t.subscriber.url.String(), errorCode: code, errorData: data} {
		if v != "" {
			dead.SetExtension(name, v)
		}
	}
	b.log.Warn("an event is given up", "trigger", t.name, "id", dead.ID(), "type", dead.Type(), "attempts", x.attempt, "err", o.err)
	if t.sink != nil {
		taken, err := b.toSink(ctx, t, dead, ttl)
		if err != nil {
			b.log.Error("the dead-letter sink did not take an event; it is kept among the dead letters", "trigger", t.name, "id", dead.ID(), "err", err)
		}
		if taken {
			b.metrics.dead.WithLabelValues(t.name.Namespace, t.broker.Name, t.name.Name).Inc()
			return nil
		}
	}
	m, err := toMessage(deadLetterSubject, dead)
	if err != nil {
		return err
	}
	m.Header.Set(triggerHeader, t.name.String())
	m.Header.Set(brokerHeader, t.broker.String())
	m.Header.Set(attemptHeader, strconv.Itoa(x.attempt))
	m.Header.Set(jetstream.MsgIDHeader, letterID(t, x))
	if err := b.store.room(int64(m.Size())); err != nil {
		return err
	}
	_, err = b.store.publish(ctx, []*message{m})
	if errors.Is(err, errFull) {
		return errLettersFull
	}
	if err != nil {
		return err
	}
	b.metrics.dead.WithLabelValues(t.name.Namespace, t.broker.Name, t.name.Name).Inc()
	return nil
}

var errLettersFull = errors.New("the list of dead letters is full; replay or purge some (aisle events)")

// letterID is the same however often an event is given up. The time is in it
// because a Broker that is deleted and made again counts from 1 again.
func letterID(t *trigger, x *delivery) string {
	return fmt.Sprintf("%s/%s/%d/%d", t.stream.name, t.consumer, x.seq, x.accepted.UnixNano())
}

// toSink hands a dead letter to its sink. It is taken for good by a sink that
// is not one of our Brokers: those pass events on, and keep none.
func (b *Broker) toSink(ctx context.Context, t *trigger, dead ce.Event, ttl int32) (taken bool, err error) {
	if t.sink.broker.Name != "" {
		dead = dead.Clone() // the list's has no TTL
		_ = eventingbroker.SetTTL(dead.Context, ttl)
		return false, b.Accept(ctx, t.sink.broker, dead)
	}
	reply, o := b.post(ctx, *t.sink, t.policy, dead)
	reply.release() // it goes nowhere
	return o.err == nil, o.err
}

// decodeErrorData undoes knativeerrordata, of which Knative keeps 1,024 bytes:
// what is cut off in the middle is left out.
func decodeErrorData(s string) []byte {
	data, err := base64.StdEncoding.DecodeString(s[:len(s)/4*4])
	if err != nil {
		return []byte(s)
	}
	return data
}
