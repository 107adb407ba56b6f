package main

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuantile(t *testing.T) {
	s := sample{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 2.5, 1: 4} {
		if got := s.quantile(q); math.Abs(got-want) > 1e-12 {
			t.Errorf("quantile(%v) = %v, want %v", q, got, want)
		}
	}
	if got := (sample{}).median(); got != 0 {
		t.Errorf("median of nothing = %v", got)
	}
	if d := cmp.Diff(sample{2, 3}, sample{4, 9, 1}.over(sample{2, 3})); d != "" {
		t.Error(d)
	}
}
