package broker

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
)

// composer is a subscriber that answers product events as the composer does.
func composer(w http.ResponseWriter, r *http.Request) {
	in, structured, err := event.Read(w, r, 1<<20)
	if err != nil {
		panic(err)
	}
	out, err := event.New(event.TypeCategory, "/composer", "answer-"+in.ID(), event.SchemaCategory, category.Result{
		ID: in.Subject(), Status: category.Complete, DurationMs: 250,
		Category: &category.Category{Label: "Shirts", Path: []string{"Apparel", "Shirts"}, Confidence: .9},
		Legs: []category.Leg{
			{Name: "title", Service: "title", Outcome: category.Answered, Weight: 3, LatencyMs: 20, Model: &prediction.Model{Name: "title", Digest: "sha256:1"}},
			{Name: "photo", Service: "photo", Outcome: category.Answered, Weight: 1, LatencyMs: 240, ColdMs: 200},
			{Name: "brand", Service: "brand", Outcome: category.LegFailed, Weight: 1, Reason: "no answer"},
		},
	})
	if err != nil {
		panic(err)
	}
	out.SetSubject(in.Subject())
	out.SetExtension("causationid", in.ID())
	if err := event.Write(w, out, structured); err != nil {
		panic(err)
	}
}

// sell sends a product's event to the Broker shop.
func (h *harness) sell(id, productID string) {
	h.t.Helper()
	ev, err := event.NewProduct("/shop", id, product.Product{ID: productID, Title: "Striped shirt"})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.Accept(h.t.Context(), shop, ev); err != nil {
		h.t.Fatal(err)
	}
}

const onProduct = "  filter: {attributes: {type: dev.aisle.product.v1}}"

// explained is why a product got its category, when that is as wanted.
func (h *harness) explained(id string, wanted func(client.Explanation) bool) client.Explanation {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(5 * time.Millisecond) {
		x := ask[client.Explanation](h, "/v1/events/explain/"+id)
		if wanted(x) {
			return x
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("within a minute the explanation became %+v", x)
		}
	}
}

func answered(x client.Explanation) bool {
	return x.Answer != nil && len(x.Deliveries) == 1 && x.Deliveries[0].State == client.DeliveryAnswered
}

func TestExplains(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, triggerTo("sort", onProduct))
	h.subscribe("sort"+host, composer)
	h.sell("e1", "p1")
	for _, id := range []string{"e1", "p1"} {
		x := h.explained(id, answered)
		if x.Asked.ID != "e1" || x.Asked.Broker != "default/shop" || x.Answer.ID != "answer-e1" || x.Answer.Seq <= x.Asked.Seq {
			t.Errorf("%s: asked %+v, answered %+v", id, x.Asked, x.Answer)
		}
		if x.Result == nil || x.Result.Category.Label != "Shirts" || x.Result.Legs[0].Model.Digest != "sha256:1" {
			t.Errorf("%s: the result is %+v", id, x.Result)
		}
		want := []client.LegWeight{{Leg: "title", Weight: 3, Share: .75}, {Leg: "photo", Weight: 1, Share: .25}, {Leg: "brand", Weight: 1}}
		if fmt.Sprint(x.Weights) != fmt.Sprint(want) {
			t.Errorf("%s: the weights are %v, want %v", id, x.Weights, want)
		}
		if said := strings.Join(x.Slow, "\n"); !strings.Contains(said, "Leg photo waited 200 of its 240 ms") || !strings.Contains(said, "Leg photo took longest") {
			t.Errorf("%s: of what was slow it says %q", id, said)
		}
		if d := x.Deliveries[0]; d.Trigger != "default/sort" || d.Attempts != 1 {
			t.Errorf("%s: delivered %+v", id, d)
		}
	}

	// Again, and asked for the first answer by its own id.
	h.sell("e2", "p1")
	h.explained("p1", func(x client.Explanation) bool {
		return x.Answer != nil && x.Answer.ID == "answer-e2" && len(x.Earlier) == 1 && x.Earlier[0].ID == "answer-e1"
	})
	if x := h.explained("answer-e1", answered); x.Asked.ID != "e1" || x.Answer.ID != "answer-e1" {
		t.Errorf("asked %+v, answered %+v", x.Asked, x.Answer)
	}

	w := httptest.NewRecorder()
	h.Admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/events/explain/nobody", nil))
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "nobody") {
		t.Errorf("of an unknown id it says %d %s", w.Code, w.Body)
	}
}

