package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"aisle.dev/aisle/cmd/aisle/internal/curves"
	"aisle.dev/aisle/cmd/aisle/internal/offline"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/draw"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/score"
	"aisle.dev/aisle/internal/taxonomy"
)

// backoffThresholds are those that --backoff tries: every hundredth, and every
// thousandth from 0.9 on.
func backoffThresholds() (out []float64) {
	for i := 1; i < 90; i++ {
		out = append(out, float64(i)/100)
	}
	for i := 900; i < 1000; i++ {
		out = append(out, float64(i)/1000)
	}
	return out
}

// backer answers products again at each threshold. The nil one does nothing.
type backer struct {
	tree       *taxonomy.Tree
	thresholds []float64
	own        []float64 // the composition's, if it backs off: one step more
	products   [][]score.Step
}

// backing is nil where --backoff is not given.
func (a *app) backing(ctx context.Context, on bool, path string) (*backer, error) {
	if !on {
		return nil, nil
	}
	spec, err := a.composition(ctx, path)
	if err != nil {
		return nil, err
	}
	if spec.Taxonomy == nil {
		return nil, usagef("--backoff: the composition %s has no taxonomy; there is nothing to back off to", spec.Name)
	}
	return &backer{tree: spec.Taxonomy, thresholds: backoffThresholds(), own: spec.Backoff}, nil
}

// add takes an answer with its whole distribution.
func (b *backer) add(truth string, r category.Result) error {
	if b == nil || r.Category == nil {
		return nil
	}
	var sum float64
	for _, p := range r.Candidates {
		sum += p.Probability
	}
	if sum < 0.99 {
		return fmt.Errorf("product %s: %w: it has not all candidates; ask again with: aisle evaluate --save FILE", r.ID, offline.ErrUntold)
	}
	steps := make([]score.Step, 0, len(b.thresholds)+1)
	for _, t := range b.thresholds {
		steps = append(steps, b.step(truth, r.Candidates, []float64{t}))
	}
	if b.own != nil {
		steps = append(steps, b.step(truth, r.Candidates, b.own))
	}
	b.products = append(b.products, steps)
	return nil
}

func (b *backer) step(truth string, dist []prediction.Prediction, thresholds []float64) score.Step {
	n, _, sure := b.tree.Answer(dist, thresholds)
	if !sure {
		return score.Step{}
	}
	path := []string{truth}
	if leaf, ok := b.tree.Leaf(truth); ok {
		path = leaf.Path
	}
	return score.Step{Level: int8(n.Level), Leaf: n.Label != "", Right: len(n.Path) <= len(path) && slices.Equal(n.Path, path[:len(n.Path)])}
}

// backoffReport is what --backoff tells.
type backoffReport struct {
	Products int         `json:"products"`
	At       []backoffAt `json:"at"`            // each of precisions
	Own      *backoffOwn `json:"own,omitempty"` // where the composition backs off
	all      []score.BackOff
}

// backoffAt is the coverage at a precision, backing off and without that.
type backoffAt struct {
	Precision float64         `json:"precision"`
	Found     *score.BackOff  `json:"found"`    // null where no threshold gives the precision
	Interval  score.Interval  `json:"interval"` // of its share
	Without   *score.Coverage `json:"without"`
}

// backoffOwn is what the composition's own thresholds give.
type backoffOwn struct {
	Thresholds []float64 `json:"thresholds"`
	score.BackOff
}

func (b *backer) report(fused figures) *backoffReport {
	if b == nil || len(b.products) == 0 {
		return nil
	}
	r := &backoffReport{Products: len(b.products)}
	columns := slices.Clone(b.thresholds)
	if b.own != nil {
		columns = append(columns, b.own[0])
	}
	r.all = score.BackOffs(b.products, columns)
	if b.own != nil {
		r.Own = &backoffOwn{b.own, r.all[len(b.thresholds)]}
		r.all = r.all[:len(b.thresholds)]
		for i := range b.products {
			b.products[i] = b.products[i][:len(b.thresholds)]
		}
	}
	for i, p := range precisions {
		at, interval := score.BackOffAt(b.products, r.all, p, seed)
		row := backoffAt{Precision: p, Interval: interval, Without: &fused.Coverage[i]}
		if at >= 0 {
			row.Found = &r.all[at]
		}
		r.At = append(r.At, row)
	}
	return r
}

func (a *app) showBackoff(r *backoffReport) {
	deepest := 0
	for _, b := range r.all {
		deepest = max(deepest, len(b.Levels))
	}
	names := []string{"RIGHT", ">FROM", ">ANSWERED", "95 %", ">LEAVES"}
	for level := deepest; level > 0; level-- {
		names = append(names, fmt.Sprintf(">LEVEL %d", level))
	}
	names = append(names, ">LEAVES ALONE")
	share := func(v float64) screen.Cell { return screen.Cell{Text: fmt.Sprintf("%.4f", v)} }
	levels := func(b score.BackOff) (cells []screen.Cell) {
		cells = append(cells, share(b.Leaf))
		for level := deepest; level > 0; level-- {
			v := 0.0
			if level <= len(b.Levels) {
				v = b.Levels[level-1]
			}
			cells = append(cells, share(v))
		}
		return cells
	}
	var rows [][]screen.Cell
	for _, at := range r.At {
		cells := []screen.Cell{{Text: fmt.Sprintf("%g %%", 100*at.Precision)}}
		if at.Found == nil {
			cells = append(cells, unknown, share(0), unknown, unknown)
			for range deepest {
				cells = append(cells, unknown)
			}
		} else {
			cells = append(cells, screen.Cell{Text: fmt.Sprintf("%g", at.Found.Threshold)}, screen.Cell{Text: fmt.Sprintf("%.4f", at.Found.Share), Colour: screen.Bold},
				screen.Cell{Text: fmt.Sprintf("%.4f-%.4f", at.Interval.Low, at.Interval.High), Colour: screen.Dim})
			cells = append(cells, levels(*at.Found)...)
		}
		rows = append(rows, append(cells, share(at.Without.Share)))
	}
	if o := r.Own; o != nil {
		var from []string
		for _, t := range o.Thresholds {
			from = append(from, fmt.Sprintf("%g", t))
		}
		cells := []screen.Cell{{Text: fmt.Sprintf("%.2f %%, as composed", 100*o.Right)}, {Text: strings.Join(from, ", ")}, {Text: fmt.Sprintf("%.4f", o.Share), Colour: screen.Bold}, {}}
		rows = append(rows, append(append(cells, levels(o.BackOff)...), screen.Cell{}))
	}
	a.out.Printf("\nBacking off to the deepest category that is sure enough: shares of all %s\n", plural(r.Products, "product"))
	screen.Write(a.out, left(names...), rows)
}

// curve is the risk against the share that is answered, for a figure.
func (r *backoffReport) curve(series int) curves.Curve {
	c := curves.Curve{Series: series}
	for _, b := range slices.Backward(r.all) { // the surest first
		if b.Share >= 0.02 {
			c.Points = append(c.Points, draw.At(b.Share, 1-b.Right))
		}
	}
	return c
}
