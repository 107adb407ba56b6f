package broker

import (
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
