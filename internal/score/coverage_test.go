package score_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/score"
)

func TestRiskCurve(t *testing.T) {
	got := score.RiskCurve([]score.Answer{answer(0, 0, .9), answer(0, 1, .5), answer(1, 1, .5), answer(1, 1, .2)})
	want := []score.Point{{Threshold: .9, Coverage: .25}, {Threshold: .5, Coverage: .75, Risk: 1. / 3}, {Threshold: .2, Coverage: 1, Risk: .25}}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCoverageAt(t *testing.T) {
	// Right, right, wrong, right, right | from the surest on.
	answers := []score.Answer{answer(0, 0, .9), answer(0, 0, .8), answer(0, 1, .7), answer(0, 0, .6), answer(0, 0, .5)}
	for _, c := range []struct {
		name                        string
		precision, share, threshold float64
	}{
		{"all are good enough", 0.8, 1, .5},
		{"a later right answer makes up for a wrong one", 0.75, 1, .5},
		{"the surest alone", 0.95, 0.4, .8},
		{"perfect", 1, 0.4, .8},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := score.CoverageAt(answers, c.precision, 1)
			if got.Share != c.share || got.Threshold != c.threshold {
				t.Errorf("share %v from %v on, want %v from %v on", got.Share, got.Threshold, c.share, c.threshold)
			}
		})
	}
	never := score.CoverageAt([]score.Answer{answer(0, 1, .9), answer(0, 0, .1)}, 0.95, 1)
	if never.Share != 0 || never.Threshold != 1 {
		t.Errorf("the surest is wrong: share %v from %v on, want none", never.Share, never.Threshold)
	}
}

func TestCoverageProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := answers.Draw(t, "answers")
		low := score.CoverageAt(a, 0.5, 1)
		high := score.CoverageAt(a, 0.9, 1)
		if high.Share > low.Share {
			t.Fatalf("coverage %v at precision 0.9, %v at 0.5", high.Share, low.Share)
		}
		if low.Share < low.Interval.Low || low.Share > low.Interval.High {
			t.Fatalf("%v does not hold %v", low.Interval, low.Share)
		}
		n, right := 0, 0
		for _, x := range a {
			if low.Share > 0 && x.Confidence >= low.Threshold {
				n++
				if x.Right() {
					right++
				}
			}
		}
		if float64(n) != math.Round(low.Share*float64(len(a))) || 2*right < n {
			t.Fatalf("%d of %d answers are let through, %d are right; the share is %v", n, len(a), right, low.Share)
		}
		curve := score.RiskCurve(a)
		if last := curve[len(curve)-1]; last.Coverage != 1 || math.Abs(1-last.Risk-score.Accuracy(a)) > 1e-12 {
			t.Fatalf("the last point is %+v, the accuracy %v", last, score.Accuracy(a))
		}
	})
}

func TestPair(t *testing.T) {
	right, wrong := answer(0, 0, 1), answer(0, 1, 1)
	list := func(n int, of score.Answer) (out []score.Answer) {
		for range n {
			out = append(out, of)
		}
		return out
	}
	a := append(append(list(80, right), list(12, wrong)...), list(8, right)...)
	b := append(list(92, right), list(8, wrong)...)
	got := score.Pair(a, b)
	// 12 to 8 tosses: twice the binomial's tail, 0.503445; Agresti and Min: 4/102 ± 1.96·√(21 - 16/102)/102.
	want := score.Paired{N: 100, OnlyA: 8, OnlyB: 12, Difference: 0.04, Interval: score.Interval{Low: -0.048511, High: 0.126942}, P: 0.503445}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-5)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p := score.Pair(a, a); p.Difference != 0 || p.P != 1 {
		t.Errorf("with itself: %+v", p)
	}
	if p := score.Pair(nil, nil); p.Interval != (score.Interval{Low: -1, High: 1}) {
		t.Errorf("of nothing: %+v", p)
	}
}
