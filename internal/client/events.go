package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"aisle.dev/aisle/internal/category"
)

// The engine's events are under /v1/events on its socket:
//
//	GET    /v1/events/deadletters                {"items":[DeadLetter]}, oldest first; trigger=NAMESPACE/NAME, after=ID, limit=N
//	GET    /v1/events/deadletters/ID             its event, in the JSON format of CloudEvents
//	POST   /v1/events/deadletters[/ID]/replay    Counted; without an ID all of them, or those of trigger=
//	DELETE /v1/events/deadletters[/ID]           likewise
//	GET    /v1/events/pending                    {"items":[Pending]}
//	GET    /v1/events/pingsources                {"items":[Ticks]}
//	GET    /v1/events/results?since=ID           Server-Sent Events: data a category event in the JSON format of CloudEvents
//	GET    /v1/events/explain/ID                 Explanation; ID of an event or of a product
const eventsPath = "/v1/events"

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

// Pending is what a Trigger has yet to deliver, and what it waits for.
type Pending struct {
	Trigger  string    `json:"trigger"` // NAMESPACE/NAME
	Broker   string    `json:"broker"`  // likewise
	Events   int       `json:"events"`
	Retrying int       `json:"retrying"`         // of Events: tried before
	Oldest   time.Time `json:"oldest,omitzero"`  // when the first of them was accepted
	Until    time.Time `json:"until,omitzero"`   // when they are delivered at the latest; zero: not known
	Reason   string    `json:"reason,omitempty"` // what they wait for
}

// Ticks are when a PingSource sends.
type Ticks struct {
	Name    string    `json:"name"` // NAMESPACE/NAME
	Last    time.Time `json:"last,omitzero"`
	Next    time.Time `json:"next,omitzero"`
	Trouble string    `json:"trouble,omitempty"` // why its sink has not taken the last event
}

// Explanation says why a product got its category, out of what is stored.
type Explanation struct {
	Asked   Stored           `json:"asked"`             // the product event, as far as it is stored
	Answer  *Stored          `json:"answer,omitempty"`  // the category event; absent: there is none yet
	Result  *category.Result `json:"result,omitempty"`  // its data
	Weights []LegWeight      `json:"weights,omitempty"` // of the composition that answered
	Slow    []string         `json:"slow,omitempty"`    // what took long, in sentences
	Earlier []Stored         `json:"earlier,omitempty"` // other answers to the same product, oldest first

	Deliveries []Delivery `json:"deliveries,omitempty"` // of the product event, by Trigger
	Bound      string     `json:"bound,omitempty"`      // how far was looked, where there may be more beyond it
}

// Delivery is what became of an event at a Trigger that takes it.
type Delivery struct {
	Trigger    string `json:"trigger"`              // NAMESPACE/NAME
	State      string `json:"state"`                // one of the Delivery constants
	Attempts   int    `json:"attempts,omitempty"`   // where that is known
	DeadLetter uint64 `json:"deadLetter,omitempty"` // its number in the list
	Code       int    `json:"code,omitempty"`       // of a dead letter: what was answered last; -1 for no answer
}

// States of a [Delivery].
const (
	DeliveryAnswered = "answered" // a reply is stored
	DeliveryDone     = "done"     // taken without a reply that is stored
	DeliveryPending  = "pending"
	DeliveryGivenUp  = "given up" // a dead letter
)

// Stored is where an event is kept and when it came.
type Stored struct {
	Broker string    `json:"broker,omitempty"`
	Seq    uint64    `json:"seq,omitempty"`
	Time   time.Time `json:"time,omitzero"`
	ID     string    `json:"id"`
	Type   string    `json:"type,omitempty"`
	Source string    `json:"source,omitempty"`
}

// LegWeight is what a leg counted.
type LegWeight struct {
	Leg    string  `json:"leg"`
	Weight float64 `json:"weight"` // of the composition
	Share  float64 `json:"share"`  // of the answer, among the legs that answered: 0 to 1
}

// items is how lists of events come.
type items[T any] struct {
	Items []T `json:"items"`
}

