package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	eventingbroker "knative.dev/eventing/pkg/broker"

	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/serve"
)

// errorBody is how much of a failure's answer is kept: knativeerrordata holds
// 1,024 bytes of base64.
const errorBody = 768

// attempt delivers an event once, and stores what came of it.
func (d *dispatcher) attempt(ctx context.Context, t *trigger, x *delivery) {
	r := result{delivery: x}
	r.end, r.wait, r.unstored = d.b.attempt(ctx, t, x)
	if r.end == retryLater && x.key != "" {
		// It stays held, so that no later event of its key that is held
		// overtakes it if the process is killed.
		r.end = retryHeld
	}
	d.done <- r
}

// attempt gives as unstored why what came of the event is nowhere yet.
func (b *Broker) attempt(ctx context.Context, t *trigger, x *delivery) (_ ending, wait time.Duration, unstored error) {
	ttl, _ := eventingbroker.GetTTL(x.ev.Context) // there is one: see Broker.accept
	if t.subscriber.broker.Name == "" {           // one of our Brokers counts on
		_ = eventingbroker.DeleteTTL(x.ev.Context) // fails for names alone that are none
	}

	start := time.Now()
	reply, o := b.post(ctx, t.subscriber, t.policy, x.ev)
	defer reply.release()
	took := time.Since(start)
	if b.excuses(t, x, o) {
		return turnedAway, 0, nil
	}
	var err error
	if errors.Is(o.err, errNoRoom) { // that is not the subscriber's
		o.err, err = nil, o.err
	}
	if reply != nil {
		// Before the event counts as delivered: else a kill would lose it.
		_ = eventingbroker.SetTTL(reply.event.Context, ttl)
		hop(reply.event)
		err = b.accept(ctx, t.stream, []ce.Event{reply.event}, nats.Header{
			triggerHeader: {t.name.String()}, attemptHeader: {strconv.Itoa(x.attempt)}, causeHeader: {strconv.FormatUint(x.seq, 10)},
		})
		if err != nil && !retriable(problem.Status(err)) {
			o, err = badReply(fmt.Errorf("the reply cannot be stored: %w", err)), nil // nor ever could
		}
	}
	b.metrics.attempted(t, o, took)
	if ctx.Err() != nil && o.err != nil {
		return stopped, 0, nil
	}
	if o.err != nil {
		v := t.policy.after(x.attempt, o)
		b.log.Debug("an event was not taken", "trigger", t.name, "id", x.ev.ID(), "attempt", x.attempt, "dead", v.dead, "wait", v.wait, "err", o.err)
		if !v.dead {
			return retryLater, v.wait, nil
		}
		err = b.deadLetter(ctx, t, x, o, ttl)
	}
	if err != nil {
		wait = unstoredWait(x.attempt, rand.Float64())
		b.log.Error("what came of an event cannot be stored; it will be delivered again", "trigger", t.name, "id", x.ev.ID(), "wait", wait, "err", err)
		return retryLater, wait, err
	}
	failpoint()
	return settled, 0, nil
}

// reply is a subscriber's answer, and its room in memory until it is released.
type reply struct {
	event ce.Event
	room  *serve.Share
}

func (r *reply) release() {
	if r != nil {
		r.room.Release()
	}
}

// errNoRoom means that so many large replies were being stored that another
// found no room within its Trigger's timeout.
var errNoRoom = errors.New("too many large replies are being stored")

// post sends an event and reads the reply, if there is one. The caller releases
// it.
func (b *Broker) post(ctx context.Context, to target, p policy, ev ce.Event) (*reply, outcome) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	h, body, err := event.Encode(ev, p.structured || inStructured(ev))
	if err != nil {
		return nil, outcome{status: http.StatusBadRequest, err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url.String(), bytes.NewReader(body))
	if err != nil {
		return nil, outcome{status: http.StatusBadRequest, err: err}
	}
	maps.Copy(req.Header, h)
	req.Header.Set("Prefer", "reply")
	for _, name := range []string{"traceparent", "tracestate"} {
		if v, ok := ev.Extensions()[name].(string); ok {
			req.Header.Set(name, v)
		}
	}
	// RoundTrip follows no redirect, as Knative's does not.
	resp, err := b.opts.Transport.RoundTrip(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("there was no answer within %v", p.timeout)
		}
		return nil, outcome{err: err, data: []byte(err.Error())}
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		data, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // what there is of it
		closed := resp.StatusCode == http.StatusServiceUnavailable && saysClosed(data)
		data = data[:min(len(data), errorBody)]
		return nil, outcome{status: resp.StatusCode, retryAfter: retryAfter(resp.Header, time.Now()), data: data, closed: closed,
			err: fmt.Errorf("the subscriber answered %d: %.200s", resp.StatusCode, strings.TrimSpace(string(data)))}
	}
	got, err := b.reply(ctx, resp)
	switch {
	case errors.Is(err, errNoRoom):
		return nil, outcome{err: err}
	case err != nil:
		return nil, badReply(err)
	}
	return got, outcome{status: resp.StatusCode}
}

// badReply is the outcome where the reply is no event that can be stored:
// what Knative's broker says of one that is none.
func badReply(err error) outcome {
	return outcome{status: http.StatusBadGateway, err: err, data: []byte(err.Error())}
}

// smallReply is what a reply may have without waiting for room, as is a request's
// body; how many there are at once is bounded by the Triggers' places.
const smallReply = 128 << 10

// reply reads the event in a subscriber's answer; nil if it is empty.
func (b *Broker) reply(ctx context.Context, resp *http.Response) (_ *reply, err error) {
	max := b.opts.MaxEvent
	isEvent := resp.Header.Get("Ce-Specversion") != "" || strings.HasPrefix(resp.Header.Get("Content-Type"), "application/cloudevents")
	if !isEvent {
		max = 0
	}
	room := new(serve.Share)
	defer func() {
		if err != nil {
			room.Release()
		}
	}()
	body, err := io.ReadAll(io.LimitReader(resp.Body, min(max+1, smallReply)))
	if err == nil && len(body) == smallReply { // there is more
		need := max
		if resp.ContentLength >= 0 {
			need = min(need, resp.ContentLength)
		}
		held, late := b.replies.Hold(ctx, need)
		if late != nil {
			return nil, errNoRoom
		}
		room = held
		var rest []byte
		rest, err = io.ReadAll(io.LimitReader(resp.Body, max+1-smallReply))
		body = append(body, rest...)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("the reply cannot be read: %w", err)
	case !isEvent && len(body) > 0:
		return nil, errors.New("the reply is not empty and no CloudEvent")
	case !isEvent:
		return nil, nil
	case int64(len(body)) > max:
		return nil, fmt.Errorf("the reply is larger than %d bytes", max)
	}
	ev, _, err := event.Decode(resp.Header, body)
	if err != nil {
		return nil, fmt.Errorf("the reply: %w", err)
	}
	room.Keep(len(body))
	return &reply{ev, room}, nil
}
