package reduce

import (
	"fmt"
	"math"
	"slices"

	"aisle.dev/aisle/internal/prediction"
)

// Sight is the least probability that a [Stack] sees of a leg's label.
const Sight = 1e-3

// MaxCoefficients bounds a stack.
const MaxCoefficients = 1 << 20

// Stack is a multinomial logistic regression over the legs' log-probabilities,
// with an indicator for each leg that is missing (D. H. Wolpert, "Stacked
// Generalization", Neural Networks 5(2), 1992, 241-259; of class probabilities
// by a linear model: K. M. Ting and I. H. Witten, "Issues in Stacked
// Generalization", JAIR 10, 1999, 271-289). It starts from a [Pool], whose
// answer for the legs present is the regression's offset, so that
// coefficients of 0 are that pool and the penalty on their squares, under
// which they are fitted, shrinks towards it:
//
//	s(c) = log pool(c) + b(c) + Σ_{i missing} m_i(c) + Σ_{i present} Σ_y d_i(y,c)·x_i(y)
//	p    = softmax(s),  x_i(y) = log(max(q_i(y), Sight) / Sight)
//
// So d_i(y,c) is what it speaks for c that leg i finds y likely: a photo that
// is said to show sandals may well show flip flops. x_i is 0 but for the few
// labels that a leg thinks possible.
//
// A label that the stack was not fitted on has the pool's score.
type Stack struct {
	pool   Pool
	labels []string
	index  map[string]int
	// One list of a coefficient per label for each feature: b, then m_i of
	// each leg, then d_i(y) of each leg and label.
	coefficients [][]float64
}

// StackFeatures is how many features a stack has, each with a coefficient per label.
func StackFeatures(legs, labels int) int { return 1 + legs + legs*labels }

// NewStack makes a stack of a pool, the labels, and coefficients by feature
// and label; the features are the constant, the indicator of each leg that it
// is missing, and each leg's labels.
func NewStack(pool Pool, labels []string, coefficients [][]float64) (*Stack, error) {
	if err := pool.Validate(); err != nil {
		return nil, err
	}
	if n := len(coefficients) * len(labels); len(labels) == 0 || n > MaxCoefficients {
		return nil, fmt.Errorf("%d labels need %d coefficients: want at least one label, at most %d coefficients", len(labels), n, MaxCoefficients)
	}
	s := &Stack{pool: pool, labels: labels, index: make(map[string]int, len(labels)), coefficients: coefficients}
	for c, label := range labels {
		if _, twice := s.index[label]; twice {
			return nil, fmt.Errorf("label %q is there twice", label)
		}
		s.index[label] = c
	}
	if want := StackFeatures(len(pool.Weights), len(labels)); len(coefficients) != want {
		return nil, fmt.Errorf("coefficients of %d features: want %d", len(coefficients), want)
	}
	for f, row := range coefficients {
		if len(row) != len(labels) || slices.ContainsFunc(row, func(v float64) bool { return !(math.Abs(v) <= MaxWeight) }) {
			return nil, fmt.Errorf("feature %d: want %d coefficients, each from -%d to %d", f, len(labels), MaxWeight, MaxWeight)
		}
	}
	return s, nil
}

// A Feature is one that is not 0.
type Feature struct {
	Index int
	Value float64
}

// AppendFeatures appends the features of legs over a stack's labels, nil for
// a leg that is missing. column says which of so many labels each value of a
// leg is for; nil: they are in order.
func AppendFeatures(to []Feature, legs [][]float64, labels int, column []int) []Feature {
	to = append(to, Feature{0, 1})
	for i, leg := range legs {
		if leg == nil {
			to = append(to, Feature{1 + i, 1})
			continue
		}
		for y, q := range leg {
			if q = floored(q); q <= Sight {
				continue
			}
			if column != nil {
				y = column[y]
			}
			if y >= 0 {
				to = append(to, Feature{1 + len(legs) + i*labels + y, math.Log(q / Sight)})
			}
		}
	}
	return to
}

// Fuse stacks legs over the stack's labels, in its order, as [Pool.Fuse] pools.
func (s *Stack) Fuse(out []float64, legs [][]float64, prior []float64) {
	s.pool.Fuse(out, legs, prior)
	s.correct(out, legs, nil)
}

// Answers stacks over the labels that any leg has, one list per leg.
func (s *Stack) Answers(legs [][]prediction.Prediction) []prediction.Prediction {
	return answers(legs, func(out, free []float64, legs [][]float64, labels []string) {
		column := make([]int, len(labels))
		for y, label := range labels {
			c, known := s.index[label]
			if !known {
				c = -1
			}
			column[y] = c
		}
		s.pool.Fuse(out, legs, s.pool.shares(free, labels))
		s.correct(out, legs, column)
	})
}

// correct makes the stack's answer of the pool's.
func (s *Stack) correct(p []float64, legs [][]float64, column []int) {
	for y, v := range p {
		p[y] = math.Log(max(v, 1e-300))
	}
	for _, f := range AppendFeatures(nil, legs, len(s.labels), column) {
		row := s.coefficients[f.Index]
		if column == nil {
			for c, v := range row {
				p[c] += f.Value * v
			}
			continue
		}
		for y, c := range column {
			if c >= 0 {
				p[y] += f.Value * row[c]
			}
		}
	}
	softmax(p)
}
