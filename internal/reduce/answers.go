package reduce

import (
	"cmp"
	"slices"

	"aisle.dev/aisle/internal/prediction"
)

// A Reducer makes one distribution of what the legs of a composition answered:
// one list per leg, empty for a leg that is missing, each label at most once
// in a list. The result is ordered by falling probability, ties by label; with
// no leg present it is empty.
type Reducer interface {
	Answers(legs [][]prediction.Prediction) []prediction.Prediction
}

// answers reduces lists by fuse, which is given vectors over the union of
// their labels. The last two vectors are free: fuse writes its result to the
// first and may use the second.
func answers(legs [][]prediction.Prediction, fuse func(out, free []float64, legs [][]float64, labels []string)) []prediction.Prediction {
	var labels []string
	index := make(map[string]int)
	for _, leg := range legs {
		if len(labels) == 0 {
			labels = make([]string, 0, len(leg))
		}
		for _, q := range leg {
			if _, ok := index[q.Label]; !ok {
				index[q.Label] = len(labels)
				labels = append(labels, q.Label)
			}
		}
	}
	n := len(labels)
	if n == 0 {
		return nil
	}
	dense := make([][]float64, len(legs))
	vectors := make([]float64, (len(legs)+2)*n)
	vector := func(i int) []float64 { return vectors[i*n : (i+1)*n] }
	for i, leg := range legs {
		if len(leg) == 0 {
			continue
		}
		d := vector(i)
		Spread(d, leg, index)
		dense[i] = d
	}
	out := vector(len(legs))
	fuse(out, vector(len(legs)+1), dense, labels)
	return ordered(labels, out)
}

// Spread writes a leg's list as a vector: index says where each label is. A
// leg whose probabilities sum to less than one leaves a rest, which is shared
// evenly among the labels that it does not have.
func Spread(to []float64, leg []prediction.Prediction, index map[string]int) {
	rest := 1.0
	for _, q := range leg {
		rest -= q.Probability
	}
	if len(leg) < len(to) {
		share := rest / float64(len(to)-len(leg))
		for y := range to {
			to[y] = share
		}
	}
	for _, q := range leg {
		to[index[q.Label]] = q.Probability
	}
}

// ordered lists labels by falling probability, ties by label.
func ordered(labels []string, p []float64) []prediction.Prediction {
	out := make([]prediction.Prediction, len(labels))
	for y, label := range labels {
		out[y] = prediction.Prediction{Label: label, Probability: min(p[y], 1)}
	}
	slices.SortFunc(out, func(a, b prediction.Prediction) int {
		return cmp.Or(cmp.Compare(b.Probability, a.Probability), cmp.Compare(a.Label, b.Label))
	})
	return out
}