// Pending lists what waits for what, by Trigger.
func (e *Engine) Pending(ctx context.Context) ([]Pending, error) {
	var all items[Pending]
	err := e.get(ctx, eventsPath+"/pending", &all)
	return slices.DeleteFunc(all.Items, func(p Pending) bool { return e.notOf(p.Trigger) }), err
}

// Ticks lists when PingSources sent and will send.
func (e *Engine) Ticks(ctx context.Context) ([]Ticks, error) {
	var all items[Ticks]
	err := e.get(ctx, eventsPath+"/pingsources", &all)
	return all.Items, err
}

// notOf is whether NAMESPACE/NAME is of another namespace than asked for.
func (e *Engine) notOf(name string) bool {
	namespace, _, _ := strings.Cut(name, "/")
	return e.elsewhere(namespace)
}

// pageOfDeadLetters and maxDeadLetters bound what is asked for at once, and in all.
const (
	pageOfDeadLetters = 1000
	maxDeadLetters    = 20_000
)

// DeadLetters lists dead letters, oldest first; trigger is NAMESPACE/NAME, or
// empty for those of all. Of very many it lists the oldest, and says so by more.
func (e *Engine) DeadLetters(ctx context.Context, trigger string) (all []DeadLetter, more bool, err error) {
	after := uint64(0)
	for {
		var page items[DeadLetter]
		q := url.Values{"trigger": {trigger}, "after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(pageOfDeadLetters)}}
		if err := e.get(ctx, eventsPath+"/deadletters?"+q.Encode(), &page); err != nil {
			return nil, false, err
		}
		for _, d := range page.Items {
			if after = d.ID; !e.notOf(d.Trigger) {
				all = append(all, d)
			}
		}
		if len(page.Items) < pageOfDeadLetters {
			return all, false, nil
		}
		if len(all) >= maxDeadLetters {
			return all, true, nil
		}
	}
}

// DeadEvent is the event of a dead letter, in the JSON format of CloudEvents.
func (e *Engine) DeadEvent(ctx context.Context, id uint64) (json.RawMessage, error) {
	var event json.RawMessage
	err := e.get(ctx, deadLetter(id), &event)
	return event, err
}

func deadLetter(id uint64) string {
	return eventsPath + "/deadletters/" + strconv.FormatUint(id, 10)
}

// Replay sends a dead letter to its Trigger again; it is none any more.
func (e *Engine) Replay(ctx context.Context, id uint64) error {
	return e.ask(ctx, http.MethodPost, deadLetter(id)+"/replay", new(Counted))
}

// ReplayAll is [Engine.Replay] of all dead letters, or of those of a trigger.
// It gives how many were sent, and an error where some stay.
func (e *Engine) ReplayAll(ctx context.Context, trigger string) (int, error) {
	var n Counted
	err := e.ask(ctx, http.MethodPost, eventsPath+"/deadletters/replay?"+url.Values{"trigger": {trigger}}.Encode(), &n)
	if err == nil && n.Left > 0 {
		err = fmt.Errorf("%d of the dead letters cannot be sent again and stay: %s; apply it again, or purge them", n.Left, n.Why)
	}
	return n.Count, err
}

// Purge throws a dead letter away.
func (e *Engine) Purge(ctx context.Context, id uint64) error {
	return e.ask(ctx, http.MethodDelete, deadLetter(id), new(Counted))
}

// PurgeAll is [Engine.Purge] of all dead letters, or of those of a trigger.
func (e *Engine) PurgeAll(ctx context.Context, trigger string) (int, error) {
	var n Counted
	err := e.ask(ctx, http.MethodDelete, eventsPath+"/deadletters?"+url.Values{"trigger": {trigger}}.Encode(), &n)
	return n.Count, err
}

// Counted is of how many dead letters something was done.
type Counted struct {
	Count int    `json:"count"`
	Left  int    `json:"left,omitempty"` // with which it could not be done
	Why   string `json:"why,omitempty"`  // it could not with the first of these
}

// Explain says why a product got its category; id is an event's or a product's.
func (e *Engine) Explain(ctx context.Context, id string) (Explanation, error) {
	var x Explanation
	err := e.get(ctx, eventsPath+"/explain/"+url.PathEscape(id), &x)
	return x, err
}
