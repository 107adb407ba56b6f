package reduce

import (
	"math"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/prediction"
)

// list builds a leg's answer from label, probability pairs.
func list(labels []string, p []float64) []prediction.Prediction {
	out := make([]prediction.Prediction, len(p))
	for i := range p {
		out[i] = prediction.Prediction{Label: labels[i], Probability: p[i]}
	}
	return out
}

// product is a product of two experts and a prior.
func product(weight float64, prior map[string]float64) Pool {
	return Pool{Weights: []float64{1, 1}, Temperature: 1, PriorWeight: weight, Prior: prior}
}

func TestAgainstTheFormulaByHand(t *testing.T) {
	ab := []string{"a", "b"}
	title, photo := []float64{0.9, 0.1}, []float64{0.4, 0.6}
	tests := []struct {
		name string
		pool Pool
		legs [][]prediction.Prediction
		want float64 // of a
	}{
		{"both, product of experts", Pool{Weights: []float64{1, 1}, Temperature: 1}, [][]prediction.Prediction{list(ab, title), list(ab, photo)},
			0.9 * 0.4 / (0.9*0.4 + 0.1*0.6)},
		{"both, weights and temperature", Pool{Weights: []float64{1, 0.5}, Temperature: 2}, [][]prediction.Prediction{list(ab, title), list(ab, photo)},
			math.Pow(0.9, 0.5) * math.Pow(0.4, 0.25) / (math.Pow(0.9, 0.5)*math.Pow(0.4, 0.25) + math.Pow(0.1, 0.5)*math.Pow(0.6, 0.25))},
		{"one alone is itself", Pool{Weights: []float64{1, 0.5}, Temperature: 2}, [][]prediction.Prediction{list(ab, title), nil}, 0.9},
		{"the other alone is itself", Pool{Weights: []float64{1, 0.5}, Temperature: 0.3}, [][]prediction.Prediction{nil, list(ab, photo)}, 0.4},
		// W 3, T 1.5: k = 1 + (2-1)·(2-1)/(3-1) = 1.5 over two equal legs.
		{"two of three", Pool{Weights: []float64{1, 1, 1}, Temperature: 1.5}, [][]prediction.Prediction{list(ab, title), list(ab, photo), nil},
			math.Pow(0.9*0.4, 0.75) / (math.Pow(0.9*0.4, 0.75) + math.Pow(0.1*0.6, 0.75))},
		{"a sole leg has a temperature", Pool{Weights: []float64{1}, Temperature: 2}, [][]prediction.Prediction{list(ab, title)},
			math.Sqrt(0.9) / (math.Sqrt(0.9) + math.Sqrt(0.1))},
		{"the rest is shared among labels it lacks", Pool{Weights: []float64{1, 1}, Temperature: 1},
			[][]prediction.Prediction{list([]string{"a"}, []float64{0.7}), list([]string{"a", "b", "c"}, []float64{0.2, 0.4, 0.4})},
			0.7 * 0.2 / (0.7*0.2 + 2*0.15*0.4)},
		{"the prior is divided out", product(1, map[string]float64{"a": 0.8, "b": 0.2}), [][]prediction.Prediction{list(ab, title), list(ab, photo)},
			0.9 * 0.4 / 0.8 / (0.9*0.4/0.8 + 0.1*0.6/0.2)},
		{"a part of the prior", Pool{Weights: []float64{1, 0.5}, Temperature: 2, PriorWeight: 0.6, Prior: map[string]float64{"a": 0.8, "b": 0.2}}, [][]prediction.Prediction{list(ab, title), list(ab, photo)},
			math.Pow(0.9, 0.5) * math.Pow(0.4, 0.25) / math.Pow(0.8, 0.3) / (math.Pow(0.9, 0.5)*math.Pow(0.4, 0.25)/math.Pow(0.8, 0.3) + math.Pow(0.1, 0.5)*math.Pow(0.6, 0.25)/math.Pow(0.2, 0.3))},
		{"a label that the prior lacks has an even share", product(1, map[string]float64{"b": 0.2, "c": 0.5, "d": 0.2, "e": 0.1}), [][]prediction.Prediction{list(ab, title), list(ab, photo)},
			0.9 * 0.4 / 0.25 / (0.9*0.4/0.25 + 0.1*0.6/0.2)},
		{"one alone keeps the prior", product(1, map[string]float64{"a": 0.8, "b": 0.2}), [][]prediction.Prediction{nil, list(ab, photo)}, 0.4},
		// As above, k = 1.5 over two equal legs; half of the prior's weight.
		{"two of three with a prior", Pool{Weights: []float64{1, 1, 1}, Temperature: 1.5, PriorWeight: 1.5, Prior: map[string]float64{"a": 0.8, "b": 0.2}}, [][]prediction.Prediction{list(ab, title), list(ab, photo), nil},
			math.Pow(0.9*0.4, 0.75) / math.Sqrt(0.8) / (math.Pow(0.9*0.4, 0.75)/math.Sqrt(0.8) + math.Pow(0.1*0.6, 0.75)/math.Sqrt(0.2))},
		{"a zero is floored", Pool{Weights: []float64{1, 1}, Temperature: 1}, [][]prediction.Prediction{list(ab, []float64{0, 1}), list(ab, []float64{1, 0})}, 0.5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, got := range tt.pool.Answers(tt.legs) {
				if got.Label == "a" && math.Abs(got.Probability-tt.want) > 1e-9 {
					t.Errorf("a has %v, want %v", got.Probability, tt.want)
				}
			}
		})
	}
}

