// Package fit chooses the few numbers that turn trained models into calibrated
// answers: a model's temperature, and the weights and temperature of a pool of
// models. Both minimise the mean negative log-likelihood of held-out truth,
// which is convex in what is fitted here. It is pure and deterministic, and
// pools by internal/reduce, the code that serves.
package fit

import (
	"fmt"
	"math"

	"aisle.dev/aisle/internal/reduce"
)

// Temper writes p^(1/t), renormalised, to out: what a package's temperature
// does to probabilities.
func Temper(out, p []float64, t float64) {
	most := math.Inf(-1)
	for i, v := range p {
		out[i] = math.Log(max(v, 1e-30)) / t
		most = max(most, out[i])
	}
	sum := 0.0
	for i, v := range out[:len(p)] {
		out[i] = math.Exp(v - most)
		sum += out[i]
	}
	for i := range p {
		out[i] /= sum
	}
}

// Temperature returns the temperature, between 0.2 and 5, under which the
// truths are likeliest.
func Temperature(p [][]float64, truth []int) (float64, error) {
	if len(p) == 0 || len(p) != len(truth) {
		return 0, fmt.Errorf("fit a temperature: %d answers and %d truths", len(p), len(truth))
	}
	out := make([]float64, len(p[0]))
	inverse := minimum(0.2, 5, func(inverse float64) float64 {
		nll := 0.0
		for i := range p {
			Temper(out, p[i], 1/inverse)
			nll -= math.Log(max(out[truth[i]], 1e-12))
		}
		return nll
	})
	return 1 / inverse, nil
}

// Pool fits a pool of two legs or more on answers that have all of them:
// legs[i][k] is what leg k said of the i-th product. Only the exponents
// weight/temperature matter there, so the largest weight is put at 1.
func Pool(legs [][][]float64, truth []int) (reduce.Pool, error) {
	if len(legs) == 0 || len(legs) != len(truth) || len(legs[0]) < 2 {
		return reduce.Pool{}, fmt.Errorf("fit a pool: want answers of two legs or more, and as many truths")
	}
	exponents := make([]float64, len(legs[0]))
	for k := range exponents {
		exponents[k] = 1 / float64(len(exponents))
	}
	out := make([]float64, len(legs[0][0]))
	loss := func() float64 {
		pool, nll := reduce.Pool{Weights: exponents, Temperature: 1}, 0.0
		for i := range legs {
			pool.Fuse(out, legs[i])
			nll -= math.Log(max(out[truth[i]], 1e-12))
		}
		return nll
	}
	// Coordinate descent: the loss is convex and the exponents are few.
	for last := math.Inf(1); ; {
		for k := range exponents {
			exponents[k] = minimum(0.01, 5, func(e float64) float64 {
				exponents[k] = e
				return loss()
			})
		}
		now := loss()
		if last-now < 1e-6*float64(len(legs)) {
			break
		}
		last = now
	}
	most := 0.0
	for _, e := range exponents {
		most = max(most, e)
	}
	pool := reduce.Pool{Temperature: 1 / most}
	for _, e := range exponents {
		pool.Weights = append(pool.Weights, e/most)
	}
	return pool, pool.Validate()
}

// minimum finds the minimum of a convex function on [a, b] by golden section,
// to four digits.
func minimum(a, b float64, f func(float64) float64) float64 {
	const ratio = 0.6180339887498949
	c, d := b-ratio*(b-a), a+ratio*(b-a)
	fc, fd := f(c), f(d)
	for b-a > 1e-4 {
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
