package main

import (
	"fmt"
	"slices"
)

// sample is what repeated measurements of one thing gave, in one unit.
type sample []float64

// quantile returns the q-quantile, q in [0, 1], interpolated between order
// statistics (Hyndman and Fan's type 7). It is 0 for an empty sample.
func (s sample) quantile(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	o := slices.Sorted(slices.Values(s))
	at := q * float64(len(o)-1)
	i := int(at)
	if i+1 == len(o) {
		return o[i]
	}
	return o[i] + (at-float64(i))*(o[i+1]-o[i])
}

func (s sample) median() float64 { return s.quantile(0.5) }

// String gives the median and the spread: quartiles, then extremes.
func (s sample) String() string {
	return fmt.Sprintf("median %.3g  (quartiles %.3g–%.3g, range %.3g–%.3g, n=%d)",
		s.median(), s.quantile(0.25), s.quantile(0.75), s.quantile(0), s.quantile(1), len(s))
}

// over returns the pairwise ratios s[i]/t[i]: both were measured in turn, so
// that a ratio compares neighbours in time.
func (s sample) over(t sample) sample {
	r := make(sample, min(len(s), len(t)))
	for i := range r {
		r[i] = s[i] / t[i]
	}
	return r
}
