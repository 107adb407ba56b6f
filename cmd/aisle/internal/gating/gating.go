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
}

// Point is a gate: it wakes the leg for products whose measure is below
// Threshold, which are a share Woken of all.
type Point struct {
	Threshold float64 `json:"threshold"`
	Woken     float64 `json:"woken"`
	Accuracy  float64 `json:"accuracy"`
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
	right := 0
	for _, c := range sorted {
		if c.Without.Right() {
			right++
		}
	}
	n := float64(len(sorted))
	out := []Point{{0, 0, float64(right) / n}}
	for i, c := range sorted {
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
			out = append(out, Point{between(c.Sure[m], next), float64(i+1) / n, float64(right) / n})
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

// Cheapest is the point that wakes the leg for the fewest products of those
// whose accuracy is at most loss below that of waking it for all. The last one
// of a sweep always is such a point.
func Cheapest(points []Point, loss float64) Point {
	all := points[len(points)-1]
	for _, p := range points {
		if p.Accuracy >= all.Accuracy-loss-1e-12 {
			return p
		}
	}
	return all
}

// Result is what a gate does to some products.
type Result struct {
	Products      int            `json:"products"`
	Woken         float64        `json:"woken"` // share
	WokenInterval score.Interval `json:"wokenInterval"`
	Accuracy      float64        `json:"accuracy"`
	// Change compares the leg woken for all products, A, with the gate, B.
	Change score.Paired `json:"change"`
}

// Apply says what a gate does.
func Apply(cases []Case, m Measure, threshold float64) Result {
	var all, gated []score.Answer
	woken := 0
	for _, c := range cases {
		all = append(all, c.With)
		if c.Sure[m] < threshold {
			woken++
			gated = append(gated, c.With)
		} else {
			gated = append(gated, c.Without)
		}
	}
	return Result{
		Products: len(cases), Woken: float64(woken) / float64(max(1, len(cases))), WokenInterval: score.Wilson(woken, len(cases)),
		Accuracy: score.Accuracy(gated), Change: score.Pair(all, gated),
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
