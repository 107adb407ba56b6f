package gating_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"aisle.dev/aisle/cmd/aisle/internal/gating"
	"aisle.dev/aisle/internal/score"
)

func product(confidence float64, with, without bool) gating.Case {
	answer := func(right bool) score.Answer {
		if right {
			return score.Answer{Confidence: 0.9}
		}
		return score.Answer{Said: 1, Confidence: 0.9}
	}
	loss := 0.0
	if with != without {
		loss = 0.5 // both ways: who computes it does not know what is right
	}
	return gating.Case{
		Loss: loss,
		Sure: map[gating.Measure]float64{gating.Confidence: confidence, gating.Margin: confidence / 2},
		With: answer(with), Without: answer(without),
	}
}

// The leg mends the least sure product, and spoils the surest.
var five = []gating.Case{product(.91, true, true), product(.25, true, false), product(.62, false, false), product(.62, true, true), product(.999, false, true)}

func TestSweep(t *testing.T) {
	want := []gating.Point{
		{Threshold: 0, Woken: 0, Accuracy: 0.6, ExpectedLoss: 0.2},
		{Threshold: 0.3, Woken: 0.2, Accuracy: 0.8, ExpectedLoss: 0.1},
		{Threshold: 0.7, Woken: 0.6, Accuracy: 0.8, ExpectedLoss: 0.1}, // equals come together
		{Threshold: 0.92, Woken: 0.8, Accuracy: 0.8, ExpectedLoss: 0.1},
		{Threshold: 1, Woken: 1, Accuracy: 0.6},
	}
	got := gating.Sweep(five, gating.Confidence)
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for loss, threshold := range map[float64]float64{0: 1, 0.1: 0.3, 0.15: 0.3, 0.5: 0} {
		if p := gating.Cheapest(got, loss); p.Threshold != threshold {
			t.Errorf("a loss of %v: threshold %v, want %v", loss, p.Threshold, threshold)
		}
	}
	if got := gating.Sweep(nil, gating.Confidence); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}

func TestApply(t *testing.T) {
	got := gating.Apply(five, gating.Margin, 0.2)
	if got.Woken != 0.2 || got.Accuracy != 0.8 || got.Change.OnlyB != 1 || got.Change.OnlyA != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestWhen(t *testing.T) {
	for _, c := range []struct {
		leg       string
		measure   gating.Measure
		threshold float64
		want      string
	}{
		{"title", gating.Confidence, 0.87, "legs.title.confidence < 0.87"},
		{"title-v2", gating.Margin, 0.5, "legs.`title-v2`.margin < 0.5"},
		{"title", gating.Confidence, 0, "!legs.title.answered"},
	} {
		if got := gating.When(c.leg, c.measure, c.threshold); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// What a sweep says of a threshold is what the gate of that threshold does.
func TestSweepIsWhatApplyDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cases := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) gating.Case {
			return product(rapid.Float64Range(0, 1).Draw(t, "confidence"), rapid.Bool().Draw(t, "with"), rapid.Bool().Draw(t, "without"))
		}), 1, 40).Draw(t, "products")
		for _, m := range gating.Measures {
			points := gating.Sweep(cases, m)
			for _, p := range points {
				got := gating.Apply(cases, m, p.Threshold)
				if diff := cmp.Diff(p, gating.Point{Threshold: p.Threshold, Woken: got.Woken, Accuracy: got.Accuracy, ExpectedLoss: got.ExpectedLoss}, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
					t.Fatalf("%s (-sweep +gate):\n%s", m, diff)
				}
			}
			if last := points[len(points)-1]; last.Woken != 1 {
				t.Fatalf("the last point wakes %v", last.Woken)
			}
			if thin := gating.Thinned(points, 5); len(thin) > 5 || thin[0] != points[0] || thin[len(thin)-1] != points[len(points)-1] {
				t.Fatalf("thinned to %v", thin)
			}
		}
	})
}
