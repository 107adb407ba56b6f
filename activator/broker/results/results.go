// Package results tells what came of events: it follows the category events
// that Brokers keep, and explains one.
//
// [Results.Follow] is a stream of Server-Sent Events. Each names the place
// after which to resume, so that a reader that was away, or so slow that it
// was let go, misses nothing that is still kept. [Results.Explain] says why a
// product got its category, from what is stored alone; how far it looks is
// bounded, and an answer says so where the bound was reached.
//
// Memory is bounded whoever reads: events are read without their data until
// they are wanted, one after the other, at the reader's pace.
//
// Non-goals: an order among several Brokers; answers that were not events.
package results

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
)

// Event is a stored event and what the Broker noted with it.
type Event struct {
	client.Stored
	Event    ce.Event
	Trigger  string // of a reply: the Trigger whose subscriber gave it, NAMESPACE/NAME
	Cause    uint64 // of a reply: the sequence of the event that it answers
	Attempts int    // of a reply: how often that one was delivered
}

// Store is what Brokers keep. Brokers are named NAMESPACE/NAME.
type Store interface {
	Brokers() []string
	// Changed is closed when Brokers may give others.
	Changed() <-chan struct{}
	// Heads gives a Broker's events from a sequence on, oldest first, without
	// their data; with follow it goes on with what comes until ctx ends. What
	// is not kept any more is left out, and a sequence that is yet to come
	// means that the Broker has begun anew: all of it is given.
	Heads(ctx context.Context, broker string, from uint64, follow bool) iter.Seq2[Event, error]
	// Get gives one whole event, or ErrGone.
	Get(ctx context.Context, broker string, seq uint64) (Event, error)
	// Last is the sequence of the newest event.
	Last(broker string) uint64
	// Deliveries says what became of an event, by Trigger; bound says how far
	// was looked, where there may be more beyond it.
	Deliveries(ctx context.Context, ev Event) (all []client.Delivery, bound string, err error)
}

// ErrGone says that an event is not kept any more.
var ErrGone = errors.New("the event is not kept any more")

const (
	// maxReaders bounds the streams at once.
	maxReaders = 64

	// heartbeat is how often a stream says that it is alive, and finds out
	// whether its reader is.
	heartbeat = 15 * time.Second

	// writeWait is how long a reader may take to take an event.
	writeWait = 30 * time.Second

	// resumeMs is after how long a reader that was let go should come back.
	resumeMs = 1000
)

// Results answers about what came of events.
type Results struct {
	store   Store
	ending  context.Context // when it is done, so are the streams
	readers chan struct{}
}

// New returns Results that end their streams when ending ends.
func New(ending context.Context, store Store) *Results {
	return &Results{store: store, ending: ending, readers: make(chan struct{}, maxReaders)}
}

