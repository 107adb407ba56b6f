// Package gating says what a gate would cost and save: which share of the
// products wakes a leg when it is asked only where another leg is not sure
// enough, and how right the answers are then.
//
// It is given what the answer is with the leg and without it, and is pure.
package gating

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"

	"aisle.dev/aisle/internal/score"
)

// Measure is what a gate compares with a threshold.
type Measure string

// What a composition's gates know of how sure a leg is (internal/gate).
const (
	Confidence Measure = "confidence"
	Margin     Measure = "margin"
)

// Measures are all of them.
var Measures = []Measure{Confidence, Margin}

// Case is one product.
type Case struct {
	Sure    map[Measure]float64 // how sure the leg is that the gate looks at
	With    score.Answer        // with the gated leg
	Without score.Answer
	// Loss is how much more likely With is right than Without, by the
	// probabilities of the answer with all legs; 0 where both say the same.
	Loss float64
}

// Point is a gate: it wakes the leg for products whose measure is below
// Threshold, which are a share Woken of all.
type Point struct {
	Threshold float64 `json:"threshold"`
	Woken     float64 `json:"woken"`
	Accuracy  float64 `json:"accuracy"`
	// ExpectedLoss is the mean of Case.Loss, of those that wake nothing.
	ExpectedLoss float64 `json:"expectedLoss"`
}

// Sweep returns all gates that differ in what they wake, from the one that
// wakes the leg for no product to the one that does for all. Thresholds are
// the shortest decimals that tell the products apart.
func Sweep(cases []Case, m Measure) []Point {
	if len(cases) == 0 {
		return nil
	}
	sorted := slices.Clone(cases)
	slices.SortStableFunc(sorted, func(a, b Case) int { return cmp.Compare(a.Sure[m], b.Sure[m]) })
	right, loss := 0, 0.0
	for _, c := range sorted {
		if c.Without.Right() {
			right++
		}
		loss += c.Loss
	}
	n := float64(len(sorted))
	out := []Point{{0, 0, float64(right) / n, loss / n}}
	for i, c := range sorted {
		loss -= c.Loss
		switch {
		case c.With.Right() && !c.Without.Right():
			right++
		case c.Without.Right() && !c.With.Right():
			right--
		}
		next := math.Inf(1)
		if i+1 < len(sorted) {
			next = sorted[i+1].Sure[m]
		}
		if next > c.Sure[m] {
			out = append(out, Point{between(c.Sure[m], next), float64(i+1) / n, float64(right) / n, max(0, loss/n)})
		}
	}
	return out
}

// between is the shortest decimal above low, and at most high.
func between(low, high float64) float64 {
	for power := 1.0; power < 1e15; power *= 10 {
		if v := (math.Floor(low*power) + 1) / power; v > low && v <= high {
			return v
		}
	}
	return high
}

// Cheapest is the point of a sweep that wakes the leg for the fewest products
// of those whose expected loss is at most so much. The measured accuracy does
// not choose: a fifth of a point is a handful of products among thousands, and
// the best of many thresholds by such a handful is chance. The expectation
// counts every product by how likely it is that the leg mends it, falls with
// every product that is woken, and is as good as the answers are calibrated.
func Cheapest(points []Point, loss float64) Point {
	for _, p := range points {
		if p.ExpectedLoss <= loss+1e-12 {
			return p
		}
	}
	return points[len(points)-1]
}

// Result is what a gate does to some products.
type Result struct {
	Products      int            `json:"products"`
	Woken         float64        `json:"woken"` // share
	WokenInterval score.Interval `json:"wokenInterval"`
	Accuracy      float64        `json:"accuracy"`
	ExpectedLoss  float64        `json:"expectedLoss"` // as a Point's
	// Change compares the leg woken for all products, A, with the gate, B.
	Change score.Paired `json:"change"`
}

// Apply says what a gate does.
func Apply(cases []Case, m Measure, threshold float64) Result {
	var all, gated []score.Answer
	woken, loss := 0, 0.0
	for _, c := range cases {
		all = append(all, c.With)
		if c.Sure[m] < threshold {
			woken++
			gated = append(gated, c.With)
		} else {
			gated = append(gated, c.Without)
			loss += c.Loss
		}
	}
	return Result{
		Products: len(cases), Woken: float64(woken) / float64(max(1, len(cases))), WokenInterval: score.Wilson(woken, len(cases)),
		Accuracy: score.Accuracy(gated), ExpectedLoss: loss / float64(max(1, len(cases))), Change: score.Pair(all, gated),
	}
}

var identifier = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// When is the expression of a gate on a leg, as a composition has it. What a
// leg that did not answer is sure of counts as 0, so it wakes the other too.
func When(leg string, m Measure, threshold float64) string {
	if !identifier.MatchString(leg) {
		leg = "`" + leg + "`"
	}
	if threshold <= 0 {
		return fmt.Sprintf("!legs.%s.answered", leg)
	}
	return fmt.Sprintf("legs.%s.%s < %s", leg, m, strconv.FormatFloat(threshold, 'f', -1, 64))
}

// Thinned keeps at most n of the points, evenly by what they wake, and both ends.
func Thinned(points []Point, n int) []Point {
	if len(points) <= n {
		return points
	}
	out := make([]Point, 0, n)
	for i := range n {
		out = append(out, points[i*(len(points)-1)/(n-1)])
	}
	return out
}
