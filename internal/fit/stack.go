package fit

import (
	"fmt"
	"math"

	"aisle.dev/aisle/internal/reduce"
)

// Patterns are those of which a composition of so many legs is fitted and
// measured: all legs present, all but one, and each alone; indices, rising.
func Patterns(legs int) [][]int {
	var all []int
	for i := range legs {
		all = append(all, i)
	}
	out := [][]int{all}
	if legs > 2 {
		for missing := range legs {
			var rest []int
			for i := range legs {
				if i != missing {
					rest = append(rest, i)
				}
			}
			out = append(out, rest)
		}
	}
	if legs > 1 {
		for i := range legs {
			out = append(out, []int{i})
		}
	}
	return out
}

// Only keeps a pattern's legs of what all legs said; nil where one of them is
// missing.
func Only(legs [][]float64, pattern []int) [][]float64 {
	out := make([][]float64, len(legs))
	for _, i := range pattern {
		if legs[i] == nil {
			return nil
		}
		out[i] = legs[i]
	}
	return out
}

// stackFit is a stack's regression: the rows, and how they are weighted.
type stackFit struct {
	legs, labels int
	rows         []stackRow
}

type stackRow struct {
	offset   []float64 // the pool's logarithms
	features []reduce.Feature
	truth    int
	weight   float64 // all rows' sum to 1
}

// newStackFit lays out the products of the views, which count alike, in each
// pattern: as answered by all legs, and, together as much, with legs missing.
func newStackFit(pool reduce.Pool, prior []float64, views []View) (*stackFit, error) {
	if err := check(prior, views); err != nil {
		return nil, fmt.Errorf("fit a stack: %w", err)
	}
	s := &stackFit{legs: len(views[0].Legs[0])}
	patterns := Patterns(s.legs)
	for _, v := range views {
		all := sum(v.Weight) * float64(len(views)) * 2
		for k, pattern := range patterns {
			share := 1.0
			if k > 0 {
				share = 1 / float64(len(patterns)-1)
			}
			for i, said := range v.Legs {
				legs := Only(said, pattern)
				if legs == nil {
					continue
				}
				s.labels = len(legs[pattern[0]])
				row := stackRow{offset: make([]float64, s.labels), truth: v.Truth[i], weight: share * v.Weight[i] / all}
				pool.Fuse(row.offset, legs, prior)
				for y, p := range row.offset {
					row.offset[y] = math.Log(max(p, 1e-300))
				}
				row.features = reduce.AppendFeatures(nil, legs, s.labels, nil)
				s.rows = append(s.rows, row)
			}
		}
	}
	if n := reduce.StackFeatures(s.legs, s.labels) * s.labels; n > reduce.MaxCoefficients {
		return nil, fmt.Errorf("fit a stack: %d labels and %d legs need %d coefficients: at most %d are fitted", s.labels, s.legs, n, reduce.MaxCoefficients)
	}
	return s, nil
}

// start is where the fit begins: coefficients of 0, the pool itself.
func (s *stackFit) start() []float64 {
	return make([]float64, reduce.StackFeatures(s.legs, s.labels)*s.labels)
}

// minimise moves coefficients, by feature and label, to the least mean
// negative log-likelihood plus penalty/2 times the sum of their squares.
func (s *stackFit) minimise(x []float64, penalty float64) {
	score := make([]float64, s.labels)
	lbfgs(x, func(x, grad []float64) float64 {
		clear(grad)
		loss := 0.0
		for i, v := range x {
			loss += penalty / 2 * v * v
			grad[i] = penalty * v
		}
		for _, row := range s.rows {
			copy(score, row.offset)
			for _, f := range row.features {
				add(score, f.Value, x[f.Index*s.labels:(f.Index+1)*s.labels])
			}
			all := logSum(score)
			loss += row.weight * (all - score[row.truth])
			for c := range score {
				score[c] = row.weight * math.Exp(score[c]-all)
			}
			score[row.truth] -= row.weight
			for _, f := range row.features {
				add(grad[f.Index*s.labels:(f.Index+1)*s.labels], f.Value, score)
			}
		}
		return loss
	}, 1e-5, 100)
}

// stack makes one of a pool and coefficients; each is rounded to what the data
// can tell, so that its package stays small.
func (s *stackFit) stack(pool reduce.Pool, labels []string, x []float64) (*reduce.Stack, error) {
	rows := make([][]float64, 0, len(x)/s.labels)
	for from := 0; from < len(x); from += s.labels {
		row := make([]float64, s.labels)
		for c, v := range x[from : from+s.labels] {
			row[c] = round(v, 4)
		}
		rows = append(rows, row)
	}
	return reduce.NewStack(pool, labels, rows)
}

// round keeps some digits after the point.
func round(x float64, digits int) float64 {
	scale := math.Pow(10, float64(digits))
	return math.Round(x*scale) / scale
}
