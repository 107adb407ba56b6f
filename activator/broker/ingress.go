package broker

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"k8s.io/apimachinery/pkg/types"
	eventingbroker "knative.dev/eventing/pkg/broker"

	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
)

const (
	// maxTTL is how many Brokers an event and its replies pass, one after the
	// other, before they are taken for a loop. It is Knative's.
	maxTTL = 255

	// ownAttributes is how many attributes this broker adds to an event: its
	// TTL, and what was wrong with a dead letter.
	ownAttributes = 4

	// fullRetryAfter is what a sender waits when the store is full.
	fullRetryAfter = 5 * time.Second

	// bodyWait bounds the wait for room for a large body.
	bodyWait = 10 * time.Second
)

// Ingress accepts events at POST /NAMESPACE/BROKER, in binary, structured and
// batched mode:
//
//	202  all events of the request are in the store
//	4xx  none is; the request is wrong: 400, 404 (no such Broker), 405, 413, 415
//	429  not all are: the Broker's bound is reached; Retry-After says when to try again
//	503  not all are known to be: the broker stops, or its store does not answer
//	507  none is: the disk is full
//
// A request that was not answered with 202 may be sent again as it was: what
// is stored twice is the same event twice.
func (b *Broker) Ingress() http.Handler {
	return problem.Handler(func(w http.ResponseWriter, r *http.Request) error {
		name, ok := brokerOf(r.URL.Path)
		status := http.StatusAccepted
		err := error(problem.New(http.StatusNotFound, "post events to /NAMESPACE/BROKER"))
		if ok {
			err = b.ingest(w, r, name)
		}
		if err != nil {
			status = problem.Status(err)
		} else {
			w.WriteHeader(status)
		}
		b.metrics.ingested(name, b.brokers()[name] != nil, status)
		return err
	}, func(r *http.Request, err error) {
		if _, told := errors.AsType[*problem.Error](err); !told {
			b.log.Error("an event was not accepted", "path", r.URL.Path, "err", err)
		}
	})
}

func (b *Broker) ingest(w http.ResponseWriter, r *http.Request, name types.NamespacedName) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return problem.New(http.StatusMethodNotAllowed, "events are posted")
	}
	to := b.brokers()[name]
	if to == nil {
		return problem.New(http.StatusNotFound, "there is no Broker %s in the namespace %s; those that there are: aisle get brokers", name.Name, name.Namespace)
	}
	ctx, cancel := context.WithTimeout(r.Context(), bodyWait)
	defer cancel()
	share, err := b.bodies.Take(ctx, r, b.opts.MaxEvent)
	if err != nil {
		return &problem.Error{Status: http.StatusTooManyRequests, Detail: "too many large events are being received", RetryAfter: time.Second}
	}
	defer share.Release()
	evs, err := event.ReadAll(w, r, b.opts.MaxEvent)
	if err != nil {
		return err
	}
	for i := range evs {
		joinTrace(&evs[i], r.Header)
	}
	return b.admit(r.Context(), to, evs, nil)
}

// joinTrace gives an event that is in no trace the trace that brought it: it
// is stored with the event, so that its deliveries are in it too
// (CloudEvents' distributed tracing extension).
func joinTrace(ev *ce.Event, h http.Header) {
	if _, ok := ev.Extensions()["traceparent"]; ok {
		return
	}
	if parent := h.Get("Traceparent"); parent != "" && len(parent) <= maxTrace {
		ev.SetExtension("traceparent", parent)
		if state := h.Get("Tracestate"); state != "" && len(state) <= maxTrace {
			ev.SetExtension("tracestate", state)
		}
	}
}

// maxTrace is what W3C Trace Context asks to pass on of a tracestate at least.
const maxTrace = 512

// Accept stores events for a Broker, all or none of them known to be, as
// Ingress does. Its errors are Ingress's answers, as *problem.Error.
func (b *Broker) Accept(ctx context.Context, broker types.NamespacedName, evs ...ce.Event) error {
	to := b.brokers()[broker]
	if to == nil {
		return problem.New(http.StatusNotFound, "there is no Broker %s in the namespace %s; those that there are: aisle get brokers", broker.Name, broker.Namespace)
	}
	return b.admit(ctx, to, evs, nil)
}

