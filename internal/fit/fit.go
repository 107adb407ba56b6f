// Package fit chooses the numbers that turn trained models into calibrated
// answers: a model's temperature, and the reducers of internal/reduce with
// their calibration ([Choose], which compares them by cross-validation).
// What is fitted minimises the mean negative log-likelihood of held-out truth.
// It is deterministic, and reduces by internal/reduce, the code that serves.
package fit

import (
	"fmt"
	"math"

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
			nll -= weight[i] * math.Log(out[truth[i]]) // above 1e-150, by Temper: a bound here would end convexity
		}
		return nll
	})
	return 1 / inverse, nil
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
