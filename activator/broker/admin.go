package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
)

// Admin answers about events, as JSON, below /v1/events/:
//
//	GET    /v1/events/deadletters              {"items":[DeadLetter...]}, oldest first; trigger=NAMESPACE/NAME, after=ID, limit=N (1,000)
//	GET    /v1/events/deadletters/ID           the event, as application/cloudevents+json
//	POST   /v1/events/deadletters/ID/replay    sent again to the Trigger that it is of, and off the list
//	POST   /v1/events/deadletters/replay       all of them (trigger=): {"count":N}; "left" are those whose Trigger or Broker is gone, and "why" says so of one
//	DELETE /v1/events/deadletters/ID           off the list for good
//	DELETE /v1/events/deadletters              all of them (trigger=): {"count":N}
//	GET    /v1/events/pending                  {"items":[Pending...]}: what waits for what, by Trigger
//	GET    /v1/events/results                  Server-Sent Events; see results.Results.Follow
//	GET    /v1/events/explain/ID               why a product got its category; see results.Results.Explain
//	GET    /v1/events/pingsources              {"items":[Ticks...]}: of PingSources
func (b *Broker) Admin() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, problem.Handler(h, func(r *http.Request, err error) {
			b.log.Error("a question about events was not answered", "path", r.URL.Path, "err", err)
		}))
	}
	handle("GET /v1/events/deadletters", b.listDeadLetters)
	handle("GET /v1/events/deadletters/{id}", b.showDeadLetter)
	handle("POST /v1/events/deadletters/{id}/replay", b.eachDeadLetter(b.replay))
	handle("POST /v1/events/deadletters/replay", b.eachDeadLetter(b.replay))
	handle("DELETE /v1/events/deadletters/{id}", b.eachDeadLetter(b.purge))
	handle("DELETE /v1/events/deadletters", b.eachDeadLetter(b.purge))
	handle("GET /v1/events/pending", b.listPending)
	handle("GET /v1/events/results", b.results.Follow)
	handle("GET /v1/events/explain/{id...}", b.results.Explain)
	handle("GET /v1/events/pingsources", b.listPingSources)
	return mux
}

// maxList bounds one answer with dead letters.
const maxList = 1000

func (b *Broker) listDeadLetters(w http.ResponseWriter, r *http.Request) error {
	after, limit := uint64(0), maxList
	var err error
	if s := r.FormValue("after"); s != "" {
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			return problem.New(http.StatusBadRequest, "after=%.40s is not the id of a dead letter", s)
		}
	}
	if s := r.FormValue("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > maxList {
			return problem.New(http.StatusBadRequest, "limit=%.40s is not a number from 1 to %d", s, maxList)
		}
	}
	items := []client.DeadLetter{}
	for d, err := range b.deadLetters(r.Context(), after+1) {
		if err != nil {
			return err
		}
		if want := r.FormValue("trigger"); want != "" && d.Trigger != want {
			continue
		}
		if items = append(items, d); len(items) == limit {
			break
		}
	}
	return answer(w, map[string]any{"items": items})
}

func (b *Broker) showDeadLetter(w http.ResponseWriter, r *http.Request) error {
	id, err := letterOf(r)
	if err != nil {
		return err
	}
	d, err := b.deadLetterByID(r.Context(), id)
	if err != nil {
		return err
	}
	return event.Write(w, d.event, true)
}

// eachDeadLetter does something with the dead letter that the path names, or
// with all, and answers with their number. Of all, one that it cannot be done
// with (409) is left.
func (b *Broker) eachDeadLetter(do func(context.Context, uint64) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.PathValue("id") != "" {
			id, err := letterOf(r)
			if err == nil {
				err = do(r.Context(), id)
			}
			if err != nil {
				return err
			}
			return answer(w, client.Counted{Count: 1})
		}
		n := client.Counted{}
		for d, err := range b.deadLetters(r.Context(), 0) {
			if err != nil {
				return err
			}
			if want := r.FormValue("trigger"); want != "" && d.Trigger != want {
				continue
			}
			if err := do(r.Context(), d.ID); gone(err) {
				continue // another was faster
			} else if err != nil && problem.Status(err) == http.StatusConflict {
				n.Left++
				n.Why = cmp.Or(n.Why, err.Error())
				continue
			} else if err != nil {
				if e, ok := errors.AsType[*problem.Error](err); ok {
					e.Extra = map[string]any{"count": n.Count}
				}
				return err
			}
			n.Count++
		}
		return answer(w, n)
	}
}

func letterOf(r *http.Request) (uint64, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, problem.New(http.StatusBadRequest, "%.40q is not the id of a dead letter", r.PathValue("id"))
	}
	return id, nil
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller has gone; there is nobody left to tell
	return nil
}
