package compose

import (
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
)

func TestRules(t *testing.T) {
	withRules := func(rules string) string { return twoLegs + "  rules:\n" + rules }
	for _, tt := range []struct {
		name, rules string
		label       string // of the category; "" when there is none
		applied     []string
		metric      string
	}{
		{name: "a label", rules: `    - {name: none, forbid: [Shirts]}`, label: "Shoes", applied: []string{"none"}},
		{name: "an id", rules: `    - {name: none, forbid: [shirt]}`, label: "Shoes", applied: []string{"none"}},
		{name: "holds", rules: `    - {name: none, when: 'product.brand == "Acme"', forbid: [Shirts]}`, label: "Shoes", applied: []string{"none"}},
		{name: "does not hold", rules: `    - {name: none, when: 'product.brand == "X"', forbid: [Shirts]}`, label: "Shirts"},
		{name: "about a leg", rules: `    - {name: none, when: legs.photo.confidence > 0.5, forbid: [Shirts]}`, label: "Shoes", applied: []string{"none"}},
		{name: "cannot be told", rules: `    - {name: none, when: 'product.attributes.no == "X"', forbid: [Shirts]}`, label: "Shirts", metric: `aisle_composer_expression_errors_total{of="rule",name="none"} 1`},
		{name: "all that is below", rules: `    - {name: none, forbid: [Wear]}`, applied: []string{"none"}},
		{name: "a prior", rules: `    - {name: own, prior: {from: attributes.category, weight: 3}}`, label: "Shoes", applied: []string{"own"}},
		{name: "a weak prior", rules: `    - {name: own, prior: {from: attributes.category, weight: 0.1}}`, label: "Shirts", applied: []string{"own"}},
		{name: "a prior that the product lacks", rules: `    - {name: own, prior: {from: attributes.no, weight: 3}}`, label: "Shirts"},
		{name: "a prior that no leg knows", rules: `    - {name: own, prior: {from: brand, weight: 3}}`, label: "Shirts"},
		{name: "two", rules: "    - {name: own, prior: {from: attributes.category, weight: 3}}\n    - {name: none, forbid: [Shoes]}", label: "Shirts", applied: []string{"own", "none"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := metrics.New()
				w := newWorldWith(t, withRules(tt.rules), set)
				p := both()
				p.Brand, p.Attributes = "Acme", map[string]string{"category": "shoe"}
				res, err := w.Compose(t.Context(), p)
				if tt.label == "" {
					if problem.Status(err) != 422 || !strings.Contains(err.Error(), "rules (none) forbid") || res.Category != nil {
						t.Fatalf("%v %+v", err, res)
					}
				} else if err != nil || res.Category.Label != tt.label || slices.ContainsFunc(res.Legs, func(l category.Leg) bool { return l.Label != "Shirts" }) {
					t.Fatalf("%v %+v", err, res)
				}
				if diff := cmp.Diff(tt.applied, res.Rules); diff != "" {
					t.Error(diff)
				}
				if !strings.Contains(exposed(set), tt.metric) {
					t.Errorf("no %s", tt.metric)
				}
			})
		})
	}
}

// drawList draws an answer that sums to one at most.
func drawList(t *rapid.T) []prediction.Prediction {
	labels := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), 0, 5, func(s string) string { return s }).Draw(t, "labels")
	var out []prediction.Prediction
	left := 1.0
	for _, label := range labels {
		p := left * rapid.Float64Range(0, 1).Draw(t, label)
		left -= p
		out = append(out, prediction.Prediction{Label: label, Probability: p})
	}
	return out
}

func probability(list []prediction.Prediction, label string) float64 {
	for _, q := range list {
		if q.Label == label {
			return q.Probability
		}
	}
	return 0
}

// valid fails unless a list may be given to a reducer.
func valid(t *rapid.T, list []prediction.Prediction) {
	var sum float64
	seen := map[string]bool{}
	for _, q := range list {
		if !(q.Probability >= 0 && q.Probability <= 1+1e-9) || seen[q.Label] {
			t.Fatalf("%+v", list)
		}
		seen[q.Label] = true
		sum += q.Probability
	}
	if sum > 1+1e-6 {
		t.Fatalf("it sums to %v: %+v", sum, list)
	}
}

func TestLeanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lists := [][]prediction.Prediction{drawList(t), drawList(t)}
		before := slices.Clone(lists)
		stated := rapid.SampledFrom([]string{"a", "b", "f"}).Draw(t, "stated")
		weight := rapid.Float64Range(0, 100).Draw(t, "weight")
		if !lean(lists, []string{stated}, weight) {
			if diff := cmp.Diff(before, lists); diff != "" {
				t.Fatal(diff)
			}
			return
		}
		for i := range lists {
			valid(t, lists[i])
			if (len(before[i]) == 0) != (len(lists[i]) == 0) {
				t.Fatal("a leg that is missing stays missing")
			}
			others := 0 // of several others, a stated label's share of them grows with any weight that says more than chance
			for _, q := range before[i] {
				if q.Label != stated {
					others++
				}
			}
			if len(before[i]) > 0 && others > 0 && probability(lists[i], stated) < probability(before[i], stated)-1e-9 {
				t.Fatalf("%q has become less likely: %+v, %+v", stated, before[i], lists[i])
			}
		}
	})
}

func TestLeanIsBayesRule(t *testing.T) {
	lists := [][]prediction.Prediction{says("a", 0.6, "b", 0.4)}
	lean(lists, []string{"b"}, 1)
	// 0.4*0.9 against 0.6*0.1
	if got := probability(lists[0], "b"); math.Abs(got-0.36/0.42) > 1e-12 {
		t.Error(got)
	}
	lists = [][]prediction.Prediction{says("a", 0.6, "b", 0.4)}
	lean(lists, []string{"b"}, 0)
	if got := probability(lists[0], "b"); math.Abs(got-0.4) > 1e-12 {
		t.Error(got)
	}
}

func TestWithoutProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawList(t)
		forbidden := map[string]bool{rapid.SampledFrom([]string{"a", "b", "f"}).Draw(t, "forbidden"): true}
		got := without(list, forbidden)
		valid(t, got)
		for _, q := range got {
			if forbidden[q.Label] || q.Probability < probability(list, q.Label)-1e-12 {
				t.Fatalf("%+v, %+v", list, got)
			}
		}
	})
}
