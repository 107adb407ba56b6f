package compose

import (
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// gatedBy is twoLegs whose photo leg has a gate.
func gatedBy(when string) string {
	return strings.Replace(twoLegs, "weight: 0.8", "weight: 0.8, when: '"+when+"'", 1)
}

func takes(d time.Duration) func(http.ResponseWriter, *http.Request, int) bool {
	return func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		select {
		case <-time.After(d):
			return false
		case <-r.Context().Done():
			return true
		}
	}
}

func fails(status int) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, _ int) bool { w.WriteHeader(status); return true }
}

func TestAGate(t *testing.T) {
	const when = "legs.title.failed || legs.title.confidence < 0.95 && legs.title.margin < 0.9"
	for _, tt := range []struct {
		name, when string
		title      func(*world)
		asked      bool
		gateError  string
	}{
		{name: "holds", when: when, asked: true},
		{name: "is false", when: "legs.title.confidence < 0.5"},
		{name: "is about the label", when: `legs.title.label == "Shoes"`},
		{name: "a leg failed", when: when, title: func(w *world) { w.title.before = fails(500) }, asked: true},
		{name: "a leg had nothing to read", when: "legs.title.skipped", title: func(w *world) { w.title.setReads("brand") }, asked: true},
		{name: "is about the product", when: `product.brand == "Acme"`},
		{name: "cannot be told", when: `product.attributes.size == "M"`, asked: true, gateError: "no such key: size"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, gatedBy(tt.when))
				w.title.before = takes(time.Second)
				if tt.title != nil {
					tt.title(w)
				}
				res, err := w.Compose(t.Context(), both())
				if err != nil {
					t.Fatal(err)
				}
				l := res.Legs[1]
				if asked := len(w.photo.requests()) > 0; asked != tt.asked || w.dialled("photo") > 0 != tt.asked {
					t.Errorf("asked: %v", asked)
				}
				if l.GateError != tt.gateError {
					t.Errorf("gate error %q", l.GateError)
				}
				if tt.asked {
					if l.Outcome != category.Answered || l.Gate != "" {
						t.Errorf("%+v", l)
					}
					return
				}
				if l.Outcome != category.Skipped || l.Gate != tt.when || l.Reason == "" || res.Status != category.Complete {
					t.Errorf("%s %+v", res.Status, l)
				}
			})
		})
	}
}

