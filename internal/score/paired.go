package score

import "math"

// Paired compares two ways to answer the same products.
type Paired struct {
	N     int `json:"n"`
	OnlyA int `json:"onlyA"` // right by A alone
	OnlyB int `json:"onlyB"`
	// Difference is B's accuracy less A's.
	Difference float64  `json:"difference"`
	Interval   Interval `json:"interval"` // of the difference
	P          float64  `json:"p"`        // of McNemar's exact test that both are equally often right
}

// Pair compares two lists of answers to the same products, in the same order.
//
// The interval is the adjusted Wald one for paired proportions, with half a
// product added to each of the four cells (A. Agresti and Y. Min, "Simple
// improved confidence intervals for comparing matched proportions",
// Statistics in Medicine 24, 2005, 729-740). P is the two-sided binomial
// probability of a split of the products that one alone got right which is as
// uneven as this one (Q. McNemar, Psychometrika 12, 1947, 153-157, in its
// exact form).
func Pair(a, b []Answer) Paired {
	p := Paired{N: len(a), Interval: Interval{-1, 1}, P: 1}
	for i := range a {
		switch x, y := a[i].Right(), b[i].Right(); {
		case x && !y:
			p.OnlyA++
		case y && !x:
			p.OnlyB++
		}
	}
	if p.N == 0 {
		return p
	}
	n, d := float64(p.N), float64(p.OnlyB-p.OnlyA)
	p.Difference = d / n
	const z = 1.959963984540054
	centre := d / (n + 2)
	half := z * math.Sqrt(float64(p.OnlyA+p.OnlyB)+1-d*d/(n+2)) / (n + 2)
	p.Interval = Interval{max(-1, min(p.Difference, centre-half)), min(1, max(p.Difference, centre+half))}
	p.P = signTest(min(p.OnlyA, p.OnlyB), p.OnlyA+p.OnlyB)
	return p
}

// signTest is the chance that n tosses of a fair coin fall as unevenly as k to
// n-k, or more so, for k <= n/2.
func signTest(k, n int) float64 {
	all, _ := math.Lgamma(float64(n + 1))
	sum := 0.0
	for i := range k + 1 {
		x, _ := math.Lgamma(float64(i + 1))
		y, _ := math.Lgamma(float64(n - i + 1))
		sum += math.Exp(all - x - y - float64(n)*math.Ln2)
	}
	return min(1, 2*sum)
}