// Follow answers with a stream of Server-Sent Events: id is the place after
// which to resume, data the event in the JSON format of CloudEvents.
//
//	type=TYPE     events of this type, which may be there several times; where
//	              there is none dev.aisle.category.v1 and dev.aisle.review.v1:
//	              the answers
//	since=ID      those after this place; all that are kept where there is none
//	follow=false  end with what is stored now
//
// The header Last-Event-ID outweighs since.
func (r *Results) Follow(w http.ResponseWriter, req *http.Request) error {
	since := req.Header.Get("Last-Event-ID")
	if since == "" {
		since = req.FormValue("since")
	}
	want := req.URL.Query()["type"]
	if len(want) == 0 {
		want = []string{event.TypeCategory, event.TypeReview}
	}
	follow := true
	if s := req.FormValue("follow"); s != "" {
		var err error
		if follow, err = strconv.ParseBool(s); err != nil {
			return problem.New(http.StatusBadRequest, "follow=%.40s is neither true nor false", s)
		}
	}
	changed := r.store.Changed() // before it is asked what may change
	brokers := r.store.Brokers()
	if len(brokers) == 0 {
		return problem.New(http.StatusNotFound, "there is no Broker here, and so there are no results; apply one")
	}
	after, err := parsePlace(since, brokers)
	if err != nil {
		return err
	}
	select {
	case r.readers <- struct{}{}:
		defer func() { <-r.readers }()
	default:
		return &problem.Error{Status: http.StatusServiceUnavailable, RetryAfter: 5 * time.Second,
			Detail: fmt.Sprintf("%d readers follow results already", maxReaders)}
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(r.ending, cancel)()

	out := &stream{w: w, flush: http.NewResponseController(w)}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if err := out.write(fmt.Sprintf("retry: %d\n\n", resumeMs)); err != nil {
		return nil // the reader has gone
	}
	if !follow {
		changed = nil
	}
	return r.pass(ctx, out, brokers, changed, after, want)
}

// found is an event to pass on, or the end of a Broker's events.
type found struct {
	ev  Event
	err error
	end bool
}

// pass writes events until the reader has gone or there are other Brokers; if
// changed is nil, until there are no more.
func (r *Results) pass(ctx context.Context, out *stream, brokers []string, changed <-chan struct{}, after place, want []string) error {
	follow := changed != nil
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan found)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	for _, b := range brokers {
		from := after[b] + 1 // not by the goroutine: after goes on
		reading.Go(func() { r.read(ctx, b, from, want, follow, events) })
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for left := len(brokers); left > 0 || follow; {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			changed = r.store.Changed()
			if !slices.Equal(brokers, r.store.Brokers()) {
				return nil
			}
		case <-beat.C:
			if out.write(":\n\n") != nil {
				return nil // the reader has gone, or is too slow: it knows where to resume
			}
		case f := <-events:
			if f.err != nil {
				return out.fail(f.err)
			}
			if f.end {
				left--
				continue
			}
			_, data, err := event.Encode(f.ev.Event, true)
			if err != nil {
				return out.fail(err)
			}
			after[f.ev.Broker] = f.ev.Seq
			if out.write("id: "+after.format(brokers)+"\ndata: "+oneLine(data)+"\n\n") != nil {
				return nil
			}
		}
	}
	return nil
}

// oneLine is JSON without line breaks: they would end the data, and mean
// nothing between JSON's tokens, where alone they can be.
func oneLine(data []byte) string {
	return strings.NewReplacer("\n", " ", "\r", " ").Replace(string(data))
}

// read sends a Broker's events of some types.
func (r *Results) read(ctx context.Context, broker string, from uint64, want []string, follow bool, events chan<- found) {
	send := func(f found) bool {
		select {
		case events <- f:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for head, err := range r.store.Heads(ctx, broker, from, follow) {
		if err == nil && !slices.Contains(want, head.Event.Type()) {
			continue
		}
		if err == nil {
			head, err = r.store.Get(ctx, broker, head.Seq)
			if errors.Is(err, ErrGone) {
				continue
			}
		}
		if !send(found{ev: head, err: err}) || err != nil {
			return
		}
	}
	send(found{end: true})
}

// stream is an answer that is being written.
type stream struct {
	w     http.ResponseWriter
	flush *http.ResponseController
}

func (s *stream) write(text string) error {
	_ = s.flush.SetWriteDeadline(time.Now().Add(writeWait)) // where it is not supported, whoever serves bounds it
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.flush.Flush()
}

// fail tells the reader why the stream ends; the status has been sent.
func (s *stream) fail(err error) error {
	_ = s.write(": " + strings.ReplaceAll(err.Error(), "\n", " ") + "\n\n") // it ends either way
	return nil
}

// place is up to where a reader has read, by Broker.
type place map[string]uint64

// format writes a place, NAMESPACE/NAME:NUMBER of each Broker that something
// was read of: it holds too when there is another Broker.
func (p place) format(brokers []string) string {
	var parts []string
	for _, b := range brokers {
		if p[b] > 0 {
			parts = append(parts, b+":"+strconv.FormatUint(p[b], 10))
		}
	}
	return strings.Join(parts, ",")
}

// parsePlace reads what format writes, and a number where there is one Broker.
// Brokers that are not there any more are passed over.
func parsePlace(s string, brokers []string) (place, error) {
	p := place{}
	if s == "" {
		return p, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		name, number, named := strings.Cut(part, ":")
		if !named {
			name, number = "", part
			if len(brokers) == 1 {
				name = brokers[0]
			}
		}
		n, err := strconv.ParseUint(number, 10, 63)
		if err != nil || name == "" {
			return nil, problem.New(http.StatusBadRequest, "%.80q is not a place in the results; write NUMBER where there is one Broker, and else NAMESPACE/NAME:NUMBER of some of %s", part, strings.Join(brokers, ", "))
		}
		if slices.Contains(brokers, name) {
			p[name] = n
		}
	}
	return p, nil
}
