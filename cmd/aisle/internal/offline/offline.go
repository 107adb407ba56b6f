// Package offline answers again, by a composition, what was answered before:
// out of the whole distributions that legs gave (?predictions=all), without
// asking anybody. What a gate or a reducer would have changed can so be told of
// answers that are stored.
//
// It runs the composition's own reducer and its own gates (internal/reduce,
// internal/gate), so what it says is what a composer says. It refuses what
// stored answers cannot tell: gates about the product or its event, which are
// not stored, rules, and labels that are mapped.
package offline

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/gate"
	"aisle.dev/aisle/internal/prediction"
)

// Composer answers again.
type Composer struct {
	spec    *composition.Composition
	counted []int // indices of the legs that count
}

// ErrUntold is in the chain of the error of a product of which the stored
// answer does not hold what is needed.
var ErrUntold = errors.New("the stored answer does not tell")

var beyond = regexp.MustCompile(`\b(product|event)\b`)

// New returns a composer, or why stored answers cannot tell what the
// composition would say.
func New(spec *composition.Composition) (*Composer, error) {
	if len(spec.Rules) > 0 {
		return nil, fmt.Errorf("the composition %s has rules, which are about products, and stored answers hold none: give the URL of a composer that runs it", spec.Name)
	}
	c := &Composer{spec: spec, counted: spec.Counted()}
	for _, i := range c.counted {
		l := spec.Legs[i]
		switch {
		case l.Labels != nil:
			return nil, fmt.Errorf("leg %s of the composition %s maps its labels, and stored answers have them as they are after that: give the URL of a composer that runs it", l.Name, spec.Name)
		case l.When != nil && beyond.MatchString(l.When.String()):
			return nil, fmt.Errorf("the gate of leg %s is about the product, which stored answers do not hold: give the URL of a composer that runs the composition", l.Name)
		case slices.ContainsFunc(l.After, func(other int) bool { return spec.Legs[other].Shadow }):
			return nil, fmt.Errorf("the gate of leg %s is about a shadow leg: give the URL of a composer that runs the composition", l.Name)
		}
	}
	return c, nil
}

// Answer answers a product again out of its stored answer, which is not
// changed. Its candidates are the whole fused distribution. Legs that are named without were skipped. Its gates decide as they
// would, but that a leg which was not asked then cannot be asked now: that is
// an [ErrUntold].
func (c *Composer) Answer(stored category.Result, without ...string) (category.Result, error) {
	out := stored
	out.Legs = make([]category.Leg, len(c.counted))
	out.Composition = category.Composition{Name: c.spec.Name, Digest: c.spec.Digest}
	known := make(map[string]gate.Leg, len(c.counted))
	for len(known) < len(c.counted) { // a composition's legs do not wait for each other in a circle
		for k, i := range c.counted {
			spec := &c.spec.Legs[i]
			waits := func(other int) bool { _, ok := known[c.spec.Legs[other].Name]; return !ok }
			if _, done := known[spec.Name]; done || slices.ContainsFunc(spec.After, waits) {
				continue
			}
			leg, err := answered(spec, stored, known, slices.Contains(without, spec.Name))
			if err != nil {
				return out, fmt.Errorf("product %s: %w", stored.ID, err)
			}
			out.Legs[k], known[spec.Name] = leg, seen(leg)
		}
	}
	c.reduce(&out)
	return out, nil
}

// answered is what becomes of a leg.
func answered(spec *composition.Leg, stored category.Result, known map[string]gate.Leg, without bool) (category.Leg, error) {
	at := slices.IndexFunc(stored.Legs, func(l category.Leg) bool { return l.Name == spec.Name })
	if at < 0 {
		return category.Leg{}, fmt.Errorf("%w: it has no leg %s; another composition gave it", ErrUntold, spec.Name)
	}
	l := stored.Legs[at]
	l.Weight, l.Shadow = spec.Weight, false
	asked := !without
	var faulty error
	if g := spec.When; g != nil && asked {
		asked, faulty = g.Eval(gate.Input{Legs: known})
		asked = asked || faulty != nil // as in a composer
	}
	switch {
	case !asked:
		skipped := category.Leg{Name: l.Name, Service: l.Service, Outcome: category.Skipped, Weight: l.Weight}
		if spec.When != nil && !without {
			skipped.Gate = spec.When.String()
		}
		return skipped, nil
	case faulty != nil:
		l.GateError = faulty.Error()
	}
	if l.Outcome == category.Skipped && l.Gate != "" {
		return l, fmt.Errorf("%w: leg %s was not asked, since its gate was false", ErrUntold, l.Name)
	}
	if l.Outcome == category.Answered && len(l.Predictions) == 0 {
		return l, fmt.Errorf("%w: it has not all that leg %s said; ask again with: aisle evaluate --save FILE", ErrUntold, l.Name)
	}
	return l, nil
}

// seen is what gates know of a leg.
func seen(l category.Leg) gate.Leg {
	g := gate.Leg{Answered: l.Outcome == category.Answered, Failed: l.Outcome == category.LegFailed, Skipped: l.Outcome == category.Skipped}
	if g.Answered {
		g.Label, g.Confidence, g.Margin = l.Label, l.Confidence, Margin(l)
	}
	return g
}

// Margin is how much surer a leg is of its best label than of the next.
func Margin(l category.Leg) float64 {
	if len(l.Predictions) < 2 {
		return l.Confidence
	}
	return l.Confidence - l.Predictions[1].Probability
}

// reduce makes the category of the legs' answers.
func (c *Composer) reduce(out *category.Result) {
	lists := make([][]prediction.Prediction, len(out.Legs))
	answered := 0
	out.Status = category.Complete
	for k, l := range out.Legs {
		switch l.Outcome {
		case category.Answered:
			lists[k] = l.Predictions
			answered++
		case category.LegFailed:
			out.Status = category.Partial
		}
	}
	out.Category, out.Candidates, out.Review = nil, nil, false
	if answered < max(1, c.spec.Quorum) {
		out.Status = category.Failed
		return
	}
	fused := c.spec.Reducer.Answers(lists)
	best := fused[0]
	out.Candidates = fused
	out.Category = &category.Category{Label: best.Label, Path: []string{best.Label}, Confidence: best.Probability}
	if leaf, ok := c.spec.Taxonomy.Leaf(best.Label); ok {
		out.Category.ID, out.Category.Path = leaf.ID, leaf.Path
	}
	out.Review = best.Probability < c.spec.Threshold
}