// Legs start as soon as those that their gates mention are done, and not later.
func TestLegsAreADAG(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  legs:
    - {name: last, service: last, when: legs.second.answered && legs.slow.answered}
    - {name: second, service: second, when: legs.first.answered}
    - {name: first, service: first}
    - {name: slow, service: slow}
  reducer: {type: vote}
`)
		var mu sync.Mutex
		began := map[string]time.Duration{} // guarded by mu
		start := time.Now()
		for name, took := range map[string]time.Duration{"first": time.Second, "second": time.Second, "slow": 3 * time.Second, "last": time.Second} {
			c := &classifier{name: name, reads: []string{"title"}, says: says("Shirts", 1.0)}
			c.before = func(http.ResponseWriter, *http.Request, int) bool {
				mu.Lock()
				began[name] = time.Since(start)
				mu.Unlock()
				time.Sleep(took)
				return false
			}
			w.serve(name, c)
		}
		if _, err := w.Compose(t.Context(), both()); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]time.Duration{"first": 0, "second": time.Second, "slow": 0, "last": 3 * time.Second} {
			if began[name] != want {
				t.Errorf("%s began after %s, want %s", name, began[name], want)
			}
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A leg for which no time was left has not been asked: that is no strike
// against its service.
func TestAGateThatLeavesNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, gatedBy("legs.title.failed"))
		w.title.before = takes(time.Minute)
		for range tripsAfter {
			res, err := w.Compose(t.Context(), both())
			if problem.Status(err) != 503 || res.Legs[1].Failure != category.Timeout || res.Legs[1].Attempts != 0 {
				t.Fatalf("%v %+v", err, res.Legs)
			}
		}
		if !w.legs[1].breaker.IsClosed() || w.dialled("photo") > 0 {
			t.Error("the photo leg was counted as failing")
		}
	})
}

const shadowed = `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  legs:
    - {name: title, service: title}
    - {name: photo, service: photo, shadow: true}
  reducer: {type: logpool}
  taxonomy: taxonomy.csv
`

func TestAShadowLeg(t *testing.T) {
	for _, tt := range []struct {
		name        string
		photo       func(http.ResponseWriter, *http.Request, int) bool
		titleTakes  time.Duration
		predictions int
		outcome     category.Outcome
		agrees      string
		took        time.Duration
	}{
		{"in time", nil, time.Second, 0, category.Answered, "no", time.Second},
		{"late", takes(3 * time.Second), time.Second, 0, category.Pending, "no", time.Second},
		{"late, and compared", takes(3 * time.Second), time.Second, 1, category.Answered, "no", 3 * time.Second},
		{"failed", fails(500), time.Second, 0, category.LegFailed, "unanswered", time.Second},
		{"finds the product at fault", fails(400), time.Second, 0, category.LegFailed, "unanswered", time.Second},
		{"hangs", takes(time.Hour), time.Second, 0, category.Pending, "unanswered", time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := metrics.New()
				w := newWorldWith(t, shadowed, set)
				w.title.before, w.photo.before = takes(tt.titleTakes), tt.photo
				w.photo.says = says("Shoes", 1.0)
				start := time.Now()
				p := both()
				p.Predictions = tt.predictions
				res, err := w.Compose(t.Context(), p)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %s", took)
				}
				l := res.Legs[1]
				if !l.Shadow || l.Outcome != tt.outcome || l.Weight != 0 {
					t.Errorf("%+v", l)
				}
				if res.Status != category.Complete || res.Category.Label != "Shirts" || math.Abs(res.Category.Confidence-0.9) > 1e-9 {
					t.Errorf("a shadow had a say: %s %+v", res.Status, res.Category)
				}
				w.background.Wait() // by the product's deadline
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("a shadow outlived the deadline: %s", took)
				}
				if want := `aisle_composer_shadow_answers_total{leg="photo",agrees="` + tt.agrees + `"} 1`; !strings.Contains(exposed(set), want) {
					t.Errorf("no %s", want)
				}
				if tt.name == "failed" {
					in, err := event.NewProduct("/shop", "1", both().Product)
					if err != nil {
						t.Fatal(err)
					}
					if ev, err := w.reply(in, both().Product, res, time.Now()); err != nil || ev.Extensions()[extFailed] != nil {
						t.Errorf("%v %v", err, ev)
					}
				}
			})
		})
	}
}

// Shadow legs are bounded in how many products they hold.
func TestShadowsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, shadowed)
		w.photo.before = takes(time.Hour)
		p := both()
		p.JSON = []byte(`{"title":"red shirt","description":"` + strings.Repeat("x", product.MaxText-100) + `"}`)
		over := 0
		for range 2 * shadowBudget / len(p.JSON) {
			res, err := w.Compose(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if res.Legs[1].Failure == category.Overloaded {
				over++
			}
		}
		if over == 0 {
			t.Error("never too many")
		}
	})
}

func TestQuorum(t *testing.T) {
	text := strings.Replace(twoLegs, "  reducer:", "  quorum: 2\n  reducer:", 1)
	for _, tt := range []struct {
		name   string
		do     func(*world)
		p      Product
		status int // 0: there is a category
		says   string
	}{
		{"met", func(*world) {}, both(), 0, ""},
		{"a leg fails", func(w *world) { w.stopPhoto() }, both(), 503, "1 legs answered, of which the composition wants 2; photo: "},
		{"all fail", func(w *world) { w.stopPhoto(); w.stopTitle() }, both(), 503, "no leg answered"},
		// Trying again would skip the leg again.
		{"a leg is skipped", func(w *world) {}, Product{Product: product.Product{Title: "red shirt"}}, 422, "only 1 legs are for the product, of which the composition wants 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, text)
				tt.do(w)
				res, err := w.Compose(t.Context(), tt.p)
				if tt.status == 0 {
					if err != nil || res.Category == nil {
						t.Fatal(err)
					}
					return
				}
				p, ok := errors.AsType[*problem.Error](err)
				if !ok || p.Status != tt.status || !strings.Contains(p.Detail, tt.says) || res.Category != nil {
					t.Fatalf("%v %+v", err, res.Category)
				}
				if p.Status == 503 && p.RetryAfter <= 0 {
					t.Error("no Retry-After")
				}
			})
		})
	}
}

// Adding a classifier to a composition is YAML alone.
func TestAThirdLegByYAMLAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		third := strings.Replace(twoLegs, "  reducer:", `    - name: brand
      service: brand
      when: legs.title.confidence < 0.95
  reducer:`, 1)
		w := newWorld(t, third)
		brand := &classifier{name: "brand", reads: []string{"title"}, says: says("Shoes", 0.99, "Shirts", 0.01)}
		w.serve("brand", brand)
		res, err := w.Compose(t.Context(), both())
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Legs) != 3 || res.Legs[2].Outcome != category.Answered || res.Legs[2].Label != "Shoes" || res.Category.Label != "Shoes" {
			t.Errorf("%+v %+v", res.Category, res.Legs)
		}
		if names := []string{res.Legs[0].Name, res.Legs[1].Name, res.Legs[2].Name}; !slices.Equal(names, []string{"title", "photo", "brand"}) {
			t.Error(names)
		}
	})
}
