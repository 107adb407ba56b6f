// Package score says how good answers are: accuracy, macro-F1, the expected
// calibration error (ECE) and the coverage at a precision, each with a 95 %
// interval; and how much better one way to answer is than another.
//
// Everything here is a pure function of its arguments; the bootstrap's
// randomness comes from a seed, so that a figure can be computed again. It
// knows nothing of products, models or files.
package score

import (
	"math"
	"slices"
)

// Answer is one classification: what is true, what was said, and how sure.
// Truth and Said are indices of classes, >= 0; Said may be a class that is
// never true.
type Answer struct {
	Truth, Said int32
	Confidence  float64 // in [0, 1], of Said
}

// Right reports whether what was said is true.
func (a Answer) Right() bool { return a.Truth == a.Said }

// Interval is a 95 % interval.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Accuracy returns the share of right answers, 0 for none at all.
func Accuracy(answers []Answer) float64 {
	if len(answers) == 0 {
		return 0
	}
	return float64(right(answers)) / float64(len(answers))
}

func right(answers []Answer) int {
	n := 0
	for _, a := range answers {
		if a.Right() {
			n++
		}
	}
	return n
}

// Wilson returns the 95 % interval of a share k of n (E. B. Wilson 1927),
// which unlike the bootstrap stays honest where k is 0 or n. For n = 0 it is
// [0, 1].
func Wilson(k, n int) Interval {
	if n == 0 {
		return Interval{0, 1}
	}
	const z = 1.959963984540054
	N := float64(n)
	p := float64(k) / N
	centre := (p + z*z/(2*N)) / (1 + z*z/N)
	half := z / (1 + z*z/N) * math.Sqrt(p*(1-p)/N+z*z/(4*N*N))
	return Interval{max(0, min(p, centre-half)), min(1, max(p, centre+half))}
}

// MacroF1 returns the mean F1 over the classes that occur, as the truth or as
// an answer: what scikit-learn calls f1_score(average="macro"). A class that
// was said and never true counts with 0.
func MacroF1(answers []Answer) float64 {
	t := newTally(answers)
	for _, a := range answers {
		t.add(a, 1)
	}
	return t.macroF1()
}

// tally counts per class. Classes are few; the slices are dense.
type tally struct{ hit, truth, said []float64 }

func newTally(answers []Answer) tally {
	classes := int32(0)
	for _, a := range answers {
		classes = max(classes, a.Truth+1, a.Said+1)
	}
	return tally{make([]float64, classes), make([]float64, classes), make([]float64, classes)}
}

func (t tally) add(a Answer, times float64) {
	t.truth[a.Truth] += times
	t.said[a.Said] += times
	if a.Right() {
		t.hit[a.Truth] += times
	}
}

func (t tally) reset() {
	clear(t.hit)
	clear(t.truth)
	clear(t.said)
}

func (t tally) macroF1() float64 {
	sum, n := 0.0, 0
	for c := range t.truth {
		if d := t.truth[c] + t.said[c]; d > 0 {
			sum += 2 * t.hit[c] / d
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

// Confusion is how often one class was taken for another.
type Confusion struct {
	Truth, Said int32
	Count       int
}

// Confusions returns the wrong pairs, most frequent first, ties by class.
func Confusions(answers []Answer) []Confusion {
	count := map[[2]int32]int{}
	for _, a := range answers {
		if !a.Right() {
			count[[2]int32{a.Truth, a.Said}]++
		}
	}
	list := make([]Confusion, 0, len(count))
	for pair, n := range count {
		list = append(list, Confusion{pair[0], pair[1], n})
	}
	slices.SortFunc(list, func(a, b Confusion) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		if a.Truth != b.Truth {
			return int(a.Truth - b.Truth)
		}
		return int(a.Said - b.Said)
	})
	return list
}
