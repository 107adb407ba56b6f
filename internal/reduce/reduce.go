// Package reduce makes one probability distribution of several: what the
// legs of a composition said of one product becomes the composition's answer.
//
// It is pure, so that what fits the weights, the temperature and the prior's
// weight (over dense vectors, [Pool.Fuse]) runs the very function that serves
// ([Pool.Answers]).
//
// Guarantees: a result sums to one and holds no NaN; it depends on neither
// the order of the legs nor that of their labels; ties are broken by label.
package reduce

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"aisle.dev/aisle/internal/prediction"
)

// Floor is the least probability that a leg gives any label. A leg that were
// certain that a label is impossible would veto it whatever the others say.
const Floor = 1e-6

// Pool is a logarithmic opinion pool, from which the labels' prior may be
// divided out, followed by one temperature.
//
// With w_i the weights, W their sum over all legs of the composition, P the
// legs present (those that answered) and W_P the sum of their weights,
//
//	p(y) = Π_{i in P} q_i(y)^(k·w_i/W_P) / π(y)^u / normaliser
//
// q_i is leg i's calibrated probability, floored at [Floor]. The exponents
// w_i/W_P sum to one: that is the pool which is externally Bayesian
// (C. Genest and J. V. Zidek, "Combining Probability Distributions: A
// Critique and an Annotated Bibliography", Statistical Science 1(1), 1986,
// 114-135, section 2). k is how much sharper than that the answer is, since
// legs that see different things agree by more than one of them alone:
//
//	k = W/T                                                 all legs present
//	k = 1 + (W/T - 1) · (W_P - max_P w) / (W - max w)       some missing
//
// So with all legs present p(y) is Π q_i(y)^(w_i/T), as the weights and the
// temperature T were fitted. One leg alone has k = 1 and answers with its
// own probabilities, which its package has calibrated: renormalising its
// weight to W would make it surer because others are silent. In between, k
// grows with the weight that the others add to the strongest leg.
//
// π(y) is how frequent label y is where the legs were trained. Each leg's
// answer holds it, so a product of two holds it twice and is biased towards
// what is frequent. As in naive Bayes, legs that are independent given the
// label want p(y|a,b) ∝ p(y|a)·p(y|b)/π(y). Legs are not independent, so how
// much of π is divided out is fitted too, as the prior's weight v:
//
//	u = v/T                                          all legs present
//	u = v/T · (W_P - max_P w) / (W - max w)          some missing
//
// so one leg alone, which holds the prior once, keeps it.
type Pool struct {
	Weights     []float64          // one per leg, each in (0, MaxWeight]
	Temperature float64            // in [MinTemperature, MaxTemperature]
	PriorWeight float64            // in [0, MaxWeight]; 0 divides nothing out
	Prior       map[string]float64 // for Answers: each label's share; a label that it lacks has 1/len(Prior)
}

// Bounds of a pool's numbers, far outside of what a fit gives. They keep all
// arithmetic finite.
const (
	MaxWeight      = 100
	MinTemperature = 0.01
	MaxTemperature = 100
)

// Validate says which number is out of bounds.
func (p Pool) Validate() error {
	if len(p.Weights) == 0 {
		return fmt.Errorf("there are no weights")
	}
	for i, w := range p.Weights {
		if !(w > 0 && w <= MaxWeight) {
			return fmt.Errorf("weight %d is %v: want a number above 0, at most %d", i, w, MaxWeight)
		}
	}
	if !(p.Temperature >= MinTemperature && p.Temperature <= MaxTemperature) {
		return fmt.Errorf("temperature is %v: want a number from %v to %d", p.Temperature, MinTemperature, MaxTemperature)
	}
	if !(p.PriorWeight >= 0 && p.PriorWeight <= MaxWeight) {
		return fmt.Errorf("prior's weight is %v: want a number from 0 to %d", p.PriorWeight, MaxWeight)
	}
	return nil
}

