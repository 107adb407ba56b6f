package classify

import (
	"math"
	"net/http"
	"slices"

	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
)

// calibrate turns the graph's output for one product into probabilities, as
// the package says: softmax or none, then the temperature. They are summed in
// float64, from the largest down to nothing, so that no logit overflows.
func (c *Classifier) calibrate(out []float32) ([]float64, error) {
	t := c.pkg.Spec.Temperature
	p := make([]float64, len(out))
	largest := math.Inf(-1)
	for i, v := range out {
		l := float64(v)
		if c.pkg.Spec.Activation == "none" {
			if l < 0 || l > 1+1e-3 {
				return nil, problem.New(http.StatusInternalServerError, "the model's output for label %q is %v, which is no probability", c.pkg.Labels[i], v)
			}
			l = math.Log(l) // p^(1/T), renormalised, is a softmax of ln(p)/T; ln(0) is -Inf, which gives 0
		}
		if math.IsNaN(l) || math.IsInf(l, 1) {
			return nil, problem.New(http.StatusInternalServerError, "the model's output for label %q is not a finite number (%v)", c.pkg.Labels[i], v)
		}
		p[i] = l / t
		largest = max(largest, p[i])
	}
	if math.IsInf(largest, -1) {
		return nil, problem.New(http.StatusInternalServerError, "the model gives no label any probability")
	}
	sum := 0.0
	for i, l := range p {
		p[i] = math.Exp(l - largest)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p, nil
}

// best returns the n likeliest labels, by falling probability, ties in the
// labels' order. An n below 1 means all.
func (c *Classifier) best(p []float64, n int) []prediction.Prediction {
	if n < 1 || n > len(p) {
		n = len(p)
	}
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case p[a] > p[b]:
			return -1
		case p[a] < p[b]:
			return 1
		}
		return a - b
	})
	out := make([]prediction.Prediction, n)
	for i, k := range order[:n] {
		out[i] = prediction.Prediction{Label: c.pkg.Labels[k], Probability: p[k]}
	}
	return out
}
