package reduce

import (
	"fmt"

	"aisle.dev/aisle/internal/prediction"
)

// LinPool is the linear opinion pool: with w_i the weights, P the legs
// present, W_P the sum of their weights and q_i leg i's probabilities,
//
//	p(y) = Σ_{i in P} w_i·q_i(y) / W_P
//
// (M. Stone, "The Opinion Pool", Annals of Mathematical Statistics 32(4),
// 1961, 1339-1342). It is the answer of a leg drawn by weight, so it is never
// surer than the surest leg: legs that agree do not add up, and one that is
// wrong vetoes nothing. Where the legs differ it is less sure than it is
// right (R. Ranjan and T. Gneiting, "Combining probability forecasts", JRSS B
// 72(1), 2010, 71-91), so it wants a [Calibrated] around it.
//
// Legs that say the same answer as one of them, whatever the weights. A
// missing leg is as one that the pool never had.
type LinPool struct {
	Weights []float64 // one per leg, each in (0, MaxWeight]
}

// Validate says which weight is out of bounds.
func (l LinPool) Validate() error { return validWeights(l.Weights) }

// Fuse pools as [Pool.Fuse] does.
func (l LinPool) Fuse(out []float64, legs [][]float64) {
	clear(out)
	for i, leg := range legs {
		sum := 0.0
		for _, q := range leg {
			sum += floored(q)
		}
		for y, q := range leg {
			out[y] += l.Weights[i] * floored(q) / sum
		}
	}
	normalise(out)
}

// Answers is [LinPool.Fuse] over the labels that any leg has, one list per weight.
func (l LinPool) Answers(legs [][]prediction.Prediction) []prediction.Prediction {
	return answers(legs, func(out, _ []float64, legs [][]float64, _ []string) { l.Fuse(out, legs) })
}

// Vote is the weighted plurality vote: each leg present gives its weight to
// its likeliest label, in even parts if several are equally likely. With V(y)
// the label's share of all weight given, and L(y) the [LinPool] of the same
// legs and weights,
//
//	p(y) = (1 - Floor)·V(y) + Floor·L(y)
//
// so a tie (shares less than [Floor] apart) goes to the label with the higher
// average probability; if these are the same too, the first by name stands
// first. A share of votes is no probability: put a [Calibrated] around it, or
// use it as the baseline that it is. Weights log(a·(K-1)/(1-a)), of a leg
// that is right in a share a of cases over K labels, are the best ones for
// legs that err independently and evenly (S. Nitzan and J. Paroush, "Optimal
// Decision Rules in Uncertain Dichotomous Choice Situations", International
// Economic Review 23(2), 1982, 289-297, for K = 2).
//
// Legs that say the same answer as one of them, whatever the weights. A
// missing leg is as one that was never asked.
type Vote struct {
	Weights []float64 // one per leg, each in (0, MaxWeight]
}

// Validate says which weight is out of bounds.
func (v Vote) Validate() error { return validWeights(v.Weights) }

// Fuse votes as [Pool.Fuse] pools.
func (v Vote) Fuse(out []float64, legs [][]float64) {
	LinPool(v).Fuse(out, legs)
	var all float64
	for i, leg := range legs {
		if leg != nil {
			all += v.Weights[i]
		}
	}
	if all == 0 {
		return
	}
	for y := range out {
		out[y] *= Floor
	}
	for i, leg := range legs {
		top, shared := 0.0, 0
		for _, q := range leg {
			switch q = floored(q); {
			case q > top:
				top, shared = q, 1
			case q == top:
				shared++
			}
		}
		for y, q := range leg {
			if floored(q) == top {
				out[y] += (1 - Floor) * v.Weights[i] / all / float64(shared)
			}
		}
	}
}

// Answers is [Vote.Fuse] over the labels that any leg has, one list per weight.
func (v Vote) Answers(legs [][]prediction.Prediction) []prediction.Prediction {
	return answers(legs, func(out, _ []float64, legs [][]float64, _ []string) { v.Fuse(out, legs) })
}

func validWeights(weights []float64) error {
	if len(weights) == 0 {
		return fmt.Errorf("there are no weights")
	}
	for i, w := range weights {
		if !(w > 0 && w <= MaxWeight) {
			return fmt.Errorf("weight %d is %v: want a number above 0, at most %d", i, w, MaxWeight)
		}
	}
	return nil
}

// normalise makes values that are not negative sum to one; zeros become even.
func normalise(p []float64) {
	var sum float64
	for _, v := range p {
		sum += v
	}
	for y := range p {
		if sum > 0 {
			p[y] /= sum
		} else {
			p[y] = 1 / float64(len(p))
		}
	}
}
