package fit

import (
	"fmt"
	"math"
	"slices"

	"aisle.dev/aisle/internal/reduce"
)

// View is what the legs of a composition said of some products, seen in one
// way: Legs[i][k] is the answer of leg k to product i, nil if it gave none,
// which counts Weight[i]. Products of one group (near-twins) are no evidence
// of each other, and never on both sides of a fold; nil: each is its own.
type View struct {
	Legs   [][][]float64
	Truth  []int
	Weight []float64
	Group  []int
}

// Shares gives each product of a group an even share of the weight 1: those
// that are alike are not evidence of their own.
func Shares(group []int) []float64 {
	count := map[int]int{}
	for _, g := range group {
		count[g]++
	}
	weights := make([]float64, len(group))
	for i, g := range group {
		weights[i] = 1 / float64(count[g])
	}
	return weights
}

// check says what of some views does not fit together.
func check(prior []float64, views []View) error {
	if len(views) == 0 {
		return fmt.Errorf("there are no answers")
	}
	for _, v := range views {
		if len(v.Legs) == 0 || len(v.Legs) != len(v.Truth) || len(v.Legs) != len(v.Weight) || v.Group != nil && len(v.Legs) != len(v.Group) || len(v.Legs[0]) < 2 || len(v.Legs[0]) != len(views[0].Legs[0]) {
			return fmt.Errorf("want answers of the same two legs or more in each view, and as many truths and weights")
		}
		for i, legs := range v.Legs {
			for _, leg := range legs {
				if leg != nil && (v.Truth[i] >= len(leg) || prior != nil && len(prior) != len(leg)) {
					return fmt.Errorf("truth %d, %d shares in the prior, %d labels: want as many shares as labels", v.Truth[i], len(prior), len(leg))
				}
			}
		}
	}
	return nil
}

// where keeps the products for which keep is true.
func (v View) where(keep func(i int) bool) View {
	var out View
	for i := range v.Legs {
		if !keep(i) {
			continue
		}
		out.Legs, out.Truth, out.Weight = append(out.Legs, v.Legs[i]), append(out.Truth, v.Truth[i]), append(out.Weight, v.Weight[i])
		if v.Group != nil {
			out.Group = append(out.Group, v.Group[i])
		}
	}
	return out
}

// whole keeps the products that all legs answered.
func whole(views []View) ([]View, error) {
	out := make([]View, len(views))
	for i, v := range views {
		out[i] = v.where(func(i int) bool {
			return !slices.ContainsFunc(v.Legs[i], func(leg []float64) bool { return leg == nil })
		})
		if len(out[i].Legs) == 0 {
			return nil, fmt.Errorf("no product was answered by all legs")
		}
	}
	return out, nil
}

// Pool fits one logarithmic pool of two legs or more to the products that all
// legs answered. The views count alike, however hard they are: it minimises
// the sum over the views of the loss relative to the best that a pool of the
// view's own would reach. prior holds the labels' shares; without it (nil) the
// prior's weight is 0. Only the exponents weight/temperature matter where all
// legs answer, so the largest weight of a leg is put at 1.
func Pool(prior []float64, views ...View) (reduce.Pool, error) {
	if err := check(prior, views); err != nil {
		return reduce.Pool{}, fmt.Errorf("fit a pool: %w", err)
	}
	views, err := whole(views)
	if err != nil {
		return reduce.Pool{}, fmt.Errorf("fit a pool: %w", err)
	}
	low := slices.Repeat([]float64{0.01}, len(views[0].Legs[0]))
	if prior != nil {
		low = append(low, 0)
	}
	losses, best := make([]func([]float64) float64, len(views)), make([]float64, len(views))
	for v, view := range views {
		losses[v] = view.loss(prior)
		best[v] = max(losses[v](descend(low, losses[v])), 1e-6)
	}
	x := descend(low, func(x []float64) float64 {
		sum := 0.0
		for v, loss := range losses {
			sum += loss(x) / best[v]
		}
		return sum / float64(len(views))
	})
	legs := len(views[0].Legs[0])
	most := slices.Max(x[:legs])
	pool := reduce.Pool{Temperature: 1 / most}
	for _, e := range x[:legs] {
		pool.Weights = append(pool.Weights, e/most)
	}
	if prior != nil {
		pool.PriorWeight = x[legs] / most
	}
	return pool, pool.Validate()
}

