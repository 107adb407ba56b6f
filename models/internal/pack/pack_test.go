package pack

import (
	"math"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/fashion"
)

func TestMeasure(t *testing.T) {
	p := [][]float64{{0.8, 0.2}, nil, {0.4, 0.6}, {0.9, 0.1}}
	f := Measure("Bare", "title alone", p, []int{0, 0, 1, 1})
	if f.N != 3 || math.Abs(f.Accuracy-2.0/3) > 1e-9 {
		t.Errorf("%d products, accuracy %v: want 3 (the nil one left out) and 2/3", f.N, f.Accuracy)
	}
	if want := math.Exp(-(math.Log(0.8) + math.Log(0.6) + math.Log(0.1)) / 3); math.Abs(f.Perplexity-want) > 1e-9 {
		t.Errorf("perplexity %v, want %v", f.Perplexity, want)
	}
	if len(f.Confusions) != 1 || f.Confusions[0].Truth != 1 || f.Confusions[0].Said != 0 {
		t.Errorf("confusions %v: want label 1 taken for 0, once", f.Confusions)
	}
	if f.AccuracyInterval.Low >= f.Accuracy || f.AccuracyInterval.High <= f.Accuracy {
		t.Errorf("interval %v does not hold %v", f.AccuracyInterval, f.Accuracy)
	}
}

func TestTable(t *testing.T) {
	got := Table([]Figures{Measure("", "photo", [][]float64{{1, 0}, {0, 1}}, []int{0, 1})})
	if !strings.Contains(got, "| photo | 2 | 1.000 (0.342-1.000) |") {
		t.Errorf("table:\n%s", got)
	}
}

func TestTruth(t *testing.T) {
	set := &fashion.Set{Labels: []string{"Belts", "Tops"}}
	if got := Truth(set, []fashion.Product{{Type: "Tops"}, {Type: "Belts"}}); got[0] != 1 || got[1] != 0 {
		t.Errorf("truth %v, want [1 0]", got)
	}
}
