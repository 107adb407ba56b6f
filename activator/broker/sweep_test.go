package broker

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"aisle.dev/aisle/internal/client"
	"github.com/nats-io/nats.go/jetstream"
)

// What a deleted Broker has left is told, waits for its return over restarts,
// and goes when its time is over; what is delivered while it goes is not left.
func TestDeletedBroker(t *testing.T) {
	trigger := triggerTo("sort", "")
	h := newHarness(t, Options{Drain: time.Millisecond}, shopBroker, trigger)
	asked, goOn := make(chan bool), make(chan bool)
	h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		select {
		case <-goOn:
		case <-r.Context().Done():
		}
	})
	left := func(n int) (items []client.Pending) {
		t.Helper()
		for range 100_000 {
			var list struct{ Items []client.Pending }
			if h.admin("GET", "/v1/events/pending", &list); len(list.Items) == n {
				return list.Items
			}
		}
		t.Fatalf("not %d Triggers that something waits for", n)
		return nil
	}
	h.send("1")
	<-asked
	objects := parse(t, trigger)
	if err := h.Apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	first := left(1)[0]
	if first.Trigger != "default/sort" || first.Broker != "default/shop" || first.Events != 1 || !strings.Contains(first.Reason, "deleted") {
		t.Errorf("left is %+v", first)
	}
	if c := objects[0].(*eventingv1.Trigger).Status.GetCondition(eventingv1.TriggerConditionBroker); !c.IsFalse() || !strings.Contains(c.Message, "1 events that it had yet to deliver are kept") {
		t.Errorf("the Trigger says %v", c)
	}
	h.stop()
	h.start(trigger)
	if again := left(1)[0]; !again.Until.Equal(first.Until) {
		t.Errorf("until %v, and after a restart %v", first.Until, again.Until)
	}
	take, got := collect()
	h.subscribe("sort"+host, take)
	if err := h.Apply(t.Context(), parse(t, shopBroker, trigger)); err != nil {
		t.Fatal(err)
	}
	received(t, got)
	left(0)

	h.stop()
	h.opts.MaxAge = time.Nanosecond
	h.start(shopBroker, trigger)
	h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	h.send("2")
	if err := h.Apply(t.Context(), parse(t, trigger)); err != nil {
		t.Fatal(err)
	}
	left(0)
	if err := h.Apply(t.Context(), parse(t, shopBroker)); err != nil {
		t.Fatal(err)
	}
	if last, err := h.Last(shop); err != nil || last != 0 {
		t.Errorf("the Broker has %d events, %v", last, err)
	}

	h.stop()
	h.opts.MaxAge, h.opts.Drain = time.Hour, time.Minute
	h.start(shopBroker, trigger)
	h.subscribe("sort"+host, func(http.ResponseWriter, *http.Request) { asked <- true; <-goOn })
	h.send("3")
	<-asked
	if err := h.Apply(t.Context(), parse(t, trigger)); err != nil {
		t.Fatal(err)
	}
	left(1)
	goOn <- true
	left(0)
}

// A Broker that is deleted with its Triggers leaves nothing, in whichever order
// they go.
func TestDeletedWithTriggers(t *testing.T) {
	trigger := triggerTo("sort", "")
	for name, steps := range map[string][][]string{
		"at once":        {{}},
		"Broker first":   {{trigger}, {}},
		"Triggers first": {{shopBroker}, {}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, Options{Drain: time.Millisecond}, shopBroker, trigger)
			asked := make(chan bool, 100)
			h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) {
				asked <- true
				<-r.Context().Done()
			})
			h.send("1")
			<-asked
			for _, manifests := range steps {
				if err := h.Apply(t.Context(), parse(t, manifests...)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := h.Broker.store.js.Stream(t.Context(), streamOf(shop)); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("the Broker's stream is still there: %v", err)
			}
		})
	}
}
