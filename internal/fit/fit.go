// Package fit chooses the few numbers that turn trained models into calibrated
// answers: a model's temperature, and the temperature of a pool of models with
// the weights of its legs and of the labels' prior. Both minimise the mean
// negative log-likelihood of held-out truth, which is convex in what is fitted
// here. It is pure and deterministic, and pools by internal/reduce, the code
// that serves.
package fit

import (
	"fmt"
	"math"
	"slices"

	"aisle.dev/aisle/internal/reduce"
)

// Temperature returns the temperature, between 0.2 and 5, under which the
// truths are likeliest. weight says how much each answer counts.
func Temperature(p [][]float64, truth []int, weight []float64) (float64, error) {
	if len(p) == 0 || len(p) != len(truth) || len(p) != len(weight) {
		return 0, fmt.Errorf("fit a temperature: %d answers, %d truths, %d weights", len(p), len(truth), len(weight))
	}
	out := make([]float64, len(p[0]))
	inverse := minimum(0.2, 5, func(inverse float64) float64 {
		nll := 0.0
		for i := range p {
			reduce.Temper(out, p[i], 1/inverse)
			nll -= weight[i] * math.Log(max(out[truth[i]], 1e-12))
		}
		return nll
	})
	return 1 / inverse, nil
}

// View is what the legs of a pool said of some products, seen in one way:
// Legs[i][k] is the answer of leg k to product i, which counts Weight[i].
type View struct {
	Legs   [][][]float64
	Truth  []int
	Weight []float64
}

// Pool fits one pool of two legs or more for several views of answers that
// have all legs. The views count alike, however hard they are: it minimises
// the sum over the views of the loss relative to the best that a pool of the
// view's own would reach. prior holds the labels' shares; without it (nil) the
// prior's weight is 0. Only the exponents weight/temperature matter where all
// legs answer, so the largest weight of a leg is put at 1.
func Pool(prior []float64, views ...View) (reduce.Pool, error) {
	best := make([]float64, len(views))
	var low []float64
	for v, view := range views {
		if len(view.Legs) == 0 || len(view.Legs) != len(view.Truth) || len(view.Legs) != len(view.Weight) || len(view.Legs[0]) < 2 || len(view.Legs[0]) != len(views[0].Legs[0]) {
			return reduce.Pool{}, fmt.Errorf("fit a pool: want answers of the same two legs or more in each view, and as many truths and weights")
		}
		if prior != nil && len(prior) != len(view.Legs[0][0]) {
			return reduce.Pool{}, fmt.Errorf("fit a pool: %d shares in the prior, %d labels: want as many", len(prior), len(view.Legs[0][0]))
		}
		low = slices.Repeat([]float64{0.01}, len(view.Legs[0]))
		if prior != nil {
			low = append(low, 0)
		}
		best[v] = max(view.loss(prior, descend(low, func(x []float64) float64 { return view.loss(prior, x) })), 1e-6)
	}
	if len(views) == 0 {
		return reduce.Pool{}, fmt.Errorf("fit a pool: there are no answers")
	}
	x := descend(low, func(x []float64) float64 {
		sum := 0.0
		for v, view := range views {
			sum += view.loss(prior, x) / best[v]
		}
		return sum / float64(len(views))
	})
	pool := views[0].pool(x)
	most := slices.Max(pool.Weights)
	pool.Temperature, pool.PriorWeight = 1/most, pool.PriorWeight/most
	for i := range pool.Weights {
		pool.Weights[i] /= most
	}
	return pool, pool.Validate()
}

// pool has the legs' exponents x, and after them the prior's if there is one.
func (v View) pool(x []float64) reduce.Pool {
	legs := len(v.Legs[0])
	pool := reduce.Pool{Weights: x[:legs], Temperature: 1}
	if len(x) > legs {
		pool.PriorWeight = x[legs]
	}
	return pool
}

// loss is the weighted mean negative log-likelihood of the truths.
func (v View) loss(prior, exponents []float64) float64 {
	pool, nll, all := v.pool(exponents), 0.0, 0.0
	out := make([]float64, len(v.Legs[0][0]))
	for i := range v.Legs {
		pool.Fuse(out, v.Legs[i], prior)
		nll -= v.Weight[i] * math.Log(max(out[v.Truth[i]], 1e-12))
		all += v.Weight[i]
	}
	return nll / all
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

// minimum finds the minimum of a convex function on [a, b] by golden section,
// to 0.002.
func minimum(a, b float64, f func(float64) float64) float64 {
	const ratio = 0.6180339887498949
	c, d := b-ratio*(b-a), a+ratio*(b-a)
	fc, fd := f(c), f(d)
	for b-a > 2e-3 {
		if fc < fd {
			b, d, fd = d, c, fc
			c = b - ratio*(b-a)
			fc = f(c)
		} else {
			a, c, fc = c, d, fd
			d = a + ratio*(b-a)
			fd = f(d)
		}
	}
	return (a + b) / 2
}
