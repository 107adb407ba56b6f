package score

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Resamples is how many bootstrap samples [Bootstrap] draws.
const Resamples = 1000

// Bootstrapped holds the 95 % intervals that [Bootstrap] finds.
type Bootstrapped struct{ MacroF1, ECE Interval }

// Bootstrap returns bias-corrected percentile intervals (Efron 1981) from
// [Resamples] samples drawn with replacement. The correction matters for the
// ECE, whose resamples are all biased upwards: a plain percentile interval
// can lie above its own estimate. The same answers and seed give the same
// intervals; fewer than two answers give [0, 1].
func Bootstrap(answers []Answer, seed uint64) Bootstrapped {
	n := len(answers)
	if n < 2 {
		return Bootstrapped{Interval{0, 1}, Interval{0, 1}}
	}
	// Sorted once: a resample is how often each answer was drawn, walked in
	// this order.
	sorted := byConfidence(answers)
	t := newTally(answers)
	var eces []float64
	f1s := resample(n, seed, func(drawn []int) float64 {
		t.reset()
		for j, times := range drawn {
			if times > 0 {
				t.add(sorted[j], float64(times))
			}
		}
		eces = append(eces, debiased(resampledBins(sorted, drawn)))
		return t.macroF1()
	})
	return Bootstrapped{
		MacroF1: corrected(f1s, MacroF1(answers)),
		ECE:     corrected(eces, debiased(Reliability(answers, Bins))),
	}
}

// resample computes a statistic of [Resamples] samples of n answers, given how
// often each was drawn.
func resample(n int, seed uint64, of func(drawn []int) float64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 0x61_69_73_6c_65))
	drawn := make([]int, n)
	out := make([]float64, Resamples)
	for i := range out {
		clear(drawn)
		for range n {
			drawn[rng.IntN(n)]++
		}
		out[i] = of(drawn)
	}
	return out
}

// resampledBins is Reliability over a multiset of sorted answers.
func resampledBins(sorted []Answer, drawn []int) []Bin {
	n := len(sorted) // as many are drawn as there are
	bins := make([]Bin, min(Bins, n))
	b, seen := 0, 0
	for i, times := range drawn {
		for times > 0 {
			for seen >= (b+1)*n/len(bins) {
				b++
			}
			take := min(times, (b+1)*n/len(bins)-seen)
			bins[b].N += take
			bins[b].Confidence += float64(take) * sorted[i].Confidence
			if sorted[i].Right() {
				bins[b].Accuracy += float64(take)
			}
			times -= take
			seen += take
		}
	}
	for i := range bins {
		bins[i].Confidence /= float64(bins[i].N)
		bins[i].Accuracy /= float64(bins[i].N)
	}
	return bins
}

// corrected returns the bias-corrected percentile interval, cut to [0, 1] and
// widened, where need be, to hold the estimate.
func corrected(samples []float64, estimate float64) Interval {
	slices.Sort(samples)
	below := 0.0
	for _, s := range samples {
		switch {
		case s < estimate:
			below++
		case s == estimate: // a tie is half below: a constant statistic has no bias
			below += 0.5
		}
	}
	N := float64(len(samples))
	// No sample at all on one side says only that the share is below 1/(2N).
	share := min(max(below/N, 0.5/N), 1-0.5/N)
	z0 := math.Sqrt2 * math.Erfinv(2*share-1)
	at := func(z float64) float64 {
		q := 0.5 * math.Erfc(-(2*z0+z)/math.Sqrt2)
		return samples[min(int(q*N), len(samples)-1)]
	}
	const z = 1.959963984540054
	unit := func(x float64) float64 { return min(1, max(0, x)) }
	return Interval{unit(min(at(-z), estimate)), unit(max(at(z), estimate))}
}
