package main

import (
	"math"
	"math/rand/v2"
)

// Bag is one product's features: row ids of the table and their weights.
type Bag struct {
	IDs     []int32
	Weights []float32
}

// Linear is multinomial logistic regression over bags of hashed features:
// probabilities are the softmax of the bias plus the weighted sum of rows.
type Linear struct {
	Labels int
	Table  []float32 // [buckets][labels]
	Bias   []float32
}

// NewLinear returns a model that finds all labels equally likely.
func NewLinear(buckets, labels int) *Linear {
	return &Linear{labels, make([]float32, buckets*labels), make([]float32, labels)}
}

// Probabilities writes the label probabilities of the bag to out.
func (m *Linear) Probabilities(out []float32, b Bag) {
	copy(out, m.Bias)
	for i, id := range b.IDs {
		row, w := m.row(id), b.Weights[i]
		for c := range out {
			out[c] += w * row[c]
		}
	}
	most, sum := out[0], float32(0)
	for _, v := range out {
		most = max(most, v)
	}
	for c, v := range out {
		out[c] = float32(math.Exp(float64(v - most)))
		sum += out[c]
	}
	for c := range out {
		out[c] /= sum
	}
}

func (m *Linear) row(id int32) []float32 {
	at := int(id) * m.Labels
	return m.Table[at : at+m.Labels]
}

// Training is how to train.
type Training struct {
	Epochs    int
	Rate      float32 // of the first step; it falls linearly to 0
	Decay     float32 // L2, applied to a row whenever it is used
	Smoothing float32 // of the labels
	Seed      uint64
}

// Train runs stochastic gradient descent over n examples, visited in a new
// order each epoch. example gives the i-th one's features and label, drawn
// anew (with rnd) at each visit. It is deterministic: one goroutine, one seed.
func (m *Linear) Train(t Training, n int, example func(i int, rnd *rand.Rand) (Bag, int), progress func(epoch int, loss float64)) {
	rnd := rand.New(rand.NewPCG(t.Seed, 0))
	p, steps := make([]float32, m.Labels), 0
	for epoch := range t.Epochs {
		loss := 0.0
		for _, i := range rnd.Perm(n) {
			b, label := example(i, rnd)
			rate := t.Rate * (1 - float32(steps)/float32(n*t.Epochs))
			steps++
			m.Probabilities(p, b)
			loss -= math.Log(max(float64(p[label]), 1e-12))
			for c := range p {
				p[c] -= t.Smoothing / float32(m.Labels)
			}
			p[label] -= 1 - t.Smoothing
			shrink := 1 - rate*t.Decay
			for k, id := range b.IDs {
				row, step := m.row(id), rate*b.Weights[k]
				for c := range row {
					row[c] = row[c]*shrink - step*p[c]
				}
			}
			for c := range p {
				m.Bias[c] -= 0.1 * rate * p[c]
			}
		}
		progress(epoch+1, loss/float64(n))
	}
}

// average returns the model whose logits are the mean of the models'.
func average(models []*Linear) *Linear {
	mean := &Linear{models[0].Labels, make([]float32, len(models[0].Table)), make([]float32, models[0].Labels)}
	share := 1 / float32(len(models))
	for _, m := range models {
		for i, v := range m.Table {
			mean.Table[i] += share * v
		}
		for i, v := range m.Bias {
			mean.Bias[i] += share * v
		}
	}
	return mean
}
