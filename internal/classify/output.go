package classify

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
)

// decoder reads the graph's one output of a package with preprocessing:
// [batch, labels], FP32.
type decoder struct {
	labels      []string // the answer's
	keys        []string // the graph's names of them
	name        string   // of the output
	activation  string
	temperature float64

	// columns says of each label in which column it is; nil: they are in order.
	columns []int
}

func newDecoder(p *model.Package) *decoder {
	return &decoder{labels: p.Labels, keys: p.Keys, name: p.Spec.Outputs[0].Name, activation: p.Spec.Activation, temperature: p.Spec.Temperature}
}

// output is the tensor that a batch is run with, in mem.
func (d *decoder) output(rows int, mem *[]float32) onnx.Tensor {
	n := rows * len(d.labels)
	if cap(*mem) < n {
		*mem = make([]float32, n)
	}
	return onnx.Tensor{Shape: []int64{int64(rows), int64(len(d.labels))}, F32: (*mem)[:n]}
}

// scores copies the output's numbers of the first rows, a row of labels behind
// the other.
func (d *decoder) scores(t onnx.Tensor, rows int) []float32 {
	n := len(d.labels)
	scores := slices.Clone(t.F32[:rows*n])
	if d.columns == nil {
		return scores
	}
	for r := range rows {
		for i, c := range d.columns {
			scores[r*n+i] = t.F32[r*n+c]
		}
	}
	return scores
}

// learn finds the labels among the output's keys, where it has any, as zipmaps
// do: by name, or by position where the keys are the numbers from 0. To be
// called before the first batch.
func (d *decoder) learn(keys []string) error {
	if keys == nil {
		return nil
	}
	if len(keys) != len(d.labels) {
		return fmt.Errorf("output %s has %d keys %.200q, but the package has %d labels", d.name, len(keys), keys, len(d.labels))
	}
	named, counted := make([]int, len(d.labels)), make([]int, len(d.labels))
	byName, byNumber := true, true
	for i, k := range d.keys {
		named[i], counted[i] = slices.Index(keys, k), slices.Index(keys, strconv.Itoa(i))
		byName, byNumber = byName && named[i] >= 0, byNumber && counted[i] >= 0
	}
	switch {
	case byName:
		d.columns = named
	case byNumber:
		d.columns = counted
	default:
		return fmt.Errorf("output %s has the keys %.200q, the package the labels %.200q: write the keys into its labels file, one a line, and what the answer is to say into labelMap", d.name, keys, d.keys)
	}
	return nil
}

// probabilities makes them of one product's scores, as the package says: by
// its activation, then the temperature. A label's weight is kept as its
// logarithm until the largest is known, so that nothing overflows.
func (d *decoder) probabilities(scores []float32) ([]float64, error) {
	p := make([]float64, len(scores))
	largest := math.Inf(-1)
	for i, v := range scores {
		l := float64(v)
		if d.activation == model.Identity {
			if l < 0 || l > 1+1e-3 {
				return nil, problem.New(http.StatusInternalServerError, "the model's output for label %q is %v, which is no probability", d.labels[i], v)
			}
			l = math.Log(l) // p^(1/T), renormalised, is a softmax of ln(p)/T; ln(0) is -Inf, which gives 0
		}
		if math.IsNaN(l) || math.IsInf(l, 1) {
			return nil, problem.New(http.StatusInternalServerError, "the model's output for label %q is not a finite number (%v)", d.labels[i], v)
		}
		l /= d.temperature
		if d.activation == model.Sigmoid {
			l = -softplus(-l)
		}
		p[i] = l
		largest = max(largest, l)
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

// softplus is ln(1 + e^x); ln of a sigmoid of x is -softplus(-x).
func softplus(x float64) float64 {
	return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x)))
}

// best returns the n likeliest labels, by falling probability, ties in the
// labels' order. An n below 1 means all.
func (d *decoder) best(p []float64, n int) []prediction.Prediction {
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
		out[i] = prediction.Prediction{Label: d.labels[k], Probability: p[k]}
	}
	return out
}