func TestExplainsADeadLetter(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, triggerTo("sort", onProduct))
	h.subscribe("sort"+host, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such shirt", http.StatusUnprocessableEntity)
	})
	h.sell("e1", "p1")
	x := h.explained("p1", func(x client.Explanation) bool {
		return len(x.Deliveries) == 1 && x.Deliveries[0].State == client.DeliveryGivenUp
	})
	if d := x.Deliveries[0]; d.Attempts != 1 || d.Code != http.StatusUnprocessableEntity || d.DeadLetter != 1 || x.Answer != nil {
		t.Errorf("explained as %+v", x)
	}
}

// reader reads a stream of Server-Sent Events.
type reader struct {
	*bufio.Scanner
	t *testing.T
}

func (h *harness) follow(url, last string) (reader, func()) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		h.t.Fatal(resp.Status)
	}
	return reader{bufio.NewScanner(resp.Body), h.t}, func() { cancel(); _ = resp.Body.Close() }
}

// next gives the place and the event's id; empty at the end.
func (r reader) next() (place, id string) {
	r.t.Helper()
	for r.Scan() {
		if after, ok := strings.CutPrefix(r.Text(), "id: "); ok {
			place = after
		}
		if after, ok := strings.CutPrefix(r.Text(), "data: "); ok {
			var ev struct{ ID, Type string }
			if err := json.Unmarshal([]byte(after), &ev); err != nil || ev.Type != event.TypeCategory {
				r.t.Fatalf("%v: %s", err, after)
			}
			return place, ev.ID
		}
	}
	return "", ""
}

func TestFollowsResults(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, triggerTo("sort", onProduct))
	h.subscribe("sort"+host, composer)
	srv := httptest.NewServer(h.Admin())
	defer srv.Close()
	url := srv.URL + "/v1/events/results"
	h.sell("e1", "p1")
	r, stop := h.follow(url, "")
	first, id := r.next()
	if id != "answer-e1" {
		t.Fatalf("first came %q", id)
	}
	h.sell("e2", "p2")
	if _, id := r.next(); id != "answer-e2" {
		t.Fatalf("then came %q", id)
	}
	stop()

	// Resumed, what is stored comes again from there, and no more than that.
	r, stop = h.follow(url+"?follow=false", first)
	if _, id := r.next(); id != "answer-e2" {
		t.Errorf("after %s came %q", first, id)
	}
	if place, id := r.next(); id != "" {
		t.Errorf("at the end came %q at %s", id, place)
	}
	stop()
	r, stop = h.follow(url+"?follow=false&since=999999", "") // a store that was begun anew
	if _, id := r.next(); id != "answer-e1" {
		t.Errorf("after a place that is yet to come came %q", id)
	}
	stop()

	// Stopping ends the streams.
	r, stop = h.follow(url, "")
	defer stop()
	r.next()
	r.next()
	h.stop()
	if _, id := r.next(); id != "" {
		t.Errorf("after the stop came %q", id)
	}
}

func TestFollowsResultsOfBrokers(t *testing.T) {
	other := strings.Replace(shopBroker, "shop", "other", 1)
	h := newHarness(t, Options{}, shopBroker, other, triggerTo("sort", onProduct))
	h.subscribe("sort"+host, composer)
	srv := httptest.NewServer(h.Admin())
	defer srv.Close()
	h.sell("e1", "p1")
	r, stop := h.follow(srv.URL+"/v1/events/results", "")
	defer stop()
	place, id := r.next()
	if id != "answer-e1" || place != "default/shop:2" {
		t.Errorf("came %q at %q", id, place)
	}
	// A Broker more, of a reader's that knew of one: it goes on with both.
	third := strings.Replace(shopBroker, "shop", "third", 1)
	if err := h.Apply(t.Context(), parse(t, shopBroker, other, third, triggerTo("sort", onProduct))); err != nil {
		t.Fatal(err)
	}
	if _, id := r.next(); id != "" {
		t.Errorf("of the Brokers that were came %q", id)
	}
	r, stop = h.follow(srv.URL+"/v1/events/results", place)
	defer stop()
	h.sell("e2", "p2")
	if place, id := r.next(); id != "answer-e2" || place != "default/shop:4" {
		t.Errorf("then came %q at %q", id, place)
	}
}
