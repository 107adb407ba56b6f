// Package reviewing works the queue of products whose categories were not sure
// enough: what waits, what may be decided, what was decided and how right the
// answers were, and a session of one key a product in a terminal.
//
// The queue is no store of its own: it is what the Broker's events say, review
// events less those about which there is a decision. Its memory is bounded, and
// text of products reaches no terminal as it is.
package reviewing

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/review"
)

// Bounds of what is held. A decision takes some 200 bytes, a product its text.
const (
	MaxHeld      = 1000      // products that wait, the oldest
	MaxDecisions = 1_000_000 // the rest is not counted
)

// Item is a product that waits.
type Item struct {
	Review      string                  `json:"review"` // the id of the review event
	Time        time.Time               `json:"time"`
	Product     product.Product         `json:"product"`
	Candidates  []prediction.Prediction `json:"candidates"`
	Legs        []category.Leg          `json:"legs"`
	Composition string                  `json:"composition"` // its digest
}

// ID is what the product is known by: its own id, or where it has none its
// review's.
func (i Item) ID() string { return cmp.Or(i.Product.ID, i.Review) }

// Decide makes the decision that a category is right.
func (i Item) Decide(c review.Category, by string) review.Decision {
	top := i.Candidates[0]
	return review.Decision{
		Review: i.Review, Product: i.Product, Category: c, By: by,
		Said: review.Said{Label: top.Label, Confidence: top.Probability, Composition: i.Composition},
		Rank: 1 + slices.IndexFunc(i.Candidates, func(p prediction.Prediction) bool { return p.Label == c.Label }),
	}
}

// Outcome is what is kept of a decision for [Queue.Stats].
type outcome struct {
	label string
	right bool
	rank  int
}

// Queue is made of events, in the order in which they were stored.
type Queue struct {
	waiting []*Item           // oldest first; nil: not any more
	held    int               // of those
	at      map[string]int    // a review's place in waiting
	beyond  map[string]bool   // reviews that wait and are not held
	latest  map[string]string // a product's newest review, of those that wait
	decided map[string]outcome
	recent  []*Item // that were decided about, the newest last; at most MaxHeld
	unread  int
}

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	return &Queue{at: map[string]int{}, beyond: map[string]bool{}, latest: map[string]string{}, decided: map[string]outcome{}}
}

// Types are those of the events that a queue is made of.
var Types = []string{event.TypeReview, event.TypeReviewed}

// Add takes an event. One that cannot be read is counted, and passed over.
func (q *Queue) Add(ev ce.Event) {
	switch ev.Type() {
	case event.TypeReview:
		item, err := read(ev)
		if err != nil {
			q.unread++
			return
		}
		q.wait(item)
	case event.TypeReviewed:
		d, err := review.Decode(ev.Data())
		if err != nil {
			q.unread++
			return
		}
		if i, ok := q.at[d.Review]; ok {
			if len(q.recent) == MaxHeld {
				q.recent = append(q.recent[:0], q.recent[1:]...)
			}
			q.recent = append(q.recent, q.waiting[i])
		}
		q.drop(d.Review)
		if _, again := q.decided[d.Review]; again || len(q.decided) < MaxDecisions {
			q.decided[d.Review] = outcome{d.Category.Label, d.Right(), d.Rank}
		}
	}
}

func read(ev ce.Event) (*Item, error) {
	var r category.Result
	if err := json.Unmarshal(ev.Data(), &r); err != nil {
		return nil, err
	}
	if len(r.Candidates) == 0 {
		return nil, fmt.Errorf("the review %s has no candidates", ev.ID())
	}
	item := &Item{Review: ev.ID(), Time: ev.Time(), Candidates: r.Candidates, Legs: r.Legs, Composition: r.Composition.Digest}
	if len(r.Product) > 0 { // events of before the product was in them have none
		if err := json.Unmarshal(r.Product, &item.Product); err != nil {
			return nil, err
		}
	}
	if item.Product.ID == "" {
		item.Product.ID = r.ID
	}
	return item, nil
}

// wait adds a product, in place of what waited about it before.
func (q *Queue) wait(item *Item) {
	if _, done := q.decided[item.Review]; done {
		return
	}
	if before, ok := q.latest[item.ID()]; ok {
		q.drop(before)
	}
	q.latest[item.ID()] = item.Review
	if q.held == MaxHeld {
		q.beyond[item.Review] = true
		return
	}
	q.at[item.Review] = len(q.waiting)
	q.waiting = append(q.waiting, item)
	q.held++
}

func (q *Queue) drop(review string) {
	delete(q.beyond, review)
	if i, ok := q.at[review]; ok {
		delete(q.latest, q.waiting[i].ID())
		q.waiting[i] = nil
		delete(q.at, review)
		q.held--
	}
}

// Waiting returns what waits, the oldest first, and how many more do.
func (q *Queue) Waiting() (held []Item, more int) {
	for _, i := range q.waiting {
		if i != nil {
			held = append(held, *i)
		}
	}
	return held, len(q.beyond)
}

// Find returns the product that an id names, its own or its review's: one that
// waits, or one of the last that were decided about, whose decision can so be
// mended.
func (q *Queue) Find(id string) (item Item, found bool) {
	for _, all := range [][]*Item{q.waiting, q.recent} {
		for _, i := range slices.Backward(all) {
			if i != nil && (i.ID() == id || i.Review == id) {
				return *i, true
			}
		}
	}
	return Item{}, false
}

// Unread is how many events could not be read.
func (q *Queue) Unread() int { return q.unread }