// A drawn case: a pool, and the answers of legs over labels that may differ.
type drawn struct {
	pool Pool
	legs [][]prediction.Prediction
}

func draw(t *rapid.T) drawn {
	universe := []string{"a", "b", "c", "d", "e", "f", "g"}
	n := rapid.IntRange(1, 4).Draw(t, "legs")
	d := drawn{pool: Pool{Temperature: rapid.Float64Range(0.05, 20).Draw(t, "temperature")}}
	for range n {
		d.pool.Weights = append(d.pool.Weights, rapid.Float64Range(0.01, 5).Draw(t, "weight"))
		labels := rapid.SliceOfNDistinct(rapid.SampledFrom(universe), 1, len(universe), rapid.ID[string]).Draw(t, "labels")
		d.legs = append(d.legs, list(labels, simplex(t, len(labels))))
	}
	if rapid.Bool().Draw(t, "a prior") {
		d.pool.PriorWeight = rapid.Float64Range(0, 5).Draw(t, "prior's weight")
		known := rapid.IntRange(1, len(universe)).Draw(t, "labels that the prior knows")
		d.pool.Prior = map[string]float64{}
		for y, share := range simplex(t, known) {
			d.pool.Prior[universe[y]] = share
		}
	}
	return d
}

// simplex draws n probabilities that sum to one, zeros among them.
func simplex(t *rapid.T, n int) []float64 {
	p := make([]float64, n)
	var sum float64
	for i := range p {
		p[i] = float64(rapid.IntRange(0, 1000).Draw(t, "mass"))
		sum += p[i]
	}
	for i := range p {
		if sum == 0 {
			p[i] = 1 / float64(n)
		} else {
			p[i] /= sum
		}
	}
	return p
}

func same(t *rapid.T, what string, a, b []prediction.Prediction) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%s: %d labels became %d", what, len(a), len(b))
	}
	by := map[string]float64{}
	for _, p := range a {
		by[p.Label] = p.Probability
	}
	for _, p := range b {
		if q, ok := by[p.Label]; !ok || math.Abs(q-p.Probability) > 1e-9 {
			t.Fatalf("%s: %s had %v, now %v", what, p.Label, q, p.Probability)
		}
	}
}

