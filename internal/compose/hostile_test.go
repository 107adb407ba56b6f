package compose

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// overHTTP is a composer whose legs are paths of a real server.
func overHTTP(t *testing.T, text string, legs map[string]http.Handler) *Composer {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leg, _, _ := strings.Cut(r.URL.Path[1:], "/")
		legs[leg].ServeHTTP(w, r)
	}))
	transport := NewTransport()
	c, err := New(Options{Composition: parsed(t, text), Transport: transport, LegURL: server.URL + "/{service}"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		transport.CloseIdleConnections()
		server.CloseClientConnections()
		server.Close()
	})
	return c
}

// answers is a leg that says this to every product.
func answers(name string, says []prediction.Prediction) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		writeJSON(w, prediction.Result{Model: prediction.Model{Name: name, Version: "1", Digest: "sha256:" + hex64}, Device: "cpu", Predictions: says})
	}
}

// Whatever a leg answers, its failure is named and the other leg's answer
// stands.
func TestHostileLegs(t *testing.T) {
	body := func(contentType, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, text)
		}
	}
	says := func(predictions string) http.HandlerFunc {
		return body("application/json", `{"model":{"name":"photo","version":"1","digest":"sha256:`+hex64+`"},"predictions":[`+predictions+`]}`)
	}
	many := make([]string, maxLabels+1)
	for i := range many {
		many[i] = fmt.Sprintf(`{"label":"%d","probability":0}`, i)
	}
	for _, tt := range []struct {
		name    string
		leg     http.HandlerFunc
		failure category.Failure
		says    string
	}{
		{"HTML", body("text/html", "<html><body>It works!</body></html>"), category.BadAnswer, "not the JSON of a prediction"},
		{"an empty body", body("application/json", ""), category.BadAnswer, "not the JSON of a prediction"},
		{"an empty list", says(""), category.BadAnswer, "it has no predictions"},
		{"NaN", says(`{"label":"Shirts","probability":NaN}`), category.BadAnswer, "not the JSON of a prediction"},
		{"a probability in words", says(`{"label":"Shirts","probability":"high"}`), category.BadAnswer, "not the JSON of a prediction"},
		{"a sum above one", says(`{"label":"Shirts","probability":0.9},{"label":"Shoes","probability":0.9}`), category.BadAnswer, "sum to 1.8"},
		{"unknown labels", says(`{"label":"Chemises","probability":1}`), category.BadAnswer, "no label that the taxonomy knows"},
		{"too many labels", says(strings.Join(many, ",")), category.BadAnswer, "at most"},
		{"depth", body("application/json", `{"x":`+strings.Repeat("[", 500_000)), category.BadAnswer, "not the JSON of a prediction"},
		{"100 MB", func(w http.ResponseWriter, r *http.Request) {
			chunk := []byte(strings.Repeat("x", 1<<20))
			for range 100 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, category.BadAnswer, "larger than"},
		{"100 MB announced", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "100000000") }, category.BadAnswer, "larger than"},
		{"a byte a second", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			tick := time.NewTicker(20 * time.Millisecond) // a byte a second, at this test's scale
			defer tick.Stop()
			for {
				if _, err := io.WriteString(w, " "); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
			}
		}, category.Timeout, "did not answer in time"},
		{"headers for ever", func(w http.ResponseWriter, r *http.Request) {
			for i := range 20_000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 100))
			}
		}, category.Unreachable, ""},
		{"closes half-way", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"model":`)
			panic(http.ErrAbortHandler)
		}, category.Unreachable, "cannot be reached"},
		{"closes at once", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, category.Unreachable, "cannot be reached"},
		{"never answers", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // a server sees that its client has gone once that is read
			<-r.Context().Done()
		}, category.Timeout, "did not answer in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			deadline := "9s"
			if tt.failure == category.Timeout {
				deadline = "200ms"
			}
			text := strings.Replace(twoLegs, "weight: 0.8", "weight: 0.8, retries: 0, deadline: "+deadline, 1)
			c := overHTTP(t, text, map[string]http.Handler{"title": answers("title", mostlyShirts), "photo": tt.leg})
			res, err := c.Compose(t.Context(), both())
			if err != nil {
				t.Fatal(err)
			}
			l := res.Legs[1]
			if l.Outcome != category.LegFailed || l.Failure != tt.failure || !strings.Contains(l.Reason, tt.says) || len(l.Reason) > 1000 {
				t.Errorf("%s, %s: %s", l.Outcome, l.Failure, l.Reason)
			}
			if res.Status != category.Partial || res.Category.Label != "Shirts" || res.Legs[0].Outcome != category.Answered {
				t.Errorf("the other leg was harmed: %+v", res)
			}
			if ask, err := c.Compose(t.Context(), both()); err != nil || ask.Category.Label != "Shirts" {
				t.Errorf("the next product was harmed: %v", err)
			}
		})
	}
	t.Run("all of them", func(t *testing.T) {
		nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		c := overHTTP(t, strings.ReplaceAll(twoLegs, "}\n    -", ", retries: 0}\n    -"), map[string]http.Handler{"title": nothing, "photo": nothing})
		res, err := c.Compose(t.Context(), both())
		if problem.Status(err) != 503 || res.Category != nil || res.Status != category.Failed {
			t.Errorf("%v %+v", err, res)
		}
	})
}

var mostlyShirts = says("Shirts", 0.9, "Shoes", 0.1)

// Legs fail at random, and every answer says truly which.
func TestChaosOverLegFailures(t *testing.T) {
	const seed, products = 8, 400
	rng := rand.New(rand.NewPCG(seed, seed))
	// What the leg does with the next product is decided before it is asked.
	type plan int
	const (
		well plan = iota
		refuses
		babbles
		hangsUp
		never
		plans
	)
	names := []string{"a", "b", "c", "shadow"}
	var next [4]atomic.Int64
	handlers := map[string]http.Handler{}
	for i, name := range names {
		good := answers(name, mostlyShirts)
		handlers[name] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch plan(next[i].Load()) {
			case refuses:
				http.Error(w, "no", http.StatusInternalServerError)
			case babbles:
				_, _ = io.WriteString(w, "<html>")
			case hangsUp:
				panic(http.ErrAbortHandler)
			case never:
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			default:
				good(w, r)
			}
		})
	}
	c := overHTTP(t, `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  deadline: 2s
  quorum: 2
  legs:
    - {name: a, service: a, retries: 0, deadline: 20ms}
    - {name: b, service: b, retries: 0, deadline: 20ms}
    - {name: c, service: c, retries: 0, deadline: 20ms, when: legs.a.failed || legs.b.failed}
    - {name: shadow, service: shadow, retries: 0, deadline: 20ms, shadow: true}
  reducer: {type: logpool}
  taxonomy: taxonomy.csv
`, handlers)
	kinds := map[plan]category.Failure{refuses: category.Refused, babbles: category.BadAnswer, hangsUp: category.Unreachable, never: category.Timeout}
	answered := 0
	for n := range products {
		var will [4]plan
		for i := range will {
			if rng.IntN(3) == 0 {
				will[i] = plan(1 + rng.IntN(int(plans)-1))
			}
			next[i].Store(int64(will[i]))
		}
		res, err := c.Compose(t.Context(), Product{Product: product.Product{Title: "red shirt"}, Predictions: 1})
		good := 0
		for i, l := range res.Legs {
			switch {
			case l.Outcome == category.Answered && will[i] == well:
				if !l.Shadow {
					good++
				}
			case l.Outcome == category.LegFailed && (l.Failure == category.CircuitOpen || l.Failure == category.Timeout || will[i] != well && l.Failure == kinds[will[i]]):
				// A loaded machine may be late with a good answer.
			case l.Name == "c" && l.Outcome == category.Skipped && l.Gate != "" && res.Legs[0].Outcome == category.Answered && res.Legs[1].Outcome == category.Answered:
			default:
				t.Fatalf("product %d: leg %s was to do %d, and it says %+v", n, l.Name, will[i], l)
			}
		}
		switch {
		case good >= 2 && (err != nil || res.Category == nil || res.Category.Label != "Shirts"):
			t.Fatalf("product %d: %d legs answered, and: %v", n, good, err)
		case good < 2 && (problem.Status(err) != 503 || res.Category != nil):
			t.Fatalf("product %d: %d legs answered, and: %v %+v", n, good, err, res.Category)
		}
		if good >= 2 {
			answered++
			failed := res.Legs[0].Outcome == category.LegFailed || res.Legs[1].Outcome == category.LegFailed || res.Legs[2].Outcome == category.LegFailed
			if failed != (res.Status == category.Partial) {
				t.Fatalf("product %d: %s", n, res.Status)
			}
		}
		if _, err := json.Marshal(res); err != nil {
			t.Fatal(err)
		}
	}
	if answered < products/10 || answered == products {
		t.Errorf("%d of %d products got a category: this was no chaos", answered, products)
	}
}
