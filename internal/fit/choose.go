package fit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"aisle.dev/aisle/internal/reduce"
)

// The reducers, by the names that a composition has for them.
const (
	LogPoolName = "logpool"
	LinPoolName = "linpool"
	VoteName    = "vote"
	StackName   = "stack"
)

// Names are all reducers.
func Names() []string { return []string{LogPoolName, LinPoolName, VoteName, StackName} }

// penalties are those that the cross-validation of a stack chooses from,
// falling, so that each fit begins where the one before ended.
func penalties() []float64 { return []float64{1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4} }

// Folds is how many parts the cross-validation has.
const Folds = 5

// minProducts is how many held-out products a pattern needs to have a
// temperature fitted.
const minProducts = 50

// Data is what reducers are fitted to.
type Data struct {
	Labels []string
	Prior  []float64 // each label's share; nil: none is divided out
	Views  []View    // they count alike
}

// Reducers are one of each kind, fitted to the same data.
type Reducers struct {
	Pool    reduce.Pool
	LinPool reduce.LinPool
	Vote    reduce.Vote
	Stack   *reduce.Stack
}

// Fuse reduces by one of them, over the labels of the data.
func (r Reducers) Fuse(name string, out []float64, legs [][]float64, prior []float64) {
	switch name {
	case LogPoolName:
		r.Pool.Fuse(out, legs, prior)
	case LinPoolName:
		r.LinPool.Fuse(out, legs)
	case VoteName:
		r.Vote.Fuse(out, legs)
	case StackName:
		r.Stack.Fuse(out, legs, prior)
	}
}

// Held is how good a reducer is for products that it was not fitted to, as
// all legs answered them, and its calibration, fitted to the same answers.
type Held struct {
	Loss        float64          `json:"loss"` // mean negative log-likelihood, calibrated
	Accuracy    float64          `json:"accuracy"`
	Calibration []reduce.Pattern `json:"calibration"`
}

// Choice is what [Choose] found.
type Choice struct {
	Reducers
	Held    map[string]Held
	Penalty float64 // of the stack
	// Gain is by how much the stack's loss is lower than the logpool's, and
	// Error its standard error over groups of products.
	Gain, Error float64
}

// Best is the stack if cross-validation shows that it beats the logpool: its
// loss is lower by more than twice the standard error, and it is right no less
// often. Else it is the logpool, which has a few numbers where the stack has
// thousands.
func (c Choice) Best() string {
	if c.Gain > 2*c.Error && c.Held[StackName].Accuracy >= c.Held[LogPoolName].Accuracy {
		return StackName
	}
	return LogPoolName
}

// Choose fits each kind of reducer, its calibration by pattern of legs present
// ([Patterns]) and the stack's penalty, by cross-validation in [Folds] parts
// that no group of products crosses. progress is told how much is done.
func Choose(ctx context.Context, d Data, progress func(done, of int)) (Choice, error) {
	if err := check(d.Prior, d.Views); err != nil {
		return Choice{}, fmt.Errorf("fit reducers: %w", err)
	}
	fold, err := folds(d.Views)
	if err != nil {
		return Choice{}, err
	}
	steps := len(penalties()) + 1
	done := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		n := 0
		for range done {
			n++
			progress(n, (Folds+1)*steps)
		}
	}()
	tell := func() { done <- struct{}{} }
	defer func() { close(done); <-told }()

	parts := make([][]Reducers, Folds) // one for each penalty
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for k := range Folds {
		g.Go(func() (err error) {
			var rest []View
			for v, view := range d.Views {
				rest = append(rest, view.where(func(i int) bool { return fold[v][i] != k }))
			}
			parts[k], err = d.fit(gctx, rest, penalties(), tell)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Choice{}, err
	}
	c := Choice{Held: map[string]Held{}}
	var pool, stack heldOut
	for _, name := range Names() {
		tried := 1
		if name == StackName {
			tried = len(penalties())
		}
		for p := range tried {
			answers := d.heldOut(fold, func(k int) Reducers { return parts[k][p] }, name)
			calibration, err := answers.calibrate()
			if err != nil {
				return c, err
			}
			h := Held{Loss: answers.loss(), Accuracy: answers.accuracy(), Calibration: calibration}
			if best, ok := c.Held[name]; ok && best.Loss <= h.Loss {
				continue
			}
			c.Held[name] = h
			switch name {
			case LogPoolName:
				pool = answers
			case StackName:
				stack, c.Penalty = answers, penalties()[p]
			}
		}
	}
	c.Gain, c.Error = gain(pool, stack)
	path := penalties()
	path = path[:slices.Index(path, c.Penalty)+1]
	all, err := d.fit(ctx, d.Views, path, tell)
	if err != nil {
		return c, err
	}
	c.Reducers = all[len(all)-1]
	return c, nil
}

// folds puts each product into a part, groups whole, the largest group first
// into the part that has least.
func folds(views []View) ([][]int, error) {
	size := map[int]int{}
	group := func(v View, i int) int {
		if v.Group == nil {
			return i
		}
		return v.Group[i]
	}
	for _, v := range views {
		for i := range v.Legs {
			size[group(v, i)]++
		}
	}
	if len(size) < Folds {
		return nil, fmt.Errorf("there are %d products that are not alike: want at least %d to compare reducers", len(size), Folds)
	}
	part, filled := map[int]int{}, make([]int, Folds)
	for _, g := range slices.SortedFunc(maps.Keys(size), func(a, b int) int { return cmp.Or(cmp.Compare(size[b], size[a]), cmp.Compare(a, b)) }) {
		least := slices.Index(filled, slices.Min(filled))
		part[g] = least
		filled[least] += size[g]
	}
	out := make([][]int, len(views))
	for k, v := range views {
		for i := range v.Legs {
			out[k] = append(out[k], part[group(v, i)])
		}
	}
	return out, nil
}

// fit fits each kind to some views, and a stack for each penalty, which fall.
func (d Data) fit(ctx context.Context, views []View, penalties []float64, tell func()) ([]Reducers, error) {
	var r Reducers
	var err error
	if r.Pool, err = Pool(d.Prior, views...); err != nil {
		return nil, err
	}
	r.Pool = roundedPool(r.Pool)
	if d.Prior != nil {
		r.Pool.Prior = map[string]float64{}
		for y, label := range d.Labels {
			r.Pool.Prior[label] = d.Prior[y]
		}
	}
	if r.LinPool, err = LinPool(views...); err != nil {
		return nil, err
	}
	if r.Vote, err = Vote(views...); err != nil {
		return nil, err
	}
	r.LinPool.Weights, r.Vote.Weights = roundedAll(r.LinPool.Weights), roundedAll(r.Vote.Weights)
	s, err := newStackFit(r.Pool, d.Prior, views)
	if err != nil {
		return nil, err
	}
	tell()
	var out []Reducers
	x := s.start()
	for _, penalty := range penalties {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.minimise(x, penalty)
		if r.Stack, err = s.stack(r.Pool, d.Labels, x); err != nil {
			return nil, err
		}
		out = append(out, r)
		tell()
	}
	return out, nil
}

// roundedPool keeps three digits: what the data can tell, and a person can read.
func roundedPool(p reduce.Pool) reduce.Pool {
	return reduce.Pool{Weights: roundedAll(p.Weights), Temperature: round(p.Temperature, 3), PriorWeight: round(p.PriorWeight, 3)}
}

func roundedAll(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = max(round(v, 3), 1e-3)
	}
	return out
}