func TestProperties(t *testing.T) {
	t.Run("sums to one, ordered, finite", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		out := d.pool.Answers(d.legs)
		var sum float64
		for i, p := range out {
			if math.IsNaN(p.Probability) || p.Probability < 0 || p.Probability > 1 {
				t.Fatalf("%v", out)
			}
			if i > 0 && out[i-1].Probability < p.Probability {
				t.Fatalf("not ordered: %v", out)
			}
			sum += p.Probability
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("sums to %v", sum)
		}
	}))
	t.Run("neither the legs' nor the labels' order matters", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		order := rapid.Permutation(indices(len(d.legs))).Draw(t, "order")
		q := drawn{pool: d.pool}
		q.pool.Weights = nil
		for _, i := range order {
			q.pool.Weights = append(q.pool.Weights, d.pool.Weights[i])
			q.legs = append(q.legs, rapid.Permutation(d.legs[i]).Draw(t, "labels"))
		}
		same(t, "permuted", d.pool.Answers(d.legs), q.pool.Answers(q.legs))
	}))
	t.Run("a uniform leg changes no ranking", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		d.legs = d.legs[:1] // all legs over one set of labels
		labels := make([]string, len(d.legs[0]))
		for i, p := range d.legs[0] {
			labels[i] = p.Label
		}
		for range d.pool.Weights[1:] {
			d.legs = append(d.legs, list(labels, simplex(t, len(labels))))
		}
		uniform := make([]float64, len(labels))
		for i := range uniform {
			uniform[i] = 1 / float64(len(labels))
		}
		before := d.pool.Answers(d.legs)
		d.pool.Weights = append(d.pool.Weights, rapid.Float64Range(0.01, 5).Draw(t, "weight"))
		after := d.pool.Answers(append(d.legs, list(labels, uniform)))
		p := map[string]float64{}
		for _, x := range after {
			p[x.Label] = x.Probability
		}
		for i := 1; i < len(before); i++ {
			// Near ties may fall either way by rounding.
			if before[i-1].Probability > before[i].Probability*(1+1e-9) && p[before[i-1].Label] < p[before[i].Label]*(1-1e-9) {
				t.Fatalf("%s and %s changed places", before[i-1].Label, before[i].Label)
			}
		}
	}))
	t.Run("one leg alone is its own calibrated answer", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		i := rapid.IntRange(0, len(d.legs)-1).Draw(t, "present")
		if len(d.legs) == 1 {
			d.pool.Weights, d.legs = append(d.pool.Weights, 1), append(d.legs, nil)
		}
		only := make([][]prediction.Prediction, len(d.legs))
		only[i] = d.legs[i]
		for _, p := range d.pool.Answers(only) {
			j := slices.IndexFunc(d.legs[i], func(q prediction.Prediction) bool { return q.Label == p.Label })
			if math.Abs(p.Probability-d.legs[i][j].Probability) > 1e-5 { // the floor's part
				t.Fatalf("%v became %v", d.legs[i][j], p)
			}
		}
	}))
	t.Run("a higher temperature is never surer", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		cold := d.pool.Answers(d.legs)[0].Probability
		d.pool.Temperature *= rapid.Float64Range(1, 4).Draw(t, "factor")
		if hot := d.pool.Answers(d.legs)[0].Probability; hot > cold+1e-9 {
			t.Fatalf("%v became %v", cold, hot)
		}
	}))
	t.Run("one leg more is between its absence and the whole", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		sum := func(n int) (s float64) {
			e, _ := d.pool.exponents(func(i int) bool { return i < n })
			for _, e := range e {
				s += e
			}
			return s
		}
		whole := sum(len(d.legs))
		for n := 1; n < len(d.legs); n++ {
			if s := sum(n); s < min(1, whole)-1e-9 || s > max(1, whole)+1e-9 {
				t.Fatalf("%d legs have exponents that sum to %v, outside of 1 and %v", n, s, whole)
			}
		}
	}))
	t.Run("a prior of no weight, or an even one, changes nothing", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		with := d.pool
		d.pool.PriorWeight, d.pool.Prior = 0, nil
		want := d.pool.Answers(d.legs)
		if with.Prior == nil || rapid.Bool().Draw(t, "even") {
			with.PriorWeight, with.Prior = 5, map[string]float64{"a": 0.5, "b": 0.5}
		} else {
			with.PriorWeight = 0
		}
		same(t, "with a prior that says nothing", want, with.Answers(d.legs))
	}))
	t.Run("more of the prior's weight favours the rarer", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		d.pool.Prior = map[string]float64{"a": 0.7, "b": 0.2, "c": 0.1}
		// Of b, in logarithms, to the rarer c; not known where a probability is
		// smaller than a float64 can say.
		ratio := func() (r float64, known bool) {
			p := map[string]float64{}
			for _, x := range d.pool.Answers(d.legs) {
				p[x.Label] = x.Probability
			}
			const normal = 0x1p-1022
			return math.Log(p["b"]) - math.Log(p["c"]), p["b"] >= normal && p["c"] >= normal
		}
		for i := range d.legs {
			d.legs[i] = list([]string{"a", "b", "c"}, simplex(t, 3))
		}
		d.pool.PriorWeight = 0
		before, known := ratio()
		d.pool.PriorWeight = rapid.Float64Range(0, 5).Draw(t, "weight")
		if after, ok := ratio(); ok && known && after > before+1e-6 {
			t.Fatalf("log p(b)/p(c) was %v, now %v", before, after)
		}
	}))
	t.Run("of the prior is divided out what the legs present hold twice", rapid.MakeCheck(func(t *rapid.T) {
		d := draw(t)
		last := 0.0
		for n := 1; n <= len(d.legs); n++ {
			_, u := d.pool.exponents(func(i int) bool { return i < n })
			whole := d.pool.PriorWeight / d.pool.Temperature
			if u < last-1e-9 || u > whole+1e-9 || n == len(d.legs) && u != whole || n == 1 && len(d.legs) > 1 && u != 0 {
				t.Fatalf("%d of %d legs: %v of %v, after %v", n, len(d.legs), u, whole, last)
			}
			last = u
		}
	}))
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestHostileNumbers(t *testing.T) {
	ab := []string{"a", "b"}
	p := Pool{Weights: []float64{MaxWeight, MaxWeight}, Temperature: MinTemperature}
	for name, prior := range map[string]map[string]float64{
		"no prior": nil, "zeros": {"a": 0, "b": 0}, "NaN": {"a": math.NaN()}, "infinite": {"a": math.Inf(1), "b": math.Inf(-1)}, "below 0": {"a": -1, "b": 2},
	} {
		p.PriorWeight, p.Prior = MaxWeight, prior
		out := p.Answers([][]prediction.Prediction{list(ab, []float64{0, 1}), list(ab, []float64{0.5, 0.5})})
		if sum := out[0].Probability + out[1].Probability; !(math.Abs(sum-1) <= 1e-9) {
			t.Errorf("prior %s: %v", name, out)
		}
	}
	for _, bad := range [][]float64{{math.NaN(), 0.5}, {math.Inf(1), 0}, {-1, 2}, {0, 0}} {
		out := p.Answers([][]prediction.Prediction{list(ab, bad), list(ab, []float64{0.5, 0.5})})
		if sum := out[0].Probability + out[1].Probability; !(math.Abs(sum-1) <= 1e-9) {
			t.Errorf("%v: %v", bad, out)
		}
	}
	if out := p.Answers(make([][]prediction.Prediction, 2)); len(out) != 0 {
		t.Errorf("no legs gave %v", out)
	}
}

