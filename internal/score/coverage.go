package score

import "slices"

// Point says what answering only what is sure enough gives: of all answers a
// share Coverage has at least the confidence Threshold, and of those a share
// Risk is wrong.
type Point struct {
	Threshold float64 `json:"threshold"`
	Coverage  float64 `json:"coverage"`
	Risk      float64 `json:"risk"`
}

// RiskCurve returns the points of every confidence that occurs, the surest
// first (R. El-Yaniv and Y. Wiener, "On the Foundations of Noise-free
// Selective Classification", JMLR 11, 2010): the last one is of all answers.
// Answers that are equally sure are not told apart, so they come together.
func RiskCurve(answers []Answer) []Point {
	sorted := byConfidence(answers)
	slices.Reverse(sorted)
	var out []Point
	wrong := 0
	for i, a := range sorted {
		if !a.Right() {
			wrong++
		}
		if i+1 == len(sorted) || sorted[i+1].Confidence != a.Confidence {
			out = append(out, Point{a.Confidence, float64(i+1) / float64(len(sorted)), float64(wrong) / float64(i+1)})
		}
	}
	return out
}

// Coverage is the largest share of answers that a threshold on their
// confidence lets through so that at least a share Precision of them is right.
type Coverage struct {
	Precision float64 `json:"precision"`
	Share     float64 `json:"share"`
	// Threshold is the confidence from which on answers count; 1 where no
	// threshold gives the precision and the share is 0.
	Threshold float64  `json:"threshold"`
	Interval  Interval `json:"interval"` // of the share
}

// CoverageAt finds the coverage at a precision in [0, 1]. The threshold is
// chosen on these answers, so on others the precision may be somewhat less.
// The interval is a bias-corrected percentile one, as that of [Bootstrap],
// each resample with a threshold of its own.
func CoverageAt(answers []Answer, precision float64, seed uint64) Coverage {
	c := Coverage{Precision: precision, Threshold: 1, Interval: Interval{0, 1}}
	for _, p := range RiskCurve(answers) {
		if 1-p.Risk >= precision-1e-12 {
			c.Share, c.Threshold = p.Coverage, p.Threshold
		}
	}
	if len(answers) < 2 {
		return c
	}
	sorted := byConfidence(answers)
	shares := resample(len(sorted), seed, func(drawn []int) float64 { return covered(sorted, drawn, precision) })
	c.Interval = corrected(shares, c.Share)
	return c
}

// covered is the share of a multiset of sorted answers that the best threshold
// lets through.
func covered(sorted []Answer, drawn []int, precision float64) float64 {
	right, n, best := 0, 0, 0
	for i := len(sorted) - 1; i >= 0; i-- {
		n += drawn[i]
		if sorted[i].Right() {
			right += drawn[i]
		}
		last := i == 0 || sorted[i-1].Confidence != sorted[i].Confidence
		if last && float64(right) >= (precision-1e-12)*float64(n) {
			best = n
		}
	}
	return float64(best) / float64(len(sorted)) // as many are drawn as there are
}
