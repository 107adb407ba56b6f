package labelled

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/fit"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
)

func TestNew(t *testing.T) {
	predictions := []prediction.Prediction{{Label: "a", Probability: 1}}
	result := category.Result{Legs: []category.Leg{
		{Name: "title", Outcome: category.Answered, Predictions: predictions},
		{Name: "photo", Outcome: category.Skipped},
		{Name: "new", Outcome: category.Answered, Shadow: true, Predictions: predictions},
	}}
	item := feed.Item{Product: product.Product{ID: "1", Title: "Blue JEANS"}, Category: "a"}
	want := Answer{ID: "1", View: "whole", Group: "title blue jeans", Category: "a", Legs: map[string][]prediction.Prediction{"title": predictions}}
	if diff := cmp.Diff(want, New(item, "whole", result, nil)); diff != "" {
		t.Errorf("neither a skipped leg nor a shadow counts (-want +got):\n%s", diff)
	}
	want.Group = "c7"
	if diff := cmp.Diff(want, New(item, "whole", result, map[string]string{"1": "c7"})); diff != "" {
		t.Errorf("with groups (-want +got):\n%s", diff)
	}
}

func TestData(t *testing.T) {
	answers := []Answer{
		{View: "whole", Group: "x", Category: "a", Legs: map[string][]prediction.Prediction{"title": {{Label: "a", Probability: 0.7}}, "photo": {{Label: "a", Probability: 0.5}, {Label: "b", Probability: 0.4}, {Label: "c", Probability: 0.1}}}},
		{View: "whole", Group: "x", Category: "nowhere", Legs: map[string][]prediction.Prediction{"title": {{Label: "a", Probability: 1}}}},
		{View: "whole", Group: "x", Category: "b", Legs: map[string][]prediction.Prediction{"title": {{Label: "b", Probability: 1}}}},
		{View: "masked", Group: "x", Category: "a", Legs: map[string][]prediction.Prediction{"photo": {{Label: "a", Probability: 1}}}},
	}
	d, legs, unknown, err := Data(answers, map[string]float64{"a": 0.8, "b": 0.2})
	if err != nil || unknown != 1 {
		t.Fatal(err, unknown)
	}
	want := fit.Data{Labels: []string{"a", "b", "c"}, Prior: []float64{0.8, 0.2, 0.5}, Views: []fit.View{
		{Legs: [][][]float64{{{1, 0, 0}, nil}}, Truth: []int{0}, Weight: []float64{1}, Group: []int{0}},
		{Legs: [][][]float64{{{0.5, 0.4, 0.1}, {0.7, 0.15, 0.15}}, {nil, {0, 1, 0}}}, Truth: []int{0, 1}, Weight: []float64{0.5, 0.5}, Group: []int{0, 0}},
	}}
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-12 })
	if diff := cmp.Diff(want, d, near); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"photo", "title"}, legs); diff != "" {
		t.Errorf("legs (-want +got):\n%s", diff)
	}
	if _, _, _, err := Data(answers[1:2], nil); err == nil || !strings.Contains(err.Error(), "1 legs answered") {
		t.Error(err)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"no JSON":         {"{}x", "line 1: "},
		"no category":     {"\n{\"group\":\"a\"}", `line 2: it has no "category"`},
		"a line too long": {`{"category":"` + strings.Repeat("a", maxLine) + `"}`, "too long"},
		"another shape":   {`{"category":"a","legs":[]}`, "line 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Read(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	got, err := Groups(strings.NewReader("component,id,split\n7,1,test\n7,2,test\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"1": "7", "2": "7"}, got); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "id,title\n1,a\n", "id,component\n1\n"} {
		if _, err := Groups(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

// What is read can be written and read again, and made data of.
func FuzzRead(f *testing.F) {
	f.Add(`{"id":"1","view":"whole","group":"g","category":"a","legs":{"title":[{"label":"a","probability":0.9}],"photo":[{"label":"b","probability":1e300}]}}`)
	f.Add("{\"category\":\"a\"}\n\n{\"category\":\"b\",\"legs\":{\"\":null}}")
	f.Fuzz(func(t *testing.T, text string) {
		answers, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		var again bytes.Buffer
		for _, a := range answers {
			if err := json.NewEncoder(&again).Encode(a); err != nil {
				t.Fatal(err)
			}
		}
		read, err := Read(&again)
		if err != nil || len(read) != len(answers) {
			t.Fatalf("%d answers became %d: %v", len(answers), len(read), err)
		}
		if d, _, _, err := Data(answers, nil); err == nil && len(d.Views) > len(answers) {
			t.Fatalf("%d views of %d answers", len(d.Views), len(answers))
		}
	})
}