func TestValidate(t *testing.T) {
	for name, p := range map[string]Pool{
		"no weights":           {Weights: nil, Temperature: 1},
		"zero weight":          {Weights: []float64{1, 0}, Temperature: 1},
		"negative weight":      {Weights: []float64{-1}, Temperature: 1},
		"not a number":         {Weights: []float64{math.NaN()}, Temperature: 1},
		"huge weight":          {Weights: []float64{math.Inf(1)}, Temperature: 1},
		"no temperature":       {Weights: []float64{1}, Temperature: 0},
		"prior below 0":        {Weights: []float64{1}, Temperature: 1, PriorWeight: -1},
		"prior is a NaN":       {Weights: []float64{1}, Temperature: 1, PriorWeight: math.NaN()},
		"huge prior":           {Weights: []float64{1}, Temperature: 1, PriorWeight: MaxWeight + 1},
		"temperature is a NaN": {Weights: []float64{1}, Temperature: math.NaN()},
	} {
		if p.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (Pool{Weights: []float64{1, 0.8}, Temperature: 1, PriorWeight: 0.4}).Validate(); err != nil {
		t.Error(err)
	}
}

// BenchmarkAnswers pools two legs of 80 labels.
func BenchmarkAnswers(b *testing.B) {
	labels, p := make([]string, 80), make([]float64, 80)
	prior := map[string]float64{}
	for i := range labels {
		labels[i], p[i] = "article type "+strconv.Itoa(i), 1.0/80
		prior[labels[i]] = 1.0 / 80
	}
	pool := product(0.4, prior)
	legs := [][]prediction.Prediction{list(labels, p), list(labels, p)}
	b.ReportAllocs()
	for b.Loop() {
		pool.Answers(legs)
	}
}
