package offline_test

import (
	"errors"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/cmd/aisle/internal/offline"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/prediction"
)

// composer reads a composition of a title and a photo leg.
func composer(t *testing.T, photo, rest string) (*offline.Composer, *composition.Composition, error) {
	t.Helper()
	text := "apiVersion: aisle.dev/v1alpha1\nkind: Composition\nmetadata: {name: products}\nspec:\n  legs:\n" +
		"    - {name: title, service: title, weight: 1}\n    - {name: photo, service: photo, weight: 1" + photo + "}\n" +
		"  reducer: {type: logpool, temperature: 1}\n" + rest
	spec, err := composition.Parse([]byte(text), fstest.MapFS{"map.csv": {Data: []byte("label,category\na,shirt\n")}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := offline.New(spec)
	return c, spec, err
}

func said(name string, list ...prediction.Prediction) category.Leg {
	return category.Leg{Name: name, Service: name, Outcome: category.Answered, Label: list[0].Label, Confidence: list[0].Probability, Predictions: list}
}

func p(label string, probability float64) prediction.Prediction {
	return prediction.Prediction{Label: label, Probability: probability}
}

var stored = category.Result{ID: "1", Status: category.Complete, Legs: []category.Leg{
	said("title", p("shirt", .6), p("tie", .4)), said("photo", p("tie", .9), p("shirt", .1)),
}}

func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		name, photo string
		without     []string
		label       string
		sure        float64
		gate        string // that skipped the photo
	}{
		{name: "both", label: "tie", sure: .9 * .4 / (.9*.4 + .1*.6)},
		{name: "without the photo", without: []string{"photo"}, label: "shirt", sure: .6},
		{name: "a gate that holds", photo: ", when: legs.title.confidence < 0.7", label: "tie", sure: .9 * .4 / (.9*.4 + .1*.6)},
		{name: "a gate that does not", photo: ", when: legs.title.margin < 0.1", label: "shirt", sure: .6, gate: "legs.title.margin < 0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			again, spec, err := composer(t, c.photo, "")
			if err != nil {
				t.Fatal(err)
			}
			got, err := again.Answer(stored, c.without...)
			if err != nil {
				t.Fatal(err)
			}
			if got.Category == nil || got.Category.Label != c.label || got.Composition.Digest != spec.Digest {
				t.Fatalf("got %+v of %s", got.Category, got.Composition.Digest)
			}
			if d := got.Category.Confidence - c.sure; d > 1e-9 || d < -1e-9 {
				t.Errorf("confidence %v, want %v", got.Category.Confidence, c.sure)
			}
			if got.Legs[1].Gate != c.gate {
				t.Errorf("skipped by %q, want %q", got.Legs[1].Gate, c.gate)
			}
		})
	}
	if stored.Legs[1].Outcome != category.Answered {
		t.Error("the stored answer was changed")
	}
}

func TestAnswerIsUntold(t *testing.T) {
	again, _, err := composer(t, "", "")
	if err != nil {
		t.Fatal(err)
	}
	top := stored.Legs[1]
	top.Predictions = nil
	for name, leg := range map[string]category.Leg{
		"another leg":   said("picture", p("tie", 1)),
		"the best only": top,
		"not asked":     {Name: "photo", Outcome: category.Skipped, Gate: "legs.title.confidence < 0.5"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := again.Answer(category.Result{Legs: []category.Leg{stored.Legs[0], leg}}); !errors.Is(err, offline.ErrUntold) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnswerWithoutLegs(t *testing.T) {
	again, _, err := composer(t, "", "  quorum: 2\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.Answer(stored, "photo")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(category.Failed, got.Status); diff != "" || got.Category != nil {
		t.Errorf("below the quorum: category %+v (-want +got):\n%s", got.Category, diff)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct{ photo, rest string }{
		"rules":                 {rest: "  rules:\n    - {name: x, when: 'product.brand == \"X\"', forbid: [shirt]}\n"},
		"a gate on the product": {photo: ", when: product.brand == \"X\""},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := composer(t, c.photo, c.rest); err == nil {
				t.Error("accepted")
			}
		})
	}
}
