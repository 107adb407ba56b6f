package score

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// By hand: four products at three thresholds, of which one is wrong as a leaf
// and right one level up, and one is in no category for sure.
func TestBackOff(t *testing.T) {
	leaf, wrong, above, none := Step{3, true, true}, Step{3, true, false}, Step{1, false, true}, Step{}
	products := [][]Step{{leaf, leaf, leaf}, {wrong, above, above}, {leaf, above, none}, {leaf, none, none}}
	all := BackOffs(products, []float64{0.2, 0.5, 0.9})
	want := []BackOff{
		{Threshold: 0.2, Share: 1, Right: 0.75, Leaf: 1, Levels: []float64{0, 0, 1}},
		{Threshold: 0.5, Share: 0.75, Right: 1, Leaf: 0.25, Levels: []float64{0.5, 0, 0.25}},
		{Threshold: 0.9, Share: 0.5, Right: 1, Leaf: 0.25, Levels: []float64{0.25, 0, 0.25}},
	}
	for i := range want {
		w, g := want[i], all[i]
		if g.Threshold != w.Threshold || g.Share != w.Share || g.Right != w.Right || g.Leaf != w.Leaf || !slices.Equal(g.Levels, w.Levels) {
			t.Errorf("%+v, want %+v", g, w)
		}
	}
	for precision, want := range map[float64]int{0.75: 0, 0.95: 1} {
		at, share := BackOffAt(products, all, precision, 1)
		if at != want || share.Low > all[at].Share || share.High < all[at].Share {
			t.Errorf("at %v: threshold %d, share in %v, want threshold %d", precision, at, share, want)
		}
	}
	never := [][]Step{{wrong}, {wrong}}
	if at, share := BackOffAt(never, BackOffs(never, []float64{0.5}), 0.95, 1); at != -1 || share.High != 0 {
		t.Errorf("nothing is right: threshold %d, share in %v", at, share)
	}
	if at, _ := BackOffAt(nil, BackOffs(nil, []float64{0.5}), 0.95, 1); at != -1 {
		t.Errorf("no products: threshold %d", at)
	}
}

// Where every category is a leaf, backing off is answering what is sure enough,
// and the two ways to count agree.
func TestBackOffOfLeavesIsCoverage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		thresholds := []float64{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}
		var answers []Answer
		var products [][]Step
		for range rapid.IntRange(1, 30).Draw(t, "products") {
			a := Answer{Said: rapid.Int32Range(0, 1).Draw(t, "said"), Confidence: rapid.SampledFrom(thresholds).Draw(t, "confidence")}
			answers = append(answers, a)
			var steps []Step
			for _, at := range thresholds {
				s := Step{}
				if a.Confidence >= at {
					s = Step{1, true, a.Right()}
				}
				steps = append(steps, s)
			}
			products = append(products, steps)
		}
		all := BackOffs(products, thresholds)
		at, _ := BackOffAt(products, all, 0.8, 1)
		got := 0.0
		if at >= 0 {
			got = all[at].Share
		}
		if want := CoverageAt(answers, 0.8, 1).Share; got != want {
			t.Errorf("share %v, want %v", got, want)
		}
	})
}
