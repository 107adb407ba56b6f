package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
)

// ledger is what is known of each event, by its number.
type ledger struct {
	mu     sync.Mutex // guards what follows
	events []fate
	more   map[int][]answer // second answers with another id, by event
	left   int              // accepted, and neither answered nor dead
	news   time.Time        // when something became known of an event that was left

	redelivered int // answers that came again
	dead        int // dead letters, copies included
	unknown     int // answers and dead letters of events that were never sent
	differing   []string
}

type fate struct {
	accepted bool
	dead     uint16
	first    answer // id 0: none
}

// answer is what is compared of a category event.
type answer struct {
	id         uint64 // hash of the event's id
	content    uint64 // hash of the category and of what each leg said
	answered   uint64 // hash of which legs and models answered
	confidence float32
}

func newLedger(n int) *ledger {
	return &ledger{events: make([]fate, n), more: map[int][]answer{}, news: time.Now()}
}

// sure is how much two runs of a model over one product may differ: sums in a
// batch of another size are taken in another order.
const sure = 1e-3

var seed = maphash.MakeSeed()

func (l *ledger) accepted(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := &l.events[n]; !f.accepted {
		f.accepted = true
		if f.first.id == 0 && f.dead == 0 {
			l.left++
		}
		l.news = time.Now()
	}
}

// known notes that the fate of an event is known. REQUIRES: l.mu is held.
func (l *ledger) known(f *fate) {
	if f.accepted && f.first.id == 0 && f.dead == 0 {
		l.left--
	}
	l.news = time.Now()
}

func (l *ledger) isDead(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead++
	n, err := number(id, len(l.events))
	if err != nil {
		l.unknown++
		return
	}
	l.known(&l.events[n])
	l.events[n].dead++
}

func (l *ledger) answer(of, id string, res category.Result) {
	a := digest(id, res)
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := number(of, len(l.events))
	if err != nil {
		l.unknown++
		return
	}
	f := &l.events[n]
	l.known(f)
	if f.first.id == 0 {
		f.first = a
		return
	}
	for _, b := range append([]answer{f.first}, l.more[n]...) {
		switch {
		case a.id == b.id:
			l.redelivered++
			if a.content != b.content || math.Abs(float64(a.confidence-b.confidence)) > sure {
				l.differs("event %d: two answers with the id %s differ", n, id)
			}
			return
		case a.answered == b.answered:
			l.differs("event %d: the answer %s has another id, and the same legs and models answered", n, id)
		}
	}
	l.more[n] = append(l.more[n], a)
}

func (l *ledger) differs(format string, args ...any) {
	if len(l.differing) < 20 {
		l.differing = append(l.differing, fmt.Sprintf(format, args...))
	}
}

// digest reduces an answer to what must not depend on chance.
func digest(id string, res category.Result) answer {
	var content, answered strings.Builder
	label := ""
	a := answer{id: cmp.Or(maphash.String(seed, id), 1)}
	if c := res.Category; c != nil {
		label, a.confidence = c.Label, float32(c.Confidence)
	}
	fmt.Fprintln(&content, label, res.Status, res.Composition.Digest)
	for _, leg := range res.Legs {
		fmt.Fprintln(&content, leg.Name, leg.Outcome, leg.Label)
		if leg.Outcome == category.Answered && leg.Model != nil {
			fmt.Fprintln(&answered, leg.Name, leg.Model.Digest)
		}
	}
	a.content, a.answered = maphash.String(seed, content.String()), maphash.String(seed, answered.String())
	return a
}

// wait waits until the fate of every accepted event is known, or until there
// was no news for patience.
func (l *ledger) wait(ctx context.Context, patience time.Duration) bool {
	for ctx.Err() == nil {
		l.mu.Lock()
		left, news := l.left, l.news
		l.mu.Unlock()
		if left == 0 {
			return true
		}
		if time.Since(news) > patience {
			return false
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

func (l *ledger) count(r *report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Sent = len(l.events)
	for n, f := range l.events {
		if f.first.id != 0 {
			r.Answered++
		}
		if f.dead > 0 {
			r.DeadLettered++
		}
		if !f.accepted {
			continue
		}
		r.Accepted++
		if f.first.id == 0 && f.dead == 0 {
			if r.Lost++; len(r.LostIDs) < 20 {
				r.LostIDs = append(r.LostIDs, eventID(n))
			}
		}
	}
	r.SecondAnswers = len(l.more)
	r.Redelivered, r.DeadLetters, r.Unknown, r.Differing = l.redelivered, l.dead, l.unknown, l.differing
}

func eventID(n int) string { return "e" + strconv.Itoa(n) }

func number(id string, events int) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "e"))
	if err != nil || n < 0 || n >= events || eventID(n) != id {
		return 0, fmt.Errorf("no event %q was sent", id)
	}
	return n, nil
}

// collector is where answers and dead letters are delivered to.
type collector struct {
	*http.Server
	address string
}

func collect(l *ledger) (*collector, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /answers", func(w http.ResponseWriter, r *http.Request) {
		ev, _, err := event.Read(w, r, 1<<20)
		var res category.Result
		if err == nil {
			err = json.Unmarshal(ev.Data(), &res)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		of, _ := ev.Extensions()["causationid"].(string)
		l.answer(of, ev.ID(), res)
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("POST /dead", func(w http.ResponseWriter, r *http.Request) {
		ev, _, err := event.Read(w, r, 1<<20)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		l.isDead(ev.ID())
		w.WriteHeader(http.StatusAccepted)
	})
	c := &collector{&http.Server{Handler: mux}, ln.Addr().String()}
	go func() { _ = c.Serve(ln) }() // ends with Close
	return c, nil
}
