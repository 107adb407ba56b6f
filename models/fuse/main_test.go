package main

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/fashion"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/reduce"
	"aisle.dev/aisle/internal/taxonomy"
)

func TestSetPool(t *testing.T) {
	const before = "# why\nspec:\n  legs:\n    - {name: title, service: title, weight: 1.0} # first\n    - {name: photo, service: photo, weight: 2, reads: [images]}\n  reducer: {type: logpool, temperature: 1.0, prior: {file: prior.csv, weight: 0},\n    calibration: [{legs: [title], temperature: 3}]}\n"
	const after = "# why\nspec:\n  legs:\n    - {name: title, service: title, weight: 0.75} # first\n    - {name: photo, service: photo, weight: 1, reads: [images]}\n  reducer: {type: logpool, temperature: 0.9, prior: {file: prior.csv, weight: 0.44},\n    calibration: [{legs: [title, photo], temperature: 0.98}, {legs: [photo], temperature: 1}]}\n"
	pool := reduce.Pool{Weights: []float64{0.75, 1}, Temperature: 0.9, PriorWeight: 0.44}
	calibration := []reduce.Pattern{{Legs: []int{0, 1}, Temperature: 0.98}, {Legs: []int{1}, Temperature: 1}}
	got, err := setPool([]byte(before), legNames, pool, calibration)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(after, string(got)); diff != "" {
		t.Errorf("composition (-want +got):\n%s", diff)
	}
	for _, gone := range []string{"name: photo", "weight: 2", "reducer", "temperature", "file: prior.csv", "calibration"} {
		if _, err := setPool([]byte(strings.Replace(before, gone, "x", 1)), legNames, pool, calibration); err == nil {
			t.Errorf("a composition without %q was accepted", gone)
		}
	}
	none := strings.NewReplacer(", prior: {file: prior.csv, weight: 0}", "", ", prior: {file: prior.csv, weight: 0.44}", "")
	got, err = setPool([]byte(none.Replace(before)), legNames, pool, calibration)
	if diff := cmp.Diff(none.Replace(after), string(got)); diff != "" || err != nil {
		t.Errorf("composition without a prior: %v (-want +got):\n%s", err, diff)
	}
}

func TestTaxonomyCSV(t *testing.T) {
	set := &fashion.Set{Labels: []string{"Socks", "Tshirts"}, Parents: map[string]fashion.Pair{"Socks": {Master: "Apparel", Sub: "Socks"}, "Tshirts": {Master: "Apparel", Sub: "Top Wear"}}}
	want := "id,parent,name\napparel,,Apparel\napparel/socks,apparel,Socks\napparel/socks/socks,apparel/socks,Socks\napparel/top-wear,apparel,Top Wear\napparel/top-wear/tshirts,apparel/top-wear,Tshirts\n"
	got := taxonomyCSV(set)
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("taxonomy (-want +got):\n%s", diff)
	}
	if _, err := taxonomy.Parse(got); err != nil {
		t.Error(err)
	}
}

func TestPriorIsOfAllTrainingProducts(t *testing.T) {
	set := &fashion.Set{Labels: []string{"Socks", "Tshirts"}, Products: []fashion.Product{
		{ID: 1, Type: "Tshirts", Photo: true}, {ID: 2, Type: "Tshirts"}, {ID: 3, Type: "Socks"}, {ID: 4, Type: "Socks", Photo: true},
	}, Split: fashion.Split{Part: []fashion.Part{fashion.Train, fashion.Train, fashion.Train, fashion.Validation}}}
	want := "label,share\nSocks,0.333333\nTshirts,0.666667\n"
	if diff := cmp.Diff(want, string(priorCSV(set.Labels, shares(set)))); diff != "" {
		t.Errorf("prior (-want +got):\n%s", diff)
	}
}

// Every label that ships has its place in the taxonomy and in the prior that ship.
func TestShippedFilesHoldAllLabels(t *testing.T) {
	text, err := os.ReadFile("../../manifests/base/taxonomy.csv")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := taxonomy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := composition.Load("../../manifests/base/composition.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree.Labels(), slices.Sorted(maps.Keys(c.Fusion.Pool.Prior))); diff != "" {
		t.Errorf("labels of the taxonomy and of the prior (-taxonomy +prior):\n%s", diff)
	}
	for _, name := range legNames {
		p, err := model.Load("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tree.Labels(), p.Labels); diff != "" {
			t.Errorf("labels of the taxonomy and of %s (-taxonomy +%s):\n%s", name, name, diff)
		}
	}
}