// admit stores events that come from outside. A Broker that is nearly full
// takes the replies to its events only: each lets one event become history.
// The messages get the header beside their events'.
func (b *Broker) admit(ctx context.Context, to *stream, evs []ce.Event, header nats.Header) error {
	if b.stopping.Load() {
		return &problem.Error{Status: http.StatusServiceUnavailable, Detail: "the broker is stopping", RetryAfter: time.Second}
	}
	if bound := b.opts.MaxBytes / 8 * 7; to.bytes.Load() > bound {
		if b.trim(ctx, to, b.opts.MaxBytes/8); to.bytes.Load() > bound {
			return b.full(to)
		}
	}
	for _, ev := range evs {
		hop(ev)
	}
	return b.accept(ctx, to, evs, header)
}

// full refuses an event. What waits behind a gate may have filled the Broker.
func (b *Broker) full(to *stream) error {
	for _, v := range b.gates.Range {
		if g := v.(*gate); g.trigger.stream == to {
			g.nudge()
		}
	}
	return &problem.Error{Status: http.StatusTooManyRequests, RetryAfter: fullRetryAfter,
		Detail: "the Broker holds as many events as it may that are yet to be delivered"}
}

// hop counts down how many more Brokers an event may pass.
func hop(ev ce.Event) {
	ttl := int32(maxTTL)
	if left, err := eventingbroker.GetTTL(ev.Context); err == nil {
		ttl = min(max(left-1, 0), maxTTL)
	}
	_ = eventingbroker.SetTTL(ev.Context, ttl) // fails for names alone that are none
}

// accept stores events that have been counted down. Those that ran out of
// Brokers to pass are dropped: that is how a loop ends.
func (b *Broker) accept(ctx context.Context, to *stream, evs []ce.Event, header nats.Header) error {
	msgs, size := make([]*message, 0, len(evs)), int64(0)
	for _, ev := range evs {
		if n := len(ev.Extensions()) + 8; n > event.MaxAttributes-ownAttributes {
			return problem.New(http.StatusBadRequest, "the event %.80q has %d attributes; a Broker takes at most %d", ev.ID(), n, event.MaxAttributes-ownAttributes)
		}
		if ttl, err := eventingbroker.GetTTL(ev.Context); err != nil || ttl <= 0 {
			b.log.Warn("an event has passed too many Brokers and is dropped: Triggers seem to answer each other in a loop", "broker", to.broker, "id", ev.ID(), "type", ev.Type())
			b.metrics.looped.Inc()
			continue
		}
		m, err := toMessage(to.subject, ev)
		if err != nil {
			return problem.New(http.StatusBadRequest, "%v", err)
		}
		maps.Copy(m.Header, header)
		msgs, size = append(msgs, m), size+int64(m.Size())
	}
	return b.put(ctx, to, msgs, size)
}

// put writes messages, and makes room for them if it must.
func (b *Broker) put(ctx context.Context, to *stream, msgs []*message, size int64) error {
	if err := b.store.room(size); err != nil {
		return err
	}
	last, err := b.store.publish(ctx, msgs)
	if errors.Is(err, errFull) && b.trim(ctx, to, size) {
		last, err = b.store.publish(ctx, msgs)
	}
	switch {
	case errors.Is(err, errFull):
		return b.full(to)
	case errors.Is(err, errTooLarge):
		return problem.New(http.StatusRequestEntityTooLarge, "an event is larger than the store takes")
	case err != nil:
		detail := "the store does not answer: " + err.Error()
		if said := b.store.log.last(); said != "" {
			detail += "; it said: " + strings.TrimSpace(said)
		}
		return &problem.Error{Status: http.StatusServiceUnavailable, Detail: detail, RetryAfter: fullRetryAfter}
	}
	to.stored(last)
	to.bytes.Add(size)
	if to.sinceTrim.Add(size) > b.opts.HistoryBytes/8 {
		b.wakeTrimmer()
	}
	return nil
}
