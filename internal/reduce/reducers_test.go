package reduce

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/prediction"
)

// kinds builds each reducer that has weights alone.
var kinds = map[string]func(weights []float64) Reducer{
	"linpool":    func(w []float64) Reducer { return LinPool{w} },
	"vote":       func(w []float64) Reducer { return Vote{w} },
	"logpool":    func(w []float64) Reducer { return Pool{Weights: w, Temperature: 1.3} },
	"calibrated": func(w []float64) Reducer { return Calibrated{LinPool{w}, []Pattern{{[]int{0}, 0.7}}} },
}

// each checks a property of some reducers.
func each(t *testing.T, names []string, check func(*rapid.T, func([]float64) Reducer)) {
	for _, name := range names {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) { check(t, kinds[name]) }))
	}
}

func TestReducersByHand(t *testing.T) {
	abc := []string{"a", "b", "c"}
	title, photo := list(abc, []float64{0.6, 0.3, 0.1}), list(abc, []float64{0.1, 0.5, 0.4})
	tests := []struct {
		name    string
		reducer Reducer
		legs    [][]prediction.Prediction
		label   string
		want    float64 // of the label
		first   string
	}{
		{"linpool", LinPool{[]float64{1, 3}}, [][]prediction.Prediction{title, photo}, "b", (0.3 + 3*0.5) / 4, "b"},
		{"linpool, one missing", LinPool{[]float64{1, 3}}, [][]prediction.Prediction{title, nil}, "a", 0.6, "a"},
		{"linpool, a leg without the label", LinPool{[]float64{1, 1}}, [][]prediction.Prediction{title, list(abc[:1], []float64{0.8})}, "b", (0.3 + 0.1) / 2, "a"},
		{"vote", Vote{[]float64{1, 3}}, [][]prediction.Prediction{title, photo}, "b", 0.75, "b"},
		{"vote, one missing", Vote{[]float64{1, 3}}, [][]prediction.Prediction{title, nil}, "a", 1, "a"},
		{"vote, a tie goes to the higher average", Vote{[]float64{1, 1}}, [][]prediction.Prediction{title, photo}, "a", 0.5, "b"},
		{"vote, a tie in all goes by name", Vote{[]float64{1, 1}}, [][]prediction.Prediction{list(abc, []float64{0.2, 0.8, 0}), list(abc, []float64{0.8, 0.2, 0})}, "a", 0.5, "a"},
		{"vote, an undecided leg splits its vote", Vote{[]float64{2, 1}}, [][]prediction.Prediction{list(abc, []float64{0.4, 0.4, 0.2}), photo}, "b", 2. / 3, "b"},
		{"calibrated, its pattern", Calibrated{LinPool{[]float64{1, 1}}, []Pattern{{[]int{0}, 0.5}}}, [][]prediction.Prediction{title, nil}, "a", 0.36 / (0.36 + 0.09 + 0.01), "a"},
		{"calibrated, another pattern", Calibrated{LinPool{[]float64{1, 1}}, []Pattern{{[]int{0}, 0.5}}}, [][]prediction.Prediction{nil, title}, "a", 0.6, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := tt.reducer.Answers(tt.legs)
			if out[0].Label != tt.first {
				t.Errorf("%s is first, want %s", out[0].Label, tt.first)
			}
			for _, got := range out {
				if got.Label == tt.label && math.Abs(got.Probability-tt.want) > 2*Floor {
					t.Errorf("%s has %v, want %v", tt.label, got.Probability, tt.want)
				}
			}
		})
	}
}

func TestReducersSumToOne(t *testing.T) {
	each(t, []string{"linpool", "vote", "calibrated"}, func(t *rapid.T, make func([]float64) Reducer) {
		d := draw(t)
		for i := range d.legs { // what no leg should answer, but may
			if rapid.IntRange(0, 3).Draw(t, "hostile") == 0 {
				for j := range d.legs[i] {
					d.legs[i][j].Probability = rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, 1, 7}).Draw(t, "p")
				}
			}
		}
		out := make(d.pool.Weights).Answers(d.legs)
		var sum float64
		for i, p := range out {
			if !(p.Probability >= 0 && p.Probability <= 1) {
				t.Fatalf("%v", out)
			}
			if i > 0 && cmp.Or(cmp.Compare(out[i-1].Probability, p.Probability), cmp.Compare(p.Label, out[i-1].Label)) < 0 {
				t.Fatalf("not ordered: %v", out)
			}
			sum += p.Probability
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("sums to %v", sum)
		}
	})
}

func TestReducersIgnoreOrder(t *testing.T) {
	each(t, []string{"linpool", "vote"}, func(t *rapid.T, make func([]float64) Reducer) {
		d := draw(t)
		var weights []float64
		var legs [][]prediction.Prediction
		for _, i := range rapid.Permutation(indices(len(d.legs))).Draw(t, "order") {
			weights = append(weights, d.pool.Weights[i])
			legs = append(legs, rapid.Permutation(d.legs[i]).Draw(t, "labels"))
		}
		same(t, "permuted", make(d.pool.Weights).Answers(d.legs), make(weights).Answers(legs))
	})
}