// heldOut is what a reducer says of products by parts that it was not fitted
// to, for each pattern of legs present.
type heldOut struct{ patterns []heldPattern }

type heldPattern struct {
	legs   []int
	p      [][]float64
	truth  []int
	weight []float64 // all sum to 1
	group  []int
	temper float64
}

func (d Data) heldOut(fold [][]int, part func(fold int) Reducers, name string) heldOut {
	var out heldOut
	for _, legs := range Patterns(len(d.Views[0].Legs[0])) {
		h := heldPattern{legs: legs, temper: 1}
		for v, view := range d.Views {
			all := sum(view.Weight) * float64(len(d.Views))
			for i, said := range view.Legs {
				present := Only(said, legs)
				if present == nil {
					continue
				}
				p := make([]float64, len(d.Labels))
				part(fold[v][i]).Fuse(name, p, present, d.Prior)
				h.p, h.truth, h.weight = append(h.p, p), append(h.truth, view.Truth[i]), append(h.weight, view.Weight[i]/all)
				g := i
				if view.Group != nil {
					g = view.Group[i]
				}
				h.group = append(h.group, g)
			}
		}
		out.patterns = append(out.patterns, h)
	}
	return out
}

// calibrate fits the patterns' temperatures.
func (h heldOut) calibrate() ([]reduce.Pattern, error) {
	var out []reduce.Pattern
	for k := range h.patterns {
		p := &h.patterns[k]
		if len(p.p) < minProducts {
			continue
		}
		t, err := Temperature(p.p, p.truth, p.weight)
		if err != nil {
			return nil, err
		}
		p.temper = round(t, 3)
		out = append(out, reduce.Pattern{Legs: p.legs, Temperature: p.temper})
	}
	return out, nil
}

// losses are the calibrated losses of each product that all legs answered.
func (h heldOut) losses() []float64 {
	whole := h.patterns[0]
	out := make([]float64, len(whole.p))
	var p []float64
	for i := range whole.p {
		p = append(p[:0], whole.p[i]...)
		reduce.Temper(p, p, whole.temper)
		out[i] = -math.Log(max(p[whole.truth[i]], 1e-12))
	}
	return out
}

func (h heldOut) loss() float64 {
	return dot(h.losses(), h.patterns[0].weight) / sum(h.patterns[0].weight)
}

func (h heldOut) accuracy() float64 {
	whole, right := h.patterns[0], 0.0
	for i, p := range whole.p {
		if best(p) == whole.truth[i] {
			right += whole.weight[i]
		}
	}
	return right / sum(whole.weight)
}

// gain is how much lower b's loss is than a's for the same products, and its
// standard error with products of one group taken as one observation.
func gain(a, b heldOut) (mean, deviation float64) {
	whole := a.patterns[0]
	la, lb := a.losses(), b.losses()
	all := sum(whole.weight)
	for i, w := range whole.weight {
		mean += w / all * (la[i] - lb[i])
	}
	byGroup := map[int]float64{}
	for i, w := range whole.weight {
		byGroup[whole.group[i]] += w / all * (la[i] - lb[i] - mean)
	}
	for _, g := range slices.Sorted(maps.Keys(byGroup)) { // sorted: sums of floats depend on order
		deviation += byGroup[g] * byGroup[g]
	}
	return mean, math.Sqrt(deviation)
}
