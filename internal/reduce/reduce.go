// Package reduce makes one probability distribution of several: what the
// legs of a composition said of one product becomes the composition's answer.
//
// [Pool] multiplies, [LinPool] averages, [Vote] counts, [Stack] is a model
// fitted to the legs' answers; [Calibrated] corrects how sure any of them is,
// by which legs were present.
//
// All are pure, so that what fits their numbers (over dense vectors, Fuse)
// runs the very function that serves (Answers).
//
// Guarantees: a result sums to one and holds no NaN, whatever the legs
// answered; it depends on neither the order of the legs (with their weights)
// nor that of their labels; ties are broken by label.
package reduce

import (
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
	if err := validWeights(p.Weights); err != nil {
		return err
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

// Answers is [Pool.Fuse] over the labels that any leg has, one list per weight.
func (p Pool) Answers(legs [][]prediction.Prediction) []prediction.Prediction {
	return answers(legs, func(out, free []float64, legs [][]float64, labels []string) {
		p.Fuse(out, legs, p.shares(free, labels))
	})
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

// Temper writes p^(1/t), renormalised, to out: what a temperature does to
// probabilities (C. Guo et al., "On Calibration of Modern Neural Networks",
// ICML 2017, section 4.2). It never changes their order.
func Temper(out, p []float64, t float64) {
	for i, v := range p {
		out[i] = math.Log(max(v, 1e-30)) / t
	}
	softmax(out[:len(p)])
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
