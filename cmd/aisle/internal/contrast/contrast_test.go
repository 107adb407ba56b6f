package contrast_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"aisle.dev/aisle/cmd/aisle/internal/contrast"
)

func TestCompare(t *testing.T) {
	a := []contrast.Said{
		{ID: "1", Truth: "shirt", Label: "shirt", Confidence: .9},
		{ID: "2", Label: "tie", Confidence: .3}, // answered again below
		{ID: "3", Truth: "hat", Label: "tie", Confidence: .6},
		{ID: "2", Label: "hat", Confidence: .5},
		{ID: "gone", Label: "hat"},
		{ID: "4", Truth: "tie", Label: "tie", Confidence: .7},
	}
	b := []contrast.Said{
		{ID: "4", Label: ""}, // no answer
		{ID: "3", Label: "hat", Confidence: .8},
		{ID: "2", Label: "hat", Confidence: .6},
		{ID: "1", Label: "shirt", Confidence: .9},
		{ID: "new", Label: "shirt"},
	}
	got := contrast.Compare(a, b)
	want := contrast.Report{
		Products: 4, OnlyInA: 1, OnlyInB: 1, Agreement: 0.5,
		Pairs: []contrast.Pair{{From: "tie", To: "", Count: 1, Lost: 1}, {From: "tie", To: "hat", Count: 1, Gained: 1}},
		Moves: []contrast.Move{
			{ID: "3", From: "tie", FromConfidence: .6, To: "hat", ToConfidence: .8, Truth: "hat"},
			{ID: "4", From: "tie", FromConfidence: .7, Truth: "tie"},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(contrast.Report{}, "AgreementInterval", "Labelled", "A", "B", "Same")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l := got.Labelled
	if l == nil || l.N != 3 || l.Paired.OnlyA != 1 || l.Paired.OnlyB != 1 || l.AccuracyA != l.AccuracyB {
		t.Errorf("where it is known: %+v", l)
	}
	if len(got.Same) != 4 || got.Same[1].Right() {
		t.Errorf("agreement: %+v", got.Same)
	}
	if empty := contrast.Compare(nil, b); empty.Products != 0 || empty.OnlyInB != 5 || empty.Labelled != nil {
		t.Errorf("of nothing: %+v", empty)
	}
}
