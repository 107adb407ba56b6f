// Package composertest is a composer for tests: it speaks the composer's real
// protocol over HTTP (CloudEvents in and out, problem+json, Server-Timing) and
// answers by simple rules instead of models.
//
// The title leg takes the last word of the title for the label; the photo leg
// takes the text of the first picture's bytes. Asked for ?predictions=all they
// share the rest among shirt, tie and hat. Titles say what shall go wrong:
//
//	"busy N ..."   503 with Retry-After: 0, the first N times
//	"slow ..."     no answer until the request is given up or the test ends
//	"refuse ..."   422
//	"broken ..."   every leg fails
//	"half ..."     the photo leg fails
//	"queued ..."   202 without an event, as a broker answers
//	"down N ..."   500 the first N times, then 202, as a broker whose dispatcher was killed
//	"cold ..."     the first leg waited 40 ms for a pod, and the composer 20 ms
package composertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
)

// Digest stands for every digest.
const Digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// Composer is an http.Handler.
type Composer struct {
	Done <-chan struct{} // ends what is slow; nil: only the request's end does

	mu       sync.Mutex
	tries    map[string]int // by event id
	products []product.Product
	active   int
	most     int
	arrived  int
	waiting  map[int]chan struct{} // by the number of requests that is waited for
}

// Arrived returns a channel that is closed once n requests have arrived.
func (c *Composer) Arrived(n int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan struct{})
	if c.arrived >= n {
		close(ch)
		return ch
	}
	if c.waiting == nil {
		c.waiting = map[int]chan struct{}{}
	}
	if was, ok := c.waiting[n]; ok {
		return was
	}
	c.waiting[n] = ch
	return ch
}

// Products returns what was answered, in the order of arrival.
func (c *Composer) Products() []product.Product {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]product.Product(nil), c.products...)
}

// MostAtOnce returns the largest number of requests at one moment.
func (c *Composer) MostAtOnce() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

func (c *Composer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.active++
	c.most = max(c.most, c.active)
	c.arrived++
	if ch, ok := c.waiting[c.arrived]; ok {
		close(ch)
		delete(c.waiting, c.arrived)
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.active--
		c.mu.Unlock()
	}()
	problem.Handler(c.serve, nil).ServeHTTP(w, r)
}

func (c *Composer) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return problem.New(http.StatusMethodNotAllowed, "POST only")
	}
	switch r.URL.Path {
	case "/v1/classify":
		return c.classify(w, r)
	case "/category/predict":
		p, err := readProduct(w, r)
		if err != nil {
			return err
		}
		result, err := c.categorise(w, r, p.ID, p)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(result)
	case "/":
		ev, structured, err := event.Read(w, r, product.MaxBody)
		if err != nil {
			return err
		}
		p, err := event.Product(ev)
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(p.Title, "down "); ok {
			times, _, _ := strings.Cut(rest, " ")
			if n, _ := strconv.Atoi(times); c.try(ev.ID()) <= n {
				return problem.New(http.StatusInternalServerError, "the dispatcher is down")
			}
		}
		if strings.HasPrefix(p.Title, "queued ") || strings.HasPrefix(p.Title, "down ") {
			w.WriteHeader(http.StatusAccepted)
			return nil
		}
		result, err := c.categorise(w, r, ev.ID(), p)
		if err != nil {
			return err
		}
		out, err := event.New(event.TypeCategory, "/composertest", event.ID(ev.Source(), ev.ID()), event.SchemaCategory, result)
		if err != nil {
			return err
		}
		out.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
		out.SetExtension("causationid", ev.ID())
		out.SetExtension("aislestatus", string(result.Status))
		return event.Write(w, out, structured)
	}
	return problem.New(http.StatusNotFound, "there is no %s here", r.URL.Path)
}

// whole is all that a leg predicts.
func whole(leg category.Leg) []prediction.Prediction {
	if leg.Outcome != category.Answered {
		return nil
	}
	out := []prediction.Prediction{{Label: leg.Label, Probability: leg.Confidence}}
	for _, label := range []string{"shirt", "tie", "hat"} {
		if label != leg.Label {
			out = append(out, prediction.Prediction{Label: label, Probability: (1 - leg.Confidence) / 3})
		}
	}
	return out
}

