package score_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/score"
)

func answer(truth, said int32, confidence float64) score.Answer {
	return score.Answer{Truth: truth, Said: said, Confidence: confidence}
}

// Class 2 does not occur; class 3 was said once and is never true.
var small = []score.Answer{
	answer(0, 0, .9), answer(0, 0, .8), answer(0, 1, .5),
	answer(1, 1, .7), answer(1, 3, .4), answer(0, 1, .6),
}

func TestSmall(t *testing.T) {
	// class 0: truth 4, said 2, hit 2: 4/6; class 1: truth 2, said 3, hit 1: 2/5; class 3: 0.
	if got, want := score.MacroF1(small), (4.0/6+2.0/5+0)/3; math.Abs(got-want) > 1e-12 {
		t.Errorf("MacroF1 = %v, want %v", got, want)
	}
	if got, want := score.Accuracy(small), 0.5; got != want {
		t.Errorf("Accuracy = %v, want %v", got, want)
	}
	want := []score.Confusion{{Truth: 0, Said: 1, Count: 2}, {Truth: 1, Said: 3, Count: 1}}
	if diff := cmp.Diff(want, score.Confusions(small)); diff != "" {
		t.Errorf("Confusions (-want +got):\n%s", diff)
	}
}

func TestEmpty(t *testing.T) {
	if a, f, e := score.Accuracy(nil), score.MacroF1(nil), score.ECE(nil); a != 0 || f != 0 || e != 0 {
		t.Errorf("of nothing: accuracy %v, macro-F1 %v, ECE %v, want zeros", a, f, e)
	}
	if got := score.Bootstrap(nil, 1); got.ECE != (score.Interval{High: 1}) {
		t.Errorf("Bootstrap(nothing) = %v, want [0, 1]", got)
	}
	if len(score.Reliability(nil, 15)) != 0 {
		t.Error("Reliability(nothing) has bins")
	}
}