// exponents gives k·w_i/W_P for the legs present, 0 for the others, and the
// prior's u.
func (p Pool) exponents(present func(int) bool) (e []float64, u float64) {
	e = make([]float64, len(p.Weights))
	var all, allMax, here, hereMax float64
	missing := false
	for i, w := range p.Weights {
		all, allMax = all+w, max(allMax, w)
		if !present(i) {
			missing = true
			continue
		}
		here, hereMax = here+w, max(hereMax, w)
		e[i] = w
	}
	if here == 0 {
		return e, 0
	}
	k, u := all/p.Temperature, p.PriorWeight/p.Temperature
	if missing {
		part := (here - hereMax) / (all - allMax)
		k, u = 1+(k-1)*part, u*part
	}
	for i := range e {
		e[i] *= k / here
	}
	return e, u
}

// Fuse pools legs whose vectors name the same labels in the same order: one
// vector per weight, nil for a leg that is missing. prior holds the labels'
// shares in that order; nil divides nothing out. The result is written to
// out, of the vectors' length. With no leg present it is uniform.
func (p Pool) Fuse(out []float64, legs [][]float64, prior []float64) {
	clear(out)
	e, u := p.exponents(func(i int) bool { return legs[i] != nil })
	for i, leg := range legs {
		if leg == nil {
			continue
		}
		for y, q := range leg {
			out[y] += e[i] * math.Log(floored(q))
		}
	}
	if u > 0 {
		for y, share := range prior {
			out[y] -= u * math.Log(floored(share))
		}
	}
	softmax(out)
}

// Answers pools what legs answered: one list per weight, empty for a leg
// that is missing, each label at most once in a list. The result is ordered
// by falling probability.
//
// Its labels are the union of the legs'. A leg whose probabilities sum to
// less than one leaves a rest, which is shared evenly among the labels of
// the union that it does not have, floored like any other value.
func (p Pool) Answers(legs [][]prediction.Prediction) []prediction.Prediction {
	var labels []string
	index := make(map[string]int)
	for _, leg := range legs {
		if len(labels) == 0 {
			labels = make([]string, 0, len(leg))
		}
		for _, q := range leg {
			if _, ok := index[q.Label]; !ok {
				index[q.Label] = len(labels)
				labels = append(labels, q.Label)
			}
		}
	}
	n := len(labels)
	dense := make([][]float64, len(legs))
	vectors := make([]float64, (len(legs)+2)*n) // one a leg, the prior's, the result
	vector := func(i int) []float64 { return vectors[i*n : (i+1)*n] }
	for i, leg := range legs {
		if len(leg) == 0 {
			continue
		}
		rest := 1.0
		for _, q := range leg {
			rest -= q.Probability
		}
		d := vector(i)
		if len(leg) < n {
			share := rest / float64(n-len(leg))
			for y := range d {
				d[y] = share
			}
		}
		for _, q := range leg {
			d[index[q.Label]] = q.Probability
		}
		dense[i] = d
	}
	fused := vector(len(legs) + 1)
	p.Fuse(fused, dense, p.shares(vector(len(legs)), labels))
	out := make([]prediction.Prediction, n)
	for y, label := range labels {
		out[y] = prediction.Prediction{Label: label, Probability: fused[y]}
	}
	slices.SortFunc(out, func(a, b prediction.Prediction) int {
		return cmp.Or(cmp.Compare(b.Probability, a.Probability), cmp.Compare(a.Label, b.Label))
	})
	return out
}

// shares writes the labels' shares of the prior to out; nil when there is none.
func (p Pool) shares(out []float64, labels []string) []float64 {
	if p.PriorWeight == 0 || len(p.Prior) == 0 {
		return nil
	}
	for y, label := range labels {
		share, ok := p.Prior[label]
		if !ok {
			share = 1 / float64(len(p.Prior))
		}
		out[y] = share
	}
	return out
}

// floored brings q into [Floor, 1]; NaN becomes Floor.
func floored(q float64) float64 {
	if !(q > Floor) {
		return Floor
	}
	return min(q, 1)
}

// softmax normalises logarithms in place.
func softmax(s []float64) {
	if len(s) == 0 {
		return
	}
	top := slices.Max(s)
	var sum float64
	for i, v := range s {
		s[i] = math.Exp(v - top)
		sum += s[i]
	}
	for i := range s {
		s[i] /= sum
	}
}
