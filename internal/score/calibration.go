package score

import (
	"cmp"
	"math"
	"slices"
)

// Bins is how many bins of equal mass [ECE] uses: the literature's 15.
const Bins = 15

// Bin is one bin of a reliability diagram.
type Bin struct {
	N          int     `json:"n"`
	Confidence float64 `json:"confidence"` // mean
	Accuracy   float64 `json:"accuracy"`
}

// Reliability sorts the answers by confidence and cuts them into at most the
// given number of bins whose sizes differ by one at most.
func Reliability(answers []Answer, bins int) []Bin {
	sorted := byConfidence(answers)
	bins = min(bins, len(sorted))
	out := make([]Bin, 0, bins)
	for b := range bins {
		part := sorted[b*len(sorted)/bins : (b+1)*len(sorted)/bins]
		bin := Bin{N: len(part), Accuracy: Accuracy(part)}
		for _, a := range part {
			bin.Confidence += a.Confidence / float64(len(part))
		}
		out = append(out, bin)
	}
	return out
}

// ECE returns the expected calibration error: the mean over [Bins] bins of
// equal mass of |accuracy - confidence|, less the bias that this estimator
// has even for a perfectly calibrated model, because a bin's accuracy is
// noisy (Kumar, Liang, Ma: Verified Uncertainty Calibration, 2019, the
// debiased estimator for p = 1, with its expectation in closed form). It is
// never below 0.
func ECE(answers []Answer) float64 {
	return max(0, debiased(Reliability(answers, Bins)))
}

// debiased may be below 0; the bootstrap needs it so.
func debiased(bins []Bin) float64 {
	total, ece := 0, 0.0
	for _, b := range bins {
		total += b.N
		gap := b.Accuracy - b.Confidence
		sd := math.Sqrt(b.Accuracy * (1 - b.Accuracy) / float64(b.N))
		bias := foldedMean(gap, sd) - math.Abs(gap)
		ece += float64(b.N) * (math.Abs(gap) - bias)
	}
	if total == 0 {
		return 0
	}
	return ece / float64(total)
}

// foldedMean is the mean of |X| where X is normal with the given mean and
// standard deviation.
func foldedMean(mean, sd float64) float64 {
	if sd == 0 {
		return math.Abs(mean)
	}
	z := mean / sd
	return sd*math.Sqrt(2/math.Pi)*math.Exp(-z*z/2) + mean*math.Erf(z/math.Sqrt2)
}

func byConfidence(answers []Answer) []Answer {
	sorted := slices.Clone(answers)
	slices.SortStableFunc(sorted, func(a, b Answer) int { return cmp.Compare(a.Confidence, b.Confidence) })
	return sorted
}
