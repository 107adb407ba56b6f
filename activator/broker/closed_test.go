package broker

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/problem"
)

// door is a host that a schedule opens and closes.
type door struct {
	closed atomic.Bool
	until  time.Time
}

func (d *door) Places(string) int               { return 1 }
func (d *door) Waiting(string, int)             {}
func (d *door) Closed(string) (time.Time, bool) { return d.until, d.closed.Load() }

func (d *door) Exists(types.NamespacedName) bool { return true }

func (d *door) set(h *harness, closed bool) {
	d.closed.Store(closed)
	h.Reconsider()
}

func newDoor(closed bool) *door {
	d := &door{until: time.Now().Add(time.Hour).Truncate(time.Second)}
	d.closed.Store(closed)
	return d
}

// unasked waits until nothing is asked of the store for the only Trigger. An
// event that came before would be held in memory, and a stop cost it an attempt.
func (h *harness) unasked() {
	h.t.Helper()
	for _, trigger := range h.config.Load().triggers {
		for deadline := time.Now().Add(time.Minute); ; {
			cons, err := h.store.js.Consumer(h.t.Context(), trigger.stream.name, trigger.consumer)
			if err != nil {
				h.t.Fatal(err)
			}
			if cons.CachedInfo().NumWaiting == 0 {
				break
			}
			if time.Now().After(deadline) {
				h.t.Fatal("events are still asked for after a minute")
			}
		}
	}
}

// heldFor waits until n events wait for the only Trigger's subscriber to open.
func (h *harness) heldFor(d *door, n int) {
	h.t.Helper()
	h.waits(func(p client.Pending) bool { return p.Events == n && p.Reason == whyClosed && p.Until.Equal(d.until) })
}

func turnAway(w http.ResponseWriter, _ *http.Request) {
	problem.Write(w, &problem.Error{Status: http.StatusServiceUnavailable, Type: problem.TypeClosed, Detail: "it is closed", RetryAfter: time.Hour})
}

// What comes for a closed subscriber waits in the store, over a restart too,
// for its opening; the wait costs no attempt.
func TestClosed(t *testing.T) {
	for name, trigger := range map[string]string{
		"plain":    triggerTo("sort", "  delivery: {retry: 0}"),
		"ordered":  deferred("sort", `kafka.eventing.knative.dev/delivery.order: ordered`, "  delivery: {retry: 0}"),
		"deferred": deferred("sort", `aisle.dev/defer-max-age: 1s`, "  delivery: {retry: 0}"),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(false)
			h := newHarness(t, Options{Subscribers: d}, shopBroker, trigger)
			take, got := collect()
			h.subscribe("sort"+host, take)
			h.send("before")
			comes(t, got, "before")
			h.waits(number(0))

			d.set(h, true)
			h.unasked()
			h.subscribe("sort"+host, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
			h.send("1", "Ce-Partitionkey", "k")
			h.send("2", "Ce-Partitionkey", "k")
			h.heldFor(d, 2)
			h.stop()
			h.start(shopBroker, trigger)
			h.send("3", "Ce-Partitionkey", "k")
			h.heldFor(d, 3)

			d.set(h, false)
			for _, l := range h.deadLetterList(3) {
				if l.Attempts != 1 {
					t.Errorf("event %s has had %d attempts, one of them with the subscriber open", l.EventID, l.Attempts)
				}
			}
			h.subscribe("sort"+host, take)
			h.send("after")
			comes(t, got, "after")
		})
	}
}

// Who is turned away by a subscriber that closes in this moment is no dead
// letter, and goes first at the opening.
func TestClosedMeanwhile(t *testing.T) {
	d := newDoor(false)
	h := newHarness(t, Options{Subscribers: d}, shopBroker, triggerTo("sort", "  delivery: {retry: 0}"))
	asked := make(chan struct{}, 10)
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		d.set(h, true)
		turnAway(w, r)
		asked <- struct{}{}
	})
	h.send("1")
	h.send("2")
	<-asked
	h.heldFor(d, 2)
	take, got := collect()
	h.subscribe("sort"+host, take)
	d.set(h, false)
	if first := received(t, got); first.ID() != "1" {
		t.Errorf("event %s came first", first.ID())
	}
	comes(t, got, "2")
	if dead := h.deadLetterList(0); len(dead) > 0 || len(asked) > 0 {
		t.Errorf("dead letters %+v; asked %d times more", dead, len(asked))
	}
}

// One that says so while no schedule closes it is excused once: it may have
// been opened in this moment, and it may be lying.
func TestClosedByItsOwnWord(t *testing.T) {
	h := newHarness(t, Options{Subscribers: newDoor(false)}, shopBroker, triggerTo("sort", "  delivery: {retry: 0}"))
	var asked atomic.Int32
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		turnAway(w, r)
	})
	h.send("1")
	if l := h.deadLetterList(1)[0]; l.Code != http.StatusServiceUnavailable || asked.Load() != 2 {
		t.Errorf("dead letter %+v after %d requests", l, asked.Load())
	}
}