// By the formula in exact arithmetic, and (5 of 10) the textbook's example.
func TestWilson(t *testing.T) {
	for _, c := range []struct {
		name      string
		k, n      int
		low, high float64
	}{
		{"half of ten", 5, 10, 0.236593, 0.763407},
		{"all of ten", 10, 10, 0.722467, 1},
		{"none of ten", 0, 10, 0, 0.277533},
		{"980 of 1000", 980, 1000, 0.969310, 0.987016},
		{"nothing", 0, 0, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := score.Interval{Low: c.low, High: c.high}
			if diff := cmp.Diff(want, score.Wilson(c.k, c.n), cmpopts.EquateApprox(0, 1e-5)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReliability(t *testing.T) {
	got := score.Reliability(small, 3) // sorted: .4 wrong, .5 wrong | .6 wrong, .7 right | .8 right, .9 right
	want := []score.Bin{{N: 2, Confidence: .45}, {N: 2, Confidence: .65, Accuracy: .5}, {N: 2, Confidence: .85, Accuracy: 1}}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A bin whose accuracy is 0 or 1 has no spread, so nothing is subtracted: the
// ECE is then the plain mean gap.
func TestECEWithoutSpread(t *testing.T) {
	var all []score.Answer
	for range 150 {
		all = append(all, answer(1, 1, 0.75))
	}
	if got := score.ECE(all); math.Abs(got-0.25) > 1e-12 {
		t.Errorf("ECE = %v, want 0.25", got)
	}
}

// drawn makes n answers whose true chance of being right is chance(confidence).
func drawn(n int, seed uint64, chance func(float64) float64) []score.Answer {
	rng := rand.New(rand.NewPCG(seed, seed))
	all := make([]score.Answer, n)
	for i := range all {
		c := 0.3 + 0.7*rng.Float64()
		all[i] = answer(int32(rng.IntN(5)), 0, c)
		all[i].Said = all[i].Truth
		if rng.Float64() >= chance(c) {
			all[i].Said = (all[i].Truth + 1) % 5
		}
	}
	return all
}

func TestECEIsDebiased(t *testing.T) {
	plain := func(answers []score.Answer) float64 {
		sum := 0.0
		for _, b := range score.Reliability(answers, score.Bins) {
			sum += float64(b.N) * math.Abs(b.Accuracy-b.Confidence)
		}
		return sum / float64(len(answers))
	}
	var debiased, biased float64
	const runs = 200
	for seed := range uint64(runs) {
		a := drawn(600, seed, func(c float64) float64 { return c })
		debiased += score.ECE(a) / runs
		biased += plain(a) / runs
	}
	if debiased > biased*2/3 {
		t.Errorf("calibrated answers: mean ECE %.4f, plain estimator %.4f: debiasing removes less than a third", debiased, biased)
	}
	off := drawn(20000, 7, func(c float64) float64 { return c - 0.1 })
	if got := score.ECE(off); math.Abs(got-0.1) > 0.015 {
		t.Errorf("answers 0.1 too sure: ECE %.4f, want about 0.1", got)
	}
}

// An interval that claims 95 % must hold the truth about that often.
func TestBootstrapCovers(t *testing.T) {
	if testing.Short() {
		t.Skip("draws many samples")
	}
	held, runs := 0, 60
	for seed := range uint64(runs) {
		a := drawn(500, seed+1000, func(c float64) float64 { return c - 0.15 })
		got := score.Bootstrap(a, seed).ECE
		if got.Low <= 0.15 && 0.15 <= got.High {
			held++
		}
	}
	if held < runs*85/100 {
		t.Errorf("the 95 %% interval of the ECE held the truth in %d of %d runs", held, runs)
	}
}

func TestBootstrapRepeats(t *testing.T) {
	a := drawn(200, 3, func(c float64) float64 { return c })
	if diff := cmp.Diff(score.Bootstrap(a, 1), score.Bootstrap(a, 1)); diff != "" {
		t.Errorf("the same seed gives another interval:\n%s", diff)
	}
}

var answers = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) score.Answer {
	class := rapid.Int32Range(0, 6)
	return answer(class.Draw(t, "truth"), class.Draw(t, "said"), rapid.Float64Range(0, 1).Draw(t, "confidence"))
}), 1, 60)

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := answers.Draw(t, "answers")
		acc, f1, ece := score.Accuracy(a), score.MacroF1(a), score.ECE(a)
		for name, x := range map[string]float64{"accuracy": acc, "macro-F1": f1, "ECE": ece} {
			if !(x >= 0 && x <= 1) {
				t.Fatalf("%s = %v is outside of [0, 1]", name, x)
			}
		}
		if (acc == 1) != (f1 == 1) {
			t.Fatalf("accuracy %v and macro-F1 %v: one is perfect, the other is not", acc, f1)
		}
		k := int(math.Round(acc * float64(len(a))))
		if w := score.Wilson(k, len(a)); w.Low > acc+1e-12 || w.High < acc-1e-12 {
			t.Fatalf("Wilson %v does not hold %v", w, acc)
		}
		n := 0
		for _, b := range score.Reliability(a, score.Bins) {
			n += b.N
		}
		if n != len(a) {
			t.Fatalf("the bins hold %d of %d answers", n, len(a))
		}
		wrong := 0
		for _, c := range score.Confusions(a) {
			wrong += c.Count
		}
		if wrong != len(a)-k {
			t.Fatalf("confusions count %d, wrong are %d", wrong, len(a)-k)
		}
		// The order of distinct confidences does not matter.
		b := slices.Clone(a)
		slices.Reverse(b)
		if got := score.MacroF1(b); math.Abs(got-f1) > 1e-12 {
			t.Fatalf("macro-F1 %v, in another order %v", f1, got)
		}
	})
}

func TestBootstrapHoldsEstimate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := answers.Filter(func(a []score.Answer) bool { return len(a) > 1 }).Draw(t, "answers")
		got := score.Bootstrap(a, 1)
		if f1 := score.MacroF1(a); f1 < got.MacroF1.Low-1e-12 || f1 > got.MacroF1.High+1e-12 {
			t.Fatalf("macro-F1 %v is outside of %v", f1, got.MacroF1)
		}
		if ece := score.ECE(a); ece < got.ECE.Low-1e-12 || ece > got.ECE.High+1e-12 {
			t.Fatalf("ECE %v is outside of %v", ece, got.ECE)
		}
	})
}
