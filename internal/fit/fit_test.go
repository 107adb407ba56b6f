package fit

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"aisle.dev/aisle/internal/reduce"
)

// drawn returns distributions over three labels and truths that were drawn
// from them.
func drawn(n int, seed uint64) ([][]float64, []int) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p, truth := make([][]float64, n), make([]int, n)
	for i := range p {
		p[i] = make([]float64, 3)
		for c := range p[i] {
			p[i][c] = rnd.NormFloat64() * 2
		}
		softmax(p[i])
		u := rnd.Float64()
		for truth[i] < 2 && u > p[i][truth[i]] {
			u -= p[i][truth[i]]
			truth[i]++
		}
	}
	return p, truth
}

func ones(n int) []float64 { return slices.Repeat([]float64{1}, n) }

// Ten copies of an answer that weigh a tenth each count as one.
func TestWeights(t *testing.T) {
	p, truth := drawn(500, 2)
	weight := ones(len(p))
	want, err := Temperature(p, truth, weight)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		weight[i] = 0.1
		for range 9 {
			p, truth, weight = append(p, p[i]), append(truth, truth[i]), append(weight, 0.1)
		}
	}
	got, err := Temperature(p, truth, weight)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got/want-1) > 0.01 {
		t.Errorf("temperature %.4f, but %.4f without copies", got, want)
	}
}

func softmax(x []float64) {
	sum := 0.0
	for i := range x {
		x[i] = math.Exp(x[i])
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
}

func TestTemperatureIsRecovered(t *testing.T) {
	for _, wrong := range []float64{0.5, 1, 2} {
		p, truth := drawn(20000, 1)
		for i := range p {
			reduce.Temper(p[i], p[i], wrong) // as a model that is too sure (0.5) or not sure enough (2)
		}
		got, err := Temperature(p, truth, ones(len(p)))
		if err != nil {
			t.Fatal(err)
		}
		if want := 1 / wrong; math.Abs(got/want-1) > 0.04 {
			t.Errorf("probabilities distorted by %v: temperature %.3f, want %.3f", wrong, got, want)
		}
	}
}

// evidence is what two legs say that see independent noisy evidence of the
// same truth, each with the prior in its answer.
func evidence(n int, prior []float64) (legs [][][]float64, truth []int) {
	rnd := rand.New(rand.NewPCG(3, 3))
	leg := func(truth int, noise float64) []float64 {
		x := make([]float64, 3) // log-likelihoods of a noisy observation of the truth's indicator
		for c := range x {
			x[c] = rnd.NormFloat64() * noise
		}
		x[truth]++
		for c := range x {
			x[c] = x[c]/(noise*noise) + math.Log(prior[c])
		}
		softmax(x)
		return x
	}
	for range n {
		y, u := 0, rnd.Float64()
		for y < 2 && u > prior[y] {
			u -= prior[y]
			y++
		}
		truth = append(truth, y)
		legs = append(legs, [][]float64{leg(y, 1), leg(y, 0.7)})
	}
	return legs, truth
}

// Under an even prior the pool that multiplies the legs is the right
// posterior; under another the prior has to be divided out once.
func TestPoolIsRecovered(t *testing.T) {
	even, uneven := []float64{1. / 3, 1. / 3, 1. / 3}, []float64{0.85, 0.1, 0.05}
	for _, tt := range []struct {
		name       string
		prior, fit []float64
		want       float64 // the prior's exponent
	}{
		{"no prior", even, nil, 0},
		{"a prior", uneven, uneven, 1},
		{"legs that do not hold it", even, uneven, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			legs, truth := evidence(6000, tt.prior)
			for i := range legs {
				reduce.Temper(legs[i][1], legs[i][1], 0.5) // the second exaggerates: it deserves half the weight
			}
			pool, err := Pool(tt.fit, View{Legs: legs, Truth: truth, Weight: ones(len(legs))})
			if err != nil {
				t.Fatal(err)
			}
			a, b, u := pool.Weights[0]/pool.Temperature, pool.Weights[1]/pool.Temperature, pool.PriorWeight/pool.Temperature
			if math.Abs(a-1) > 0.06 || math.Abs(b-0.5) > 0.03 || math.Abs(u-tt.want) > 0.06 {
				t.Errorf("exponents %.3f, %.3f and of the prior %.3f, want 1, 0.5 and %v", a, b, u, tt.want)
			}
			if max(pool.Weights[0], pool.Weights[1]) != 1 {
				t.Errorf("weights %v: the largest should be 1", pool.Weights)
			}
		})
	}
}

// A view of few, easy products counts as much as one of many, hard ones.
func TestPoolViewsCountAlike(t *testing.T) {
	say := func(p float64) []float64 { return []float64{p, 1 - p} }
	view := func(n int, first, second float64) (v View) {
		for i := range n {
			truth := 0
			if i%10 == 0 {
				truth = 1
			}
			v.Legs, v.Truth = append(v.Legs, [][]float64{say(first), say(second)}), append(v.Truth, truth)
		}
		v.Weight = ones(n)
		return v
	}
	a, err := Pool(nil, view(100, 0.9, 0.5), view(100, 0.7, 0.5))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Pool(nil, view(10, 0.9, 0.5), view(1000, 0.7, 0.5))
	if err != nil {
		t.Fatal(err)
	}
	if x, y := a.Weights[0]/a.Temperature, b.Weights[0]/b.Temperature; math.Abs(x-y) > 0.01 {
		t.Errorf("exponent %.3f, but %.3f when one view has fewer products", x, y)
	}
}

func TestNothingToFit(t *testing.T) {
	if _, err := Temperature(nil, nil, nil); err == nil {
		t.Error("a temperature was fitted to nothing")
	}
	if _, err := Pool(nil, View{Legs: [][][]float64{{{1, 0}}}, Truth: []int{0}, Weight: ones(1)}); err == nil {
		t.Error("a pool of one leg was fitted")
	}
	if _, err := Pool(nil); err == nil {
		t.Error("a pool was fitted to no view")
	}
	if _, err := Pool([]float64{1}, View{Legs: [][][]float64{{{1, 0}, {1, 0}}}, Truth: []int{0}, Weight: ones(1)}); err == nil {
		t.Error("a pool was fitted with a prior of other labels")
	}
}

// Answers that are certain, and wrong in one case of ten, are far from what
// they should be: that does not hide in which direction.
func TestTemperatureOfCertainAnswers(t *testing.T) {
	p, truth := make([][]float64, 100), make([]int, 100)
	for i := range p {
		p[i] = []float64{1 - 2e-9, 1e-9, 1e-9}
		if i%10 == 0 {
			truth[i] = 1
		}
	}
	got, err := Temperature(p, truth, ones(100))
	if err != nil {
		t.Fatal(err)
	}
	if got < 4.9 {
		t.Errorf("temperature %.3f, want the greatest", got)
	}
}
