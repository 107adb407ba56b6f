package results

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
)

const (
	// maxLook is how many events of a Broker are looked through, the newest.
	maxLook = 100_000

	// maxFound bounds the events that are found, the newest of each kind.
	maxFound = 64

	// slow is what is worth a sentence.
	slow = 100 * time.Millisecond
)

// Explain says why a product got its category, as client.Explanation. The
// path's id is that of the product event, of the product (the event's
// subject), or of the category event.
func (r *Results) Explain(w http.ResponseWriter, req *http.Request) error {
	x, err := r.explain(req.Context(), req.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(x) // the caller has gone; there is nobody left to tell
	return nil
}

// history is the stored events that are about one id, oldest first.
type history struct {
	asked    []Event // product events
	answers  []Event // category events; heads, like asked
	exact    *Event  // the category event that has the id itself
	unlooked uint64  // events before those that were looked through
}

func (r *Results) explain(ctx context.Context, id string) (client.Explanation, error) {
	var x client.Explanation
	h, err := r.look(ctx, id)
	if err != nil {
		return x, err
	}
	chosen := h.exact
	if chosen != nil && len(h.asked) == 0 {
		// Asked for an answer: what it answers, and what else answers that.
		if cause := causation(*chosen); cause != "" {
			if h, err = r.look(ctx, cause); err != nil {
				return x, err
			}
		}
	}
	if h.unlooked > 0 {
		x.Bound = fmt.Sprintf("the newest %d events of each Broker were looked through, and %d before them were not", maxLook, h.unlooked)
	}
	if chosen == nil && len(h.answers) > 0 {
		chosen = &h.answers[len(h.answers)-1]
	}
	if chosen == nil && len(h.asked) == 0 {
		detail := fmt.Sprintf("no product event, product or category event with the id %.200q is kept", id)
		if x.Bound != "" {
			detail += "; " + x.Bound
		}
		return x, problem.New(http.StatusNotFound, "%s", detail)
	}
	if err := r.ask(ctx, &x, h, chosen); err != nil {
		return x, err
	}
	if chosen == nil {
		return x, nil
	}
	for _, a := range h.answers {
		if a.Broker != chosen.Broker || a.Seq != chosen.Seq {
			x.Earlier = append(x.Earlier, a.Stored)
		}
	}
	return x, r.answer(ctx, &x, *chosen)
}

func causation(ev Event) string {
	id, _ := ev.Event.Extensions()["causationid"].(string)
	return id
}

// look looks for an id through the newest events of all Brokers.
func (r *Results) look(ctx context.Context, id string) (history, error) {
	var h history
	for _, b := range r.store.Brokers() {
		from := uint64(1)
		if last := r.store.Last(b); last > maxLook {
			from = last - maxLook + 1
		}
		asked := map[string]bool{id: true} // ids of the product's events: an answer names the one that it is to
		first := true
		for head, err := range r.store.Heads(ctx, b, from, false) {
			if err != nil {
				return h, err
			}
			if first && from > 1 && head.Seq == from {
				h.unlooked += from - 1 // at most: what is not kept any more has numbers too
			}
			first = false
			switch ev := head.Event; ev.Type() {
			case event.TypeProduct:
				if ev.ID() == id || ev.Subject() == id {
					h.asked = newest(h.asked, head)
					if len(asked) <= maxFound {
						asked[ev.ID()] = true
					}
				}
			case event.TypeCategory, event.TypeReview:
				if ev.ID() == id {
					h.exact = &head
				}
				if ev.ID() == id || ev.Subject() == id || asked[causation(head)] {
					h.answers = newest(h.answers, head)
				}
			}
		}
	}
	byTime := func(a, b Event) int { return a.Time.Compare(b.Time) }
	slices.SortStableFunc(h.asked, byTime)
	slices.SortStableFunc(h.answers, byTime)
	return h, nil
}

// newest adds an event and forgets the oldest where there are too many.
func newest(list []Event, ev Event) []Event {
	if len(list) == maxFound {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, ev)
}

// ask tells of the product event: the one that is answered, or the newest.
func (r *Results) ask(ctx context.Context, x *client.Explanation, h history, answer *Event) error {
	var asked *Event
	for i := range h.asked {
		a := &h.asked[i]
		if answer == nil || a.Broker == answer.Broker && a.Seq == answer.Cause || answer.Cause == 0 && a.Event.ID() == causation(*answer) {
			asked = a
		}
	}
	if asked == nil && answer != nil && answer.Cause > 0 {
		ev, err := r.store.Get(ctx, answer.Broker, answer.Cause)
		if err != nil && !errors.Is(err, ErrGone) {
			return err
		}
		if err == nil {
			asked = &ev
		}
	}
	if asked == nil { // answer is there
		x.Asked = client.Stored{ID: causation(*answer), Type: event.TypeProduct}
		return nil
	}
	x.Asked = asked.Stored
	var err error
	var bound string
	x.Deliveries, bound, err = r.store.Deliveries(ctx, *asked)
	if bound != "" && x.Bound != "" {
		x.Bound += "; "
	}
	x.Bound += bound
	if answer != nil && answer.Trigger != "" && answer.Broker == asked.Broker {
		answered := client.Delivery{Trigger: answer.Trigger, State: client.DeliveryAnswered, Attempts: answer.Attempts}
		i := slices.IndexFunc(x.Deliveries, func(d client.Delivery) bool { return d.Trigger == answer.Trigger })
		switch {
		case i < 0:
			x.Deliveries = append(x.Deliveries, answered)
		case x.Deliveries[i].State == client.DeliveryDone:
			x.Deliveries[i] = answered
		}
	}
	return err
}

// answer tells of the category event.
func (r *Results) answer(ctx context.Context, x *client.Explanation, head Event) error {
	x.Answer = &head.Stored
	whole, err := r.store.Get(ctx, head.Broker, head.Seq)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	var result category.Result
	if err := json.Unmarshal(whole.Event.Data(), &result); err != nil {
		return fmt.Errorf("read the category event %s, number %d of %s: %w", head.ID, head.Seq, head.Broker, err)
	}
	x.Result = &result
	x.Weights = weights(result.Legs)
	x.Slow = tookLong(*x, whole)
	return nil
}

// weights says what each leg counted.
func weights(legs []category.Leg) []client.LegWeight {
	sum := 0.0
	for _, l := range legs {
		if l.Outcome == category.Answered {
			sum += l.Weight
		}
	}
	var all []client.LegWeight
	for _, l := range legs {
		if l.Weight == 0 {
			continue // of a composer that did not tell
		}
		w := client.LegWeight{Leg: l.Name, Weight: l.Weight}
		if l.Outcome == category.Answered {
			w.Share = l.Weight / sum
		}
		all = append(all, w)
	}
	return all
}

// tookLong says in sentences where the time went, if it was much.
func tookLong(x client.Explanation, answer Event) []string {
	var said []string
	composed := time.Duration(x.Result.DurationMs * float64(time.Millisecond))
	if !x.Asked.Time.IsZero() {
		if waited := x.Answer.Time.Sub(x.Asked.Time) - composed; waited > slow {
			text := fmt.Sprintf("The event waited %s at the Broker and on its way to the composer", waited.Round(time.Millisecond))
			if answer.Attempts > 1 {
				text += fmt.Sprintf("; it was delivered at attempt %d", answer.Attempts)
			}
			said = append(said, text+".")
		}
	}
	for _, l := range x.Result.Legs {
		if l.ColdMs > 0 {
			said = append(said, fmt.Sprintf("Leg %s waited %.0f of its %.0f ms for a pod of %s to start.", l.Name, l.ColdMs, l.LatencyMs, l.Service))
		}
		if l.Attempts > 1 {
			said = append(said, fmt.Sprintf("Leg %s was asked %d times.", l.Name, l.Attempts))
		}
	}
	if len(x.Result.Legs) > 0 && composed > slow {
		l := slices.MaxFunc(x.Result.Legs, func(a, b category.Leg) int { return cmp.Compare(a.LatencyMs, b.LatencyMs) })
		said = append(said, fmt.Sprintf("Leg %s took longest: %.0f of the composer's %.0f ms.", l.Name, l.LatencyMs, x.Result.DurationMs))
	}
	return said
}