// loss gives the weighted mean negative log-likelihood of the truths for
// exponents: those of the legs, and after them the prior's if there is one. It
// is that of [reduce.Pool.Fuse], with the logarithms taken once.
func (v View) loss(prior []float64) func(exponents []float64) float64 {
	logs := make([][][]float64, len(v.Legs))
	var shares []float64
	if prior != nil {
		shares = negative(logarithms(prior))
	}
	all, labels := 0.0, len(v.Legs[0][0])
	for i, legs := range v.Legs {
		for _, leg := range legs {
			logs[i] = append(logs[i], logarithms(leg))
		}
		if shares != nil {
			logs[i] = append(logs[i], shares)
		}
		all += v.Weight[i]
	}
	s := make([]float64, labels)
	return func(exponents []float64) float64 {
		nll := 0.0
		for i := range logs {
			clear(s)
			for k, log := range logs[i] {
				e := exponents[k]
				for y, l := range log {
					s[y] += e * l
				}
			}
			nll += v.Weight[i] * min(logSum(s)-s[v.Truth[i]], maxLoss)
		}
		return nll / all
	}
}

// maxLoss is of a truth that was held for impossible: -log 1e-12.
const maxLoss = 27.63102111592855

func logarithms(p []float64) []float64 {
	out := make([]float64, len(p))
	for y, q := range p {
		out[y] = math.Log(min(max(q, reduce.Floor), 1))
	}
	return out
}

func negative(x []float64) []float64 {
	for i := range x {
		x[i] = -x[i]
	}
	return x
}

// logSum is the logarithm of the sum of exponentials.
func logSum(s []float64) float64 {
	top, sum := slices.Max(s), 0.0
	for _, v := range s {
		if v-top > -40 { // what is smaller changes no digit
			sum += math.Exp(v - top)
		}
	}
	return top + math.Log(sum)
}

// descend minimises a convex function of a few numbers, each from its low to
// 5, coordinate by coordinate.
func descend(low []float64, f func([]float64) float64) []float64 {
	x := make([]float64, len(low))
	for k := range x {
		x[k] = 1 / float64(len(x))
	}
	for last := math.Inf(1); ; {
		for k := range x {
			x[k] = minimum(low[k], 5, func(e float64) float64 {
				x[k] = e
				return f(x)
			})
		}
		now := f(x)
		if last-now < 1e-6*math.Abs(now) {
			return x
		}
		last = now
	}
}

// LinPool fits a linear pool's weights to the products that all legs answered,
// by expectation maximisation: a leg's weight is the share of the truths that
// it is likeliest to have drawn (A. Dempster, N. Laird and D. Rubin, "Maximum
// Likelihood from Incomplete Data via the EM Algorithm", JRSS B 39(1), 1977,
// section 4.3). The views count alike; the largest weight is 1.
func LinPool(views ...View) (reduce.LinPool, error) {
	if err := check(nil, views); err != nil {
		return reduce.LinPool{}, fmt.Errorf("fit a linear pool: %w", err)
	}
	views, err := whole(views)
	if err != nil {
		return reduce.LinPool{}, fmt.Errorf("fit a linear pool: %w", err)
	}
	n := len(views[0].Legs[0])
	w := slices.Repeat([]float64{1 / float64(n)}, n)
	for range 200 {
		next := make([]float64, n)
		for _, v := range views {
			all := sum(v.Weight)
			for i, legs := range v.Legs {
				mix := 0.0
				for k, leg := range legs {
					mix += w[k] * max(leg[v.Truth[i]], reduce.Floor)
				}
				for k, leg := range legs {
					next[k] += v.Weight[i] / all * w[k] * max(leg[v.Truth[i]], reduce.Floor) / mix / float64(len(views))
				}
			}
		}
		w = next
	}
	return reduce.LinPool{Weights: largestIsOne(w)}, nil
}

// Vote gives each leg the weight log(a·(K-1)/(1-a)), of the share a of
// products that it is right for: see [reduce.Vote]. The views count alike; the
// largest weight is 1.
func Vote(views ...View) (reduce.Vote, error) {
	if err := check(nil, views); err != nil {
		return reduce.Vote{}, fmt.Errorf("fit a vote: %w", err)
	}
	w := make([]float64, len(views[0].Legs[0]))
	for k := range w {
		right, all, labels := 1.0, 2.0, 2
		for _, v := range views {
			total := sum(v.Weight)
			for i, legs := range v.Legs {
				if legs[k] == nil {
					continue
				}
				labels = len(legs[k])
				share := v.Weight[i] / total * float64(len(v.Legs)) / float64(len(views))
				all += share
				if best(legs[k]) == v.Truth[i] {
					right += share
				}
			}
		}
		a := right / all // with one right and one wrong more: never 0 or 1
		w[k] = max(math.Log(a*float64(labels-1)/(1-a)), 0)
	}
	return reduce.Vote{Weights: largestIsOne(w)}, nil
}

// largestIsOne scales weights; one of 0 becomes the least that a reducer takes.
func largestIsOne(w []float64) []float64 {
	most := slices.Max(w)
	for k := range w {
		if most > 0 {
			w[k] /= most
		}
		w[k] = max(w[k], 1e-3)
	}
	return w
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

// best is the index of the largest value, the first of equal ones.
func best(p []float64) int {
	at := 0
	for y, v := range p {
		if v > p[at] {
			at = y
		}
	}
	return at
}
