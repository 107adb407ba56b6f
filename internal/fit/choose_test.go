package fit

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/reduce"
)

// views of products as evidence draws them, ten of a group each.
func views(n int, prior []float64) []View {
	legs, truth := evidence(n, prior)
	v := View{Legs: legs, Truth: truth}
	for i := range n {
		v.Group = append(v.Group, i/10)
	}
	v.Weight = Shares(v.Group)
	return []View{v}
}

func labels() []string { return []string{"a", "b", "c"} }

// Where the legs are independent the pool is the right posterior: nothing can
// beat it, and a stack shrinks to it.
func TestChooseKeepsThePoolThatIsRight(t *testing.T) {
	even := []float64{1. / 3, 1. / 3, 1. / 3}
	last := 0
	c, err := Choose(t.Context(), Data{Labels: labels(), Prior: even, Views: views(1000, even)}, func(done, of int) {
		if done != last+1 || done > of {
			t.Errorf("told %d of %d after %d", done, of, last)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Best() != LogPoolName {
		t.Errorf("%s: gain %v, error %v", c.Best(), c.Gain, c.Error)
	}
	if a, b := c.Held[LogPoolName], c.Held[LinPoolName]; a.Loss >= b.Loss || a.Accuracy < b.Accuracy {
		t.Errorf("logpool %+v is no better than linpool %+v", a, b)
	}
	for _, p := range c.Held[LogPoolName].Calibration {
		if math.Abs(p.Temperature-1) > 0.1 {
			t.Errorf("legs %v, calibrated already, have temperature %v", p.Legs, p.Temperature)
		}
	}
	if n := len(c.Held[LogPoolName].Calibration); n != 3 {
		t.Errorf("%d patterns are calibrated, want both legs and each alone", n)
	}
}

// Two labels that the second leg confuses in one direction: a stack sees it, a
// pool cannot.
func TestChooseTakesTheStackThatSeesMore(t *testing.T) {
	even := []float64{1. / 3, 1. / 3, 1. / 3}
	vs := views(1000, even)
	for _, said := range vs[0].Legs {
		said[1][0], said[1][1], said[1][2] = said[1][1], said[1][2], said[1][0]
	}
	c, err := Choose(t.Context(), Data{Labels: labels(), Views: vs}, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	if c.Best() != StackName || c.Held[StackName].Accuracy < c.Held[LogPoolName].Accuracy+0.05 {
		t.Errorf("%s: gain %v, error %v, %+v", c.Best(), c.Gain, c.Error, c.Held)
	}
	again, err := Choose(t.Context(), Data{Labels: labels(), Views: vs}, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Held, again.Held); diff != "" {
		t.Errorf("the same data give other figures (-first +second):\n%s", diff)
	}
}

func TestChooseNeedsProducts(t *testing.T) {
	vs := views(30, []float64{0.5, 0.3, 0.2})
	if _, err := Choose(t.Context(), Data{Labels: labels(), Views: vs}, func(int, int) {}); err == nil {
		t.Error("three groups were put into five folds")
	}
	if _, err := Choose(t.Context(), Data{Labels: labels()}, func(int, int) {}); err == nil {
		t.Error("fitted to nothing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Choose(ctx, Data{Labels: labels(), Views: views(300, []float64{0.5, 0.3, 0.2})}, func(int, int) {}); err == nil {
		t.Error("went on though it was cancelled")
	}
}

func TestFoldsKeepGroupsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := View{Legs: make([][][]float64, rapid.IntRange(20, 200).Draw(t, "products"))}
		for range v.Legs {
			v.Group = append(v.Group, rapid.IntRange(0, 30).Draw(t, "group"))
		}
		parts, err := folds([]View{v, v})
		if err != nil {
			t.Skip("too few groups")
		}
		of := map[int]int{}
		for _, part := range parts {
			for i, p := range part {
				if q, seen := of[v.Group[i]]; seen && p != q {
					t.Fatalf("group %d is in parts %d and %d", v.Group[i], p, q)
				}
				of[v.Group[i]] = p
			}
		}
	})
}

func TestLinPoolIsRecovered(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	p, _ := drawn(8000, 1)
	q, _ := drawn(8000, 2)
	v := View{Weight: ones(len(p))}
	for i := range p {
		from := p[i] // three of four truths are the first leg's to draw
		if rnd.Float64() < 0.25 {
			from = q[i]
		}
		truth, u := 0, rnd.Float64()
		for truth < 2 && u > from[truth] {
			u -= from[truth]
			truth++
		}
		v.Legs, v.Truth = append(v.Legs, [][]float64{p[i], q[i]}), append(v.Truth, truth)
	}
	pool, err := LinPool(v)
	if err != nil {
		t.Fatal(err)
	}
	if got := pool.Weights[1] / (pool.Weights[0] + pool.Weights[1]); math.Abs(got-0.25) > 0.04 || pool.Weights[0] != 1 {
		t.Errorf("weights %v: want the second to have a quarter", pool.Weights)
	}
}

func TestVoteWeighsByHowOftenALegIsRight(t *testing.T) {
	say := func(right bool) []float64 {
		if right {
			return []float64{0.8, 0.1, 0.1}
		}
		return []float64{0.1, 0.8, 0.1}
	}
	v := View{Weight: ones(1000), Truth: make([]int, 1000)}
	for i := range 1000 {
		v.Legs = append(v.Legs, [][]float64{say(i%10 != 0), say(i%2 == 0), say(i%10 == 0)})
	}
	vote, err := Vote(v)
	if err != nil {
		t.Fatal(err)
	}
	want := []float64{1, math.Log(2) / math.Log(18), 1e-3} // right in 90 %, 50 % and 10 % of cases, over three labels
	for i, w := range vote.Weights {
		if math.Abs(w-want[i]) > 0.01 {
			t.Errorf("weights %v, want about %v", vote.Weights, want)
			break
		}
	}
}

// The loss that is fitted is that of what serves.
func TestLossIsThePools(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prior := []float64{0.6, 0.3, 0.1}
		v := views(20, prior)[0]
		x := []float64{rapid.Float64Range(0.01, 5).Draw(t, "a"), rapid.Float64Range(0.01, 5).Draw(t, "b"), rapid.Float64Range(0, 5).Draw(t, "u")}
		pool := reduce.Pool{Weights: x[:2], Temperature: 1, PriorWeight: x[2]}
		want, out := 0.0, make([]float64, 3)
		for i, said := range v.Legs {
			pool.Fuse(out, said, prior)
			want -= v.Weight[i] * math.Log(max(out[v.Truth[i]], 1e-12))
		}
		if got := v.loss(prior)(x); math.Abs(got-want/sum(v.Weight)) > 1e-9*max(1, got) {
			t.Fatalf("loss %v, the pool's is %v", got, want/sum(v.Weight))
		}
	})
}