// readProduct reads a product sent as plain JSON.
func readProduct(w http.ResponseWriter, r *http.Request) (product.Product, error) {
	body, err := serve.ReadBody(w, r, product.MaxBody)
	if err != nil {
		return product.Product{}, err
	}
	return product.Decode(body)
}

// classify answers as a classifier does.
func (c *Composer) classify(w http.ResponseWriter, r *http.Request) error {
	p, err := readProduct(w, r)
	if err != nil {
		return err
	}
	labels := []string{p.Title, "Shirts", "Ties"}
	n, err := strconv.Atoi(r.URL.Query().Get("top"))
	if err != nil {
		return problem.New(http.StatusBadRequest, "top=%q is not a number", r.URL.Query().Get("top"))
	}
	result := prediction.Result{ID: p.ID, Device: "cpu", Model: prediction.Model{Name: "title", Version: "1", Digest: Digest}}
	for i, l := range labels[:min(n, len(labels))] {
		result.Predictions = append(result.Predictions, prediction.Prediction{Label: l, Probability: 0.9 / float64(i+1)})
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(result)
}

// try counts the times that an event has come.
func (c *Composer) try(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tries == nil {
		c.tries = map[string]int{}
	}
	c.tries[id]++
	return c.tries[id]
}

func (c *Composer) categorise(w http.ResponseWriter, r *http.Request, id string, p product.Product) (category.Result, error) {
	try := c.try(id)
	result := category.Result{ID: p.ID, Status: category.Complete, Composition: category.Composition{Name: "test", Digest: Digest}, DurationMs: 1.5}
	legs := []category.Leg{
		{Name: "title", Service: "title", Outcome: category.Answered, LatencyMs: 0.5},
		{Name: "photo", Service: "photo", Outcome: category.Answered, LatencyMs: 1},
	}
	var busy int
	switch how, _, _ := strings.Cut(p.Title, " "); how {
	case "busy":
		if n, _ := fmt.Sscanf(p.Title, "busy %d", &busy); n == 1 && try <= busy {
			w.Header().Set("Retry-After", "0")
			return result, problem.New(http.StatusServiceUnavailable, "the queue is full")
		}
	case "slow":
		select {
		case <-r.Context().Done():
		case <-c.Done:
		}
		return result, r.Context().Err()
	case "refuse":
		return result, problem.New(http.StatusUnprocessableEntity, "this product is refused")
	case "cold":
		w.Header().Set("Server-Timing", "wake;dur=20.5")
		legs[0].ColdMs, legs[0].LatencyMs = 40, 42
	case "broken":
		for i := range legs {
			legs[i].Outcome, legs[i].Reason = category.LegFailed, "it is broken"
		}
		result.Status = category.Failed
	case "half":
		legs[1].Outcome, legs[1].Reason = category.LegFailed, "no answer within 2s"
		result.Status = category.Partial
	}
	if words := strings.Fields(p.Title); len(words) > 0 && legs[0].Outcome == category.Answered {
		legs[0].Label, legs[0].Confidence = words[len(words)-1], 0.9
	} else if legs[0].Outcome == category.Answered {
		legs[0].Outcome, legs[0].Reason = category.Skipped, "the product has no title"
	}
	if len(p.Images) > 0 && legs[1].Outcome == category.Answered {
		legs[1].Label, legs[1].Confidence = strings.TrimSpace(string(p.Images[0].Data)), 0.8
		if p.Images[0].URL != "" {
			legs[1].Label = "URL"
		}
	} else if legs[1].Outcome == category.Answered {
		legs[1].Outcome, legs[1].Reason = category.Skipped, "the product has no image"
	}
	result.Legs = legs
	if r.URL.Query().Get("predictions") == "all" {
		for i, leg := range legs {
			legs[i].Predictions = whole(leg)
		}
	}
	for i, leg := range legs {
		if leg.Outcome == category.Answered {
			legs[i].Model = &prediction.Model{Name: leg.Name, Version: "1", Digest: Digest}
			if result.Category == nil {
				result.Category = &category.Category{Label: leg.Label, Path: []string{"Fashion", leg.Label}, Confidence: leg.Confidence}
				result.Candidates = []prediction.Prediction{{Label: leg.Label, Probability: leg.Confidence}}
			}
		}
	}
	c.mu.Lock()
	c.products = append(c.products, p)
	c.mu.Unlock()
	return result, nil
}
