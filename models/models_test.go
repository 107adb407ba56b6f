package models

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"aisle.dev/aisle/internal/model"
)

const maxGraph = 8 << 20

func TestPackages(t *testing.T) {
	for _, name := range Names {
		t.Run(name, func(t *testing.T) {
			p, err := model.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if p.Spec.Name != name {
				t.Errorf("the package in models/%s is named %s", name, p.Spec.Name)
			}
			if info, err := os.Stat(p.Graph); err != nil || info.Size() > maxGraph {
				t.Errorf("graph %v (%v): want at most %d bytes", info, err, maxGraph)
			}
			if !slices.IsSorted(p.Labels) {
				t.Errorf("labels %q are not sorted", p.Labels)
			}
			if _, err := os.Stat(filepath.Join(name, "CARD.md")); err != nil {
				t.Error(err)
			}
			if a := p.Spec.Metrics["accuracy"]; a < 0.5 || a > 1 {
				t.Errorf("model.yaml says accuracy %v", a)
			}
		})
	}
}

// A composition pools the legs' labels by name.
func TestPackagesShareLabels(t *testing.T) {
	var first []string
	for _, name := range Names {
		p, err := model.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = p.Labels
		}
		if !slices.Equal(first, p.Labels) {
			t.Errorf("%s has labels %q, but %s has %q", name, p.Labels, Names[0], first)
		}
	}
}
