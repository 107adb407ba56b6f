package broker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"
	eventingbroker "knative.dev/eventing/pkg/broker"

	"aisle.dev/aisle/activator/broker/results"
	"aisle.dev/aisle/internal/client"
)

// kept is the [results.Store] of a broker.
type kept struct{ *Broker }

var _ results.Store = kept{}

// maxDeadLook is how many dead letters are looked through, the newest.
const maxDeadLook = 10_000

func (k kept) stream(broker string) *stream {
	namespace, name, _ := strings.Cut(broker, "/")
	return k.brokers()[types.NamespacedName{Namespace: namespace, Name: name}]
}

// Brokers implements [results.Store].
func (k kept) Brokers() []string {
	var names []string
	for name := range k.brokers() {
		names = append(names, name.String())
	}
	slices.Sort(names)
	return names
}

// Changed implements [results.Store].
func (k kept) Changed() <-chan struct{} { return k.config.Load().replaced }

// Last implements [results.Store].
func (k kept) Last(broker string) uint64 {
	if s := k.stream(broker); s != nil {
		return s.last.Load()
	}
	return 0
}

// Heads implements [results.Store].
func (k kept) Heads(ctx context.Context, broker string, from uint64, follow bool) iter.Seq2[results.Event, error] {
	return func(yield func(results.Event, error) bool) {
		s := k.stream(broker)
		if s == nil {
			yield(results.Event{}, fmt.Errorf("%w: %s", ErrNoBroker, broker))
			return
		}
		state, err := k.store.state(ctx, s.name)
		if err != nil {
			yield(results.Event{}, err)
			return
		}
		if from > state.LastSeq+1 {
			from = 1
		}
		upTo := state.LastSeq
		if follow {
			upTo = 0
		} else if from > upTo || state.Msgs == 0 {
			return
		}
		for m, err := range k.store.messages(ctx, s.name, from, upTo) {
			if err != nil {
				yield(results.Event{}, err)
				return
			}
			ev, err := keptEvent(broker, m.seq, m.time, m.header, nil)
			if err != nil {
				continue // in structured mode it has no head
			}
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// Get implements [results.Store].
func (k kept) Get(ctx context.Context, broker string, seq uint64) (results.Event, error) {
	s := k.stream(broker)
	if s == nil {
		return results.Event{}, fmt.Errorf("%w: %s", ErrNoBroker, broker)
	}
	st, err := k.store.js.Stream(ctx, s.name)
	if err != nil {
		return results.Event{}, fmt.Errorf("look at the stream of %s: %w", broker, err)
	}
	m, err := st.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return results.Event{}, results.ErrGone
	}
	if err != nil {
		return results.Event{}, fmt.Errorf("read event %d of %s: %w", seq, broker, err)
	}
	return keptEvent(broker, m.Sequence, m.Time, m.Header, m.Data)
}

func keptEvent(broker string, seq uint64, at time.Time, h nats.Header, data []byte) (results.Event, error) {
	ev, err := fromMessage(h, data)
	if err != nil {
		return results.Event{}, err
	}
	_ = eventingbroker.DeleteTTL(ev.Context) // the Broker's own; fails for names alone that are none
	e := results.Event{
		Stored:  client.Stored{Broker: broker, Seq: seq, Time: at, ID: ev.ID(), Type: ev.Type(), Source: ev.Source()},
		Event:   ev,
		Trigger: h.Get(triggerHeader),
	}
	e.Cause, _ = strconv.ParseUint(h.Get(causeHeader), 10, 64) // written by attempt, like the next; absent from what is no reply
	e.Attempts, _ = strconv.Atoi(h.Get(attemptHeader))
	return e, nil
}

// Deliveries implements [results.Store]. It looks through the newest dead
// letters only.
func (k kept) Deliveries(ctx context.Context, ev results.Event) (all []client.Delivery, bound string, err error) {
	s := k.stream(ev.Broker)
	if s == nil {
		return nil, "", nil
	}
	dead, cut, err := k.deadOf(ctx, ev)
	if err != nil {
		return nil, "", err
	}
	if cut {
		bound = fmt.Sprintf("the newest %d dead letters were looked through, and those before them were not", maxDeadLook)
	}
	for _, t := range k.config.Load().triggers {
		if t.stream != s || !t.filter(ctx, ev.Event) {
			continue
		}
		d := client.Delivery{Trigger: t.name.String(), State: client.DeliveryDone}
		if letter, ok := dead[d.Trigger]; ok {
			d.State, d.Attempts, d.DeadLetter, d.Code = client.DeliveryGivenUp, letter.Attempts, letter.ID, letter.Code
		} else if cons, err := k.store.js.Consumer(ctx, s.name, t.consumer); err != nil {
			return nil, "", fmt.Errorf("look at what waits for Trigger %s: %w", t.name, err)
		} else if cons.CachedInfo().AckFloor.Stream < ev.Seq {
			d.State = client.DeliveryPending // or done, behind an earlier one that is not
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b client.Delivery) int { return strings.Compare(a.Trigger, b.Trigger) })
	return all, bound, nil
}

// deadOf gives the dead letters of an event, by Trigger. Cut says that there
// are older ones than those that were looked through.
func (k kept) deadOf(ctx context.Context, ev results.Event) (found map[string]client.DeadLetter, cut bool, err error) {
	state, err := k.store.state(ctx, deadLetterStream)
	if err != nil {
		return nil, false, err
	}
	from := state.FirstSeq
	if state.LastSeq >= from+maxDeadLook {
		from, cut = state.LastSeq-maxDeadLook+1, true
	}
	found = map[string]client.DeadLetter{}
	for d, err := range k.deadLetters(ctx, from) {
		if err != nil {
			return nil, false, err
		}
		if d.Broker == ev.Broker && d.EventID == ev.ID && d.Source == ev.Source {
			found[d.Trigger] = d
		}
	}
	return found, cut, nil
}