func TestLbfgs(t *testing.T) {
	// A badly scaled bowl, and the gradient that is told is its own.
	scale := []float64{1, 100, 0.01, 7}
	x := []float64{5, -3, 40, 1}
	lbfgs(x, func(x, grad []float64) (f float64) {
		for i, v := range x {
			f += scale[i] * (v - 1) * (v - 1)
			grad[i] = 2 * scale[i] * (v - 1)
		}
		return f + 1
	}, 1e-14, 500)
	for _, v := range x {
		if math.Abs(v-1) > 1e-3 {
			t.Errorf("%v, want ones", x)
			break
		}
	}
}

func TestStackOfGreatPenaltyIsThePool(t *testing.T) {
	vs := views(500, []float64{0.5, 0.3, 0.2})
	pool := reduce.Pool{Weights: []float64{1, 0.5}, Temperature: 1}
	s, err := newStackFit(pool, nil, vs)
	if err != nil {
		t.Fatal(err)
	}
	x := s.start()
	s.minimise(x, 1e6)
	if most := max(slices.Max(x), -slices.Min(x)); most > 1e-4 {
		t.Errorf("a coefficient of %v", most)
	}
}

func TestPatterns(t *testing.T) {
	for n, want := range map[int][][]int{
		1: {{0}}, 2: {{0, 1}, {0}, {1}}, 3: {{0, 1, 2}, {1, 2}, {0, 2}, {0, 1}, {0}, {1}, {2}},
	} {
		if diff := cmp.Diff(want, Patterns(n)); diff != "" {
			t.Errorf("%d legs (-want +got):\n%s", n, diff)
		}
	}
}

func TestShares(t *testing.T) {
	if diff := cmp.Diff([]float64{0.5, 1, 0.5}, Shares([]int{1, 2, 1})); diff != "" {
		t.Errorf("shares (-want +got):\n%s", diff)
	}
}
