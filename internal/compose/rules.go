package compose

import (
	"math"
	"net/http"
	"slices"
	"strings"

	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/gate"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/reduce"
)

// trust is how often a prior of weight 1 is taken to be right.
const trust = 0.9

// rule is a composition's, ready to be applied.
type rule struct {
	composition.Rule
	forbidden map[string]bool // labels
}

// newRules readies the composition's rules, and what the taxonomy's names stand
// for.
func newRules(spec *composition.Composition) ([]rule, map[string][]string) {
	if len(spec.Rules) == 0 {
		return nil, nil
	}
	var named map[string][]string
	if spec.Taxonomy != nil {
		named = spec.Taxonomy.Named()
	}
	out := make([]rule, len(spec.Rules))
	for i, r := range spec.Rules {
		out[i] = rule{r, map[string]bool{}}
		for _, name := range r.Forbid {
			for _, label := range labels(named, name) {
				out[i].forbidden[label] = true
			}
		}
	}
	return out, named
}

// labels gives those that a name stands for. One that the taxonomy does not
// know is a label.
func labels(named map[string][]string, name string) []string {
	if found, ok := named[name]; ok {
		return found
	}
	return []string{name}
}

// ruled is what the rules leave of the legs' lists, and the rules that
// applied. The lists given are not changed.
func (c *Composer) ruled(p Product, results []result, lists [][]prediction.Prediction) (out [][]prediction.Prediction, applied []rule) {
	if len(c.rules) == 0 {
		return lists, nil
	}
	in := gate.Input{Product: p.Product, Event: p.Event, Legs: make(map[string]gate.Leg, len(results))}
	for i := range results {
		in.Legs[results[i].Name] = results[i].gate()
	}
	out = slices.Clone(lists)
	for _, r := range c.rules {
		if r.When != nil {
			holds, err := r.When.Eval(in)
			if err != nil {
				c.metrics.expressions.Inc("rule", r.Name)
			}
			if err != nil || !holds {
				continue
			}
		}
		if r.Prior != nil {
			stated := c.stated(r.Prior, p)
			if !lean(out, stated, r.Prior.Weight) {
				continue // it says nothing of the labels at hand
			}
		}
		for i := range out {
			out[i] = without(out[i], r.forbidden)
		}
		applied = append(applied, r)
	}
	return out, applied
}

// stated gives the labels that the product's own field stands for.
func (c *Composer) stated(prior *composition.Prior, p Product) []string {
	text := p.Field(prior.From)
	if text == "" {
		return nil
	}
	if label, ok := prior.Labels[text]; ok {
		return []string{label}
	}
	return labels(c.named, text)
}

// lean moves all legs' probabilities towards the stated labels, and reports
// whether it could. It is Bayes' rule with an opinion o that the stated labels
// hold with probability [trust] together, each as likely, and all others at
// hand share the rest, raised to the prior's weight as a leg's is in a
// logarithmic pool:
//
//	p'(y) = p(y) · o(y)^weight / normaliser
//
// A label that a leg does not give has an equal share of what is left there,
// and [reduce.Floor] at least.
func lean(lists [][]prediction.Prediction, stated []string, weight float64) bool {
	union := map[string]bool{}
	for _, list := range lists {
		for _, q := range list {
			union[q.Label] = true
		}
	}
	is := map[string]bool{}
	for _, label := range stated {
		if union[label] {
			is[label] = true
		}
	}
	others := len(union) - len(is)
	if len(is) == 0 || others == 0 {
		return false
	}
	// What a label that is not stated is multiplied by: only the ratio counts.
	less := math.Pow((1-trust)/float64(others)/(trust/float64(len(is))), weight)
	for i, list := range lists {
		if len(list) == 0 {
			continue
		}
		rest := 1.0
		given := map[string]bool{}
		for _, q := range list {
			rest -= q.Probability
			given[q.Label] = true
		}
		share := max(0, rest) / float64(max(1, len(union)-len(list)))
		out := make([]prediction.Prediction, 0, len(list)+len(is))
		var sum float64
		add := func(label string, p float64) {
			if !is[label] {
				p *= less
			}
			out = append(out, prediction.Prediction{Label: label, Probability: p})
			sum += p
		}
		for _, q := range list {
			p := q.Probability
			if is[q.Label] {
				p = max(p, reduce.Floor)
			}
			add(q.Label, p)
		}
		for _, label := range stated {
			if is[label] && !given[label] {
				add(label, max(share, reduce.Floor))
				rest -= share
			}
		}
		sum += max(0, rest) * less
		for j := range out {
			out[j].Probability /= sum
		}
		lists[i] = out
	}
	return true
}

// without is a list on the condition that it is none of the forbidden labels;
// nil when nothing is left.
func without(list []prediction.Prediction, forbidden map[string]bool) []prediction.Prediction {
	var lost float64
	any := false
	for _, q := range list {
		if forbidden[q.Label] {
			lost, any = lost+q.Probability, true
		}
	}
	if !any {
		return list
	}
	left := 1 - lost
	if left < reduce.Floor {
		return nil // it was sure of what cannot be
	}
	out := make([]prediction.Prediction, 0, len(list))
	for _, q := range list {
		if !forbidden[q.Label] {
			out = append(out, prediction.Prediction{Label: q.Label, Probability: min(1, q.Probability/left)})
		}
	}
	return out
}

// fuse reduces what the rules leave of the legs' lists, and names the rules
// that applied. The error is a refusal: the rules leave nothing.
func (c *Composer) fuse(p Product, results []result, lists [][]prediction.Prediction) ([]prediction.Prediction, []string, error) {
	lists, applied := c.ruled(p, results, lists)
	fused := c.spec.Reducer.Answers(lists)
	var names []string
	for _, r := range applied {
		names = append(names, r.Name)
		fused = without(fused, r.forbidden) // a stack gives labels that no leg gave
	}
	if len(fused) == 0 {
		return nil, names, problem.New(http.StatusUnprocessableEntity, "no category is left: rules (%s) forbid all that the legs said", strings.Join(names, ", "))
	}
	return fused, names, nil
}
