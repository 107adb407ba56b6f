package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"aisle.dev/aisle/internal/category"
)

// The engine's events are under /v1/events on its socket:
//
//	GET  /v1/events/stored?namespace=&limit=         []StoredEvent, the newest last
//	GET  /v1/events/pending?namespace=               []PendingEvents
//	GET  /v1/events/dead?namespace=&trigger=&id=&limit=
//	                                                 []DeadLetter without events, the newest last
//	GET  /v1/events/dead/SEQ                         DeadLetter
//	POST /v1/events/replay, /v1/events/purge         Selection -> Selected
//	GET  /v1/events/results?since=SEQ                Server-Sent Events: id SEQ, data a category
//	                                                 event in the JSON format of CloudEvents
//	GET  /v1/events/explain/ID                       Explanation, ID of an event or of a product
const eventsPath = "/v1/events"

// StoredEvent is an event that a Broker keeps: one that is on its way, or
// history.
type StoredEvent struct {
	Broker string    `json:"broker"` // NAMESPACE/NAME
	Seq    uint64    `json:"seq"`    // its place in the Broker
	Time   time.Time `json:"time"`   // when it was accepted
	ID     string    `json:"id"`
	Type   string    `json:"type"`
	Source string    `json:"source"`
	Bytes  int       `json:"bytes"`
	Open   []string  `json:"open,omitempty"` // Triggers that are not done with it, NAMESPACE/NAME
}

// PendingEvents are what a Trigger has yet to deliver, and what it waits for.
type PendingEvents struct {
	Trigger  string    `json:"trigger"` // NAMESPACE/NAME
	Events   int       `json:"events"`
	Oldest   time.Time `json:"oldest,omitzero"`
	Until    time.Time `json:"until,omitzero"` // when they are delivered at the latest; zero: not known
	Why      string    `json:"why"`            // what they wait for
	Retrying int       `json:"retrying"`       // of Events: tried before, and waiting for their next attempt
}

// DeadLetter is an event that a Trigger gave up.
type DeadLetter struct {
	Seq         uint64          `json:"seq"` // its place among the dead letters, which names it
	Time        time.Time       `json:"time"`
	Broker      string          `json:"broker"`  // NAMESPACE/NAME
	Trigger     string          `json:"trigger"` // NAMESPACE/NAME
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	Source      string          `json:"source"`
	Attempts    int             `json:"attempts"`
	Code        int             `json:"code"`            // of the last answer; -1: there was none
	Reason      string          `json:"reason"`          // what the subscriber said, shortened, or why it said nothing
	Destination string          `json:"destination"`     // the subscriber's URL
	Event       json.RawMessage `json:"event,omitempty"` // in the JSON format of CloudEvents
}

// DeadLetters chooses dead letters. Empty fields choose all.
type DeadLetters struct {
	Namespace string
	Trigger   string // NAMESPACE/NAME
	ID        string // of the event
	Limit     int    // the newest so many; 0: as many as the engine tells at once
}

// Selection says which dead letters to replay or to purge: those of the
// numbers, or with All those of a Trigger, or of all.
type Selection struct {
	Seqs      []uint64 `json:"seqs,omitempty"`
	All       bool     `json:"all,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Trigger   string   `json:"trigger,omitempty"` // NAMESPACE/NAME
}

// Selected is how many dead letters were replayed or purged.
type Selected struct {
	Count int `json:"count"`
}

// Explanation says why a product got its category, out of what is stored.
type Explanation struct {
	Asked   Stored           `json:"asked"`             // the product event, as far as it is stored
	Answer  *Stored          `json:"answer,omitempty"`  // the category event; absent: there is none yet
	Result  *category.Result `json:"result,omitempty"`  // its data
	Weights []LegWeight      `json:"weights,omitempty"` // of the composition that answered, where that is still in use
	Slow    []string         `json:"slow,omitempty"`    // what took long, in sentences
	Earlier []Stored         `json:"earlier,omitempty"` // other answers to the same product, oldest first
}

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

// StoredEvents lists what the brokers keep, the newest limit of it, oldest first.
func (e *Engine) StoredEvents(ctx context.Context, limit int) ([]StoredEvent, error) {
	var all []StoredEvent
	err := e.get(ctx, eventsPath+"/stored?"+url.Values{"namespace": {e.Namespace}, "limit": {strconv.Itoa(limit)}}.Encode(), &all)
	return all, err
}

// PendingEvents lists what waits for what, by Trigger.
func (e *Engine) PendingEvents(ctx context.Context) ([]PendingEvents, error) {
	var all []PendingEvents
	err := e.get(ctx, eventsPath+"/pending?"+url.Values{"namespace": {e.Namespace}}.Encode(), &all)
	return all, err
}

// DeadLetters lists dead letters, oldest first, without their events.
func (e *Engine) DeadLetters(ctx context.Context, d DeadLetters) ([]DeadLetter, error) {
	var all []DeadLetter
	q := url.Values{"namespace": {d.Namespace}, "trigger": {d.Trigger}, "id": {d.ID}, "limit": {strconv.Itoa(d.Limit)}}
	err := e.get(ctx, eventsPath+"/dead?"+q.Encode(), &all)
	return all, err
}

// DeadLetter gives one with its event.
func (e *Engine) DeadLetter(ctx context.Context, seq uint64) (DeadLetter, error) {
	var d DeadLetter
	err := e.get(ctx, eventsPath+"/dead/"+strconv.FormatUint(seq, 10), &d)
	return d, err
}

// Replay sends dead letters to their Triggers again; they are none any more.
func (e *Engine) Replay(ctx context.Context, s Selection) (int, error) {
	var done Selected
	err := e.ask(ctx, http.MethodPost, eventsPath+"/replay", s, &done)
	return done.Count, err
}

// Purge throws dead letters away.
func (e *Engine) Purge(ctx context.Context, s Selection) (int, error) {
	var done Selected
	err := e.ask(ctx, http.MethodPost, eventsPath+"/purge", s, &done)
	return done.Count, err
}

// Explain says why a product got its category; id is an event's or a product's.
func (e *Engine) Explain(ctx context.Context, id string) (Explanation, error) {
	var x Explanation
	err := e.get(ctx, eventsPath+"/explain/"+url.PathEscape(id), &x)
	return x, err
}
