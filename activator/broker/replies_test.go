package broker

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"aisle.dev/aisle/internal/event"
)

// A reply goes back to the Broker; one that is answered for ever ends.
func TestReplies(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, triggerTo("sort", "  filter: {attributes: {type: test}}"), triggerTo("results", "  filter: {attributes: {type: answer}}"),
		triggerTo("echo", "  filter: {attributes: {type: loop}}"))
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		ev, structured, err := event.Read(w, r, 1<<20)
		if err != nil || r.Header.Get("Prefer") != "reply" {
			t.Errorf("read: %v, Prefer %q", err, r.Header.Get("Prefer"))
		}
		ev.SetType("answer")
		_ = event.Write(w, ev, structured)
	})
	echoes := make(chan struct{}, 1000)
	h.subscribe("echo"+host, func(w http.ResponseWriter, r *http.Request) {
		echoes <- struct{}{}
		ev, _, err := event.Read(w, r, 1<<20)
		if err != nil {
			t.Error(err)
		}
		_ = event.Write(w, ev, true)
	})
	take, got := collect()
	h.subscribe("results"+host, take)
	h.send("1")
	if ev := received(t, got); ev.ID() != "1" || ev.Type() != "answer" {
		t.Errorf("reply: %v", ev)
	}
	h.send("2", "Ce-Type", "loop", "Ce-Knativebrokerttl", "10")
	for range 9 {
		<-echoes
	}
	h.stop() // waits for what is under way
	if len(echoes) > 0 {
		t.Errorf("%d echoes more than 9", len(echoes))
	}
}

// A Trigger that sends to its own Broker ends as other loops do: Knative counts
// replies alone.
func TestSubscriberLoop(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: again, namespace: default}
spec:
  broker: shop
  subscriber: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: shop}}
`)
	h.subscribe(IngressHost, func(w http.ResponseWriter, r *http.Request) { h.Ingress().ServeHTTP(w, r) })
	h.send("1", "Ce-Knativebrokerttl", "10") // it is 9 when it is stored
	for h.loopsCut() == 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("the loop goes on")
		case <-time.After(time.Millisecond):
		}
		if last, _ := h.Last(shop); last > 9 {
			break
		}
	}
	if last, _ := h.Last(shop); last != 9 {
		t.Errorf("%d events are stored, want 9", last)
	}
}

// Large replies share a bounded room in memory. One that finds none comes
// again, is no failure of its subscriber, and does not hold up small ones.
func TestRepliesBounded(t *testing.T) {
	h := newHarness(t, Options{MaxEvent: 1 << 20}, shopBroker, triggerTo("sort", "  filter: {attributes: {type: test}}\n  delivery: {timeout: PT0.2S, retry: 0}"),
		triggerTo("results", "  filter: {attributes: {type: answer}}"))
	asked := make(chan string, 1000)
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		ev, _, err := event.Read(w, r, 1<<20)
		if err != nil {
			t.Error(err)
		}
		ev.SetType("answer")
		size := 100
		if ev.ID() == "large" {
			size = 1 << 19
		}
		_ = ev.SetData("text/plain", bytes.Repeat([]byte("x"), size))
		_ = event.Write(w, ev, false)
		asked <- ev.ID()
	})
	take, got := collect()
	h.subscribe("results"+host, take)
	others, err := h.replies.Hold(t.Context(), 8<<20) // all that there is
	if err != nil {
		t.Fatal(err)
	}
	h.send("large")
	for range 2 {
		<-asked
	}
	h.send("small")
	if ev := received(t, got); ev.ID() != "small" {
		t.Errorf("%s came first", ev.ID())
	}
	others.Release()
	if ev := received(t, got); ev.ID() != "large" || len(ev.Data()) != 1<<19 {
		t.Errorf("got %s of %d bytes", ev.ID(), len(ev.Data()))
	}
	h.stop()
	if _, err := h.replies.Hold(t.Context(), 8<<20); err != nil {
		t.Errorf("room is not given back: %v", err)
	}
}