// Legs that say the same answer as one of them. A logpool does so where its
// exponents sum to one, that is where its temperature is the sum of its
// weights and it divides no prior out: else it is surer, as legs that agree
// make it.
func TestEqualLegsChangeNothing(t *testing.T) {
	kinds := map[string]func([]float64) Reducer{
		"linpool": kinds["linpool"], "vote": kinds["vote"],
		"logpool whose temperature is the weights' sum": func(w []float64) Reducer {
			var sum float64
			for _, w := range w {
				sum += w
			}
			return Pool{Weights: w, Temperature: sum}
		},
	}
	for name, make := range kinds {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			d := draw(t)
			for i := range d.legs {
				d.legs[i] = d.legs[0]
			}
			same(t, "doubled", make([]float64{1}).Answers(d.legs[:1]), make(d.pool.Weights).Answers(d.legs))
		}))
	}
}

// A missing leg leaves the answer of the composition without it. In a logpool
// the others keep their shares of the exponents; their sum is k's part, which
// TestProperties checks.
func TestMissingLegRenormalises(t *testing.T) {
	each(t, []string{"linpool", "vote"}, func(t *rapid.T, make func([]float64) Reducer) {
		d := draw(t)
		i := rapid.IntRange(0, len(d.legs)).Draw(t, "where")
		with := make(slices.Insert(slices.Clone(d.pool.Weights), i, 2)).Answers(slices.Insert(slices.Clone(d.legs), i, nil))
		same(t, "a leg missing", make(d.pool.Weights).Answers(d.legs), with)
	})
	t.Run("logpool", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		d.pool.Weights = append(d.pool.Weights, 2)
		n := len(d.pool.Weights) - 1
		e, _ := d.pool.exponents(func(i int) bool { return i != n })
		for i := range n {
			if math.Abs(e[i]*d.pool.Weights[0]-e[0]*d.pool.Weights[i]) > 1e-9 || e[n] != 0 {
				t.Fatalf("exponents %v of weights %v", e, d.pool.Weights)
			}
		}
	}))
}

// Of a leg that says nothing, over the labels of the others. The logpool's
// ranking is tested with its prior in TestProperties.
func TestUniformLegChangesNoRanking(t *testing.T) {
	each(t, []string{"linpool", "vote", "logpool"}, func(t *rapid.T, make func([]float64) Reducer) {
		labels := []string{"a", "b", "c", "d"}
		legs := [][]prediction.Prediction{list(labels, simplex(t, 4)), list(labels, simplex(t, 4))}
		weights := []float64{rapid.Float64Range(0.01, 5).Draw(t, "first"), rapid.Float64Range(0.01, 5).Draw(t, "second")}
		before := make(weights).Answers(legs)
		after := make(append(weights, 2)).Answers(append(legs, list(labels, []float64{0.25, 0.25, 0.25, 0.25})))
		p := map[string]float64{}
		for _, x := range after {
			p[x.Label] = x.Probability
		}
		for i := 1; i < len(before); i++ {
			a, b := before[i-1], before[i]
			// Near ties may fall either way by rounding.
			if a.Probability > b.Probability*(1+1e-9)+1e-12 && p[a.Label] < p[b.Label]*(1-1e-9) {
				t.Fatalf("%s and %s changed places: %v, then %v", a.Label, b.Label, before, after)
			}
		}
	})
}

func TestNoLegs(t *testing.T) {
	for name, make := range kinds {
		if out := make([]float64{1, 2}).Answers([][]prediction.Prediction{nil, {}}); len(out) != 0 {
			t.Errorf("%s: %v", name, out)
		}
	}
}

func TestCalibratedKeepsTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		raw := d.pool.Answers(d.legs)
		out := Calibrated{d.pool, []Pattern{{indices(len(d.legs)), rapid.Float64Range(0.2, 5).Draw(t, "temperature")}}}.Answers(d.legs)
		for i := range out {
			if out[i].Label != raw[i].Label {
				t.Fatalf("%v became %v", raw, out)
			}
		}
	})
}

func TestCalibratedValidate(t *testing.T) {
	for name, patterns := range map[string][]Pattern{
		"no legs":         {{nil, 1}},
		"unknown leg":     {{[]int{2}, 1}},
		"negative leg":    {{[]int{-1, 0}, 1}},
		"falling":         {{[]int{1, 0}, 1}},
		"a leg twice":     {{[]int{1, 1}, 1}},
		"a pattern twice": {{[]int{0}, 1}, {[]int{0}, 2}},
		"no temperature":  {{[]int{0}, 0}},
		"not a number":    {{[]int{0}, math.NaN()}},
		"too many":        slices.Repeat([]Pattern{{[]int{0}, 1}}, MaxPatterns+1),
	} {
		if (Calibrated{LinPool{}, patterns}).Validate(2) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (Calibrated{LinPool{}, []Pattern{{[]int{0}, 1}, {[]int{0, 1}, 1.2}}}).Validate(2); err != nil {
		t.Error(err)
	}
}

func TestTemperProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SliceOfN(rapid.Float64Range(0, 1), 2, 8).Draw(t, "p")
		out := make([]float64, len(p))
		Temper(out, p, rapid.Float64Range(0.2, 5).Draw(t, "t"))
		sum := 0.0
		for i, v := range out {
			if !(v >= 0 && v <= 1) {
				t.Fatalf("out %v", out)
			}
			sum += v
			for j := range out {
				if p[i] > p[j] && out[i] < out[j] {
					t.Fatalf("the order changed: %v, %v", p, out)
				}
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("sum %v", sum)
		}
	})
}
