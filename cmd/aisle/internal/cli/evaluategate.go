package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/cmd/aisle/internal/curves"
	"aisle.dev/aisle/cmd/aisle/internal/gating"
	"aisle.dev/aisle/cmd/aisle/internal/offline"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/cmd/aisle/internal/stored"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/draw"
	"aisle.dev/aisle/internal/score"
)

// gateFlags say which gate is swept.
type gateFlags struct {
	leg, on, chosenOn string
	maxLoss           float64
}

func (g *gateFlags) flags(cmd *cobra.Command) {
	s := cmd.Flags()
	s.StringVar(&g.leg, "gate-sweep", "", "find a gate for this leg: how many products need it")
	s.StringVar(&g.on, "gate-on", "", "the leg whose confidence and margin the gate looks at (default: the first one that is not gated)")
	s.Float64Var(&g.maxLoss, "max-loss", 0.2, "with --gate-sweep: points of accuracy (of 100) that a gate is expected to lose at most")
	s.StringVar(&g.chosenOn, "chosen-on", "", "with --gate-sweep: choose the thresholds on these stored answers, and report them on FILE")
}

func (g *gateFlags) check() error {
	switch {
	case g.leg == "" && (g.on != "" || g.chosenOn != ""):
		return usagef("--gate-on and --chosen-on are for --gate-sweep LEG")
	case !(g.maxLoss >= 0 && g.maxLoss <= 100):
		return usagef("--max-loss %v: use points of accuracy, from 0 to 100", g.maxLoss)
	}
	return nil
}

// sweeper answers products again with a leg and without it. The nil one does
// nothing.
type sweeper struct {
	*gateFlags
	composer *offline.Composer
	cases    []gating.Case
}

// gateSweep is nil where no sweep is asked for.
func (a *app) gateSweep(ctx context.Context, f *gateFlags, file string) (*sweeper, error) {
	if f.leg == "" {
		return nil, nil
	}
	spec, err := a.composition(ctx, file)
	if err != nil {
		return nil, err
	}
	// What is swept is how the answers change by this gate alone.
	spec = ungated(spec, f.leg)
	var others []string
	for _, i := range spec.Counted() {
		if name := spec.Legs[i].Name; name != f.leg {
			others = append(others, name)
		}
	}
	if len(others) == len(spec.Counted()) {
		return nil, usagef("--gate-sweep %s: the composition %s has no such leg that counts; there are: %s", f.leg, spec.Name, strings.Join(others, ", "))
	}
	if len(others) == 0 {
		return nil, usagef("--gate-sweep %s: it is the only leg of the composition %s; there is none that a gate could look at", f.leg, spec.Name)
	}
	if f.on == "" {
		f.on = others[0]
	}
	if !slices.Contains(others, f.on) {
		return nil, usagef("--gate-on %s: the composition %s has no other leg of that name that counts; there are: %s", f.on, spec.Name, strings.Join(others, ", "))
	}
	s := &sweeper{gateFlags: f}
	s.composer, err = offline.New(spec)
	return s, err
}

// ungated is a composition in which a leg has no gate.
func ungated(spec *composition.Composition, leg string) *composition.Composition {
	out := *spec
	out.Legs = slices.Clone(spec.Legs)
	for i := range out.Legs {
		if out.Legs[i].Name == leg {
			out.Legs[i].When, out.Legs[i].After = nil, nil
		}
	}
	return &out
}

// composition reads a composition file, or that of the one composer that runs.
func (a *app) composition(ctx context.Context, path string) (*composition.Composition, error) {
	if path != "" {
		return composition.Load(path)
	}
	p, err := a.place()
	if err != nil {
		return nil, err
	}
	services, _, err := objects.List[*servingv1.Service](ctx, p.Objects(), objects.Service, a.named(p), "")
	if err != nil {
		return nil, fmt.Errorf("look for the composition that runs (or give one with --composition FILE): %w", err)
	}
	var found *composition.Composition
	for _, s := range services {
		file, err := compositionOf(ctx, p, s)
		switch {
		case err != nil:
			return nil, fmt.Errorf("read the composition of %s: %w", s.Name, err)
		case file != nil && found != nil:
			return nil, usagef("there are several composers in namespace %s: give the composition with --composition FILE", a.named(p))
		case file != nil:
			if found, err = file.parse(); err != nil {
				return nil, fmt.Errorf("read the composition of %s: %w", s.Name, err)
			}
		}
	}
	if found == nil {
		return nil, usagef("there is no composer in namespace %s whose composition is in a ConfigMap: give it with --composition FILE", a.named(p))
	}
	return found, nil
}

// add takes an answer, of a product that all legs answered.
func (s *sweeper) add(e *evaluation, truth string, r category.Result) error {
	if s == nil || !everyLegAnswered(r) {
		return nil
	}
	at := slices.IndexFunc(r.Legs, func(l category.Leg) bool { return l.Name == s.on })
	if at < 0 {
		return fmt.Errorf("product %s: its answer has no leg %s; another composition gave it", r.ID, s.on)
	}
	c := gating.Case{Sure: map[gating.Measure]float64{gating.Confidence: r.Legs[at].Confidence, gating.Margin: offline.Margin(r.Legs[at])}}
	with, err := s.composer.Answer(r)
	if err != nil {
		return err
	}
	without, err := s.composer.Answer(r, s.leg)
	if err != nil {
		return err
	}
	answer := func(r category.Result) score.Answer {
		if r.Category == nil {
			return score.Answer{Truth: e.class(truth), Said: e.class("")}
		}
		return score.Answer{Truth: e.class(truth), Said: e.class(r.Category.Label), Confidence: r.Category.Confidence}
	}
	c.With, c.Without = answer(with), answer(without)
	c.Loss = c.With.Confidence
	if without.Category != nil {
		for _, p := range with.Candidates {
			if p.Label == without.Category.Label {
				c.Loss -= p.Probability
			}
		}
	}
	s.cases = append(s.cases, c)
	return nil
}

// gateReport is what --gate-sweep tells.
type gateReport struct {
	Leg      string       `json:"leg"`
	On       string       `json:"on"`
	MaxLoss  float64      `json:"maxLoss"`  // points of accuracy
	Products int          `json:"products"` // that all legs answered
	ChosenOn string       `json:"chosenOn,omitempty"`
	Always   float64      `json:"always"` // accuracy with the leg woken for all
	Never    float64      `json:"never"`
	Gates    []measuredBy `json:"gates"` // the cheapest first
}

// measuredBy is the cheapest gate by one measure.
type measuredBy struct {
	Measure   gating.Measure `json:"measure"`
	Threshold float64        `json:"threshold"`
	When      string         `json:"when"`
	gating.Result
	Curve []gating.Point `json:"curve"`
	whole []gating.Point // what Curve is thinned of
}

// curvePoints bounds how many gates of a sweep are told.
const curvePoints = 200

// sweep finds the cheapest gate by each measure.
func (a *app) sweep(s *sweeper, name string, f *evaluateFlags) (*gateReport, error) {
	if len(s.cases) == 0 {
		return nil, fmt.Errorf("no product of %s was answered by every leg; a gate can only be told of those", name)
	}
	from := s.cases
	if s.chosenOn != "" {
		file, err := os.Open(s.chosenOn)
		if err != nil {
			return nil, fmt.Errorf("open the answers of --chosen-on: %w", err)
		}
		defer file.Close()
		other, e := &sweeper{gateFlags: s.gateFlags, composer: s.composer}, newEvaluation()
		err = stored.Read(file, s.chosenOn, func(ans stored.Answer) error {
			if ans.Truth == "" {
				return fmt.Errorf("%s: the answer about %s does not say which category is right", s.chosenOn, ans.ID)
			}
			return other.add(e, ans.Truth, ans.Result)
		})
		if err != nil {
			return nil, err
		}
		if from = other.cases; len(from) == 0 {
			return nil, fmt.Errorf("no product of %s was answered by every leg", s.chosenOn)
		}
	}
	r := &gateReport{Leg: s.leg, On: s.on, MaxLoss: s.maxLoss, Products: len(s.cases), ChosenOn: s.chosenOn}
	for _, m := range gating.Measures {
		threshold := gating.Cheapest(gating.Sweep(from, m), s.maxLoss/100).Threshold
		points := gating.Sweep(s.cases, m)
		r.Never, r.Always = points[0].Accuracy, points[len(points)-1].Accuracy
		r.Gates = append(r.Gates, measuredBy{m, threshold, gating.When(s.on, m, threshold), gating.Apply(s.cases, m, threshold), gating.Thinned(points, curvePoints), points})
	}
	slices.SortStableFunc(r.Gates, func(x, y measuredBy) int { return cmp.Compare(x.Woken, y.Woken) })
	return r, nil
}

func (a *app) showGate(r *gateReport) {
	a.out.Printf("\nA gate for leg %s, by how sure %s is, over the %s that all legs answered:\n", screen.Clean(r.Leg), screen.Clean(r.On), plural(r.Products, "product"))
	a.out.Printf("  %.4f right with %s woken for all of them, %.4f for none\n\n", r.Always, screen.Clean(r.Leg), r.Never)
	var rows [][]screen.Cell
	for _, g := range r.Gates {
		rows = append(rows, []screen.Cell{{Text: g.When, Colour: screen.Bold}, {Text: fmt.Sprintf("%.2f %%", 100*g.Woken)},
			{Text: fmt.Sprintf("%.2f-%.2f", 100*g.WokenInterval.Low, 100*g.WokenInterval.High), Colour: screen.Dim}, {Text: fmt.Sprintf("%.2f", 100*g.ExpectedLoss)},
			{Text: fmt.Sprintf("%.4f", g.Accuracy)}, {Text: fmt.Sprintf("%+.2f", 100*g.Change.Difference)},
			{Text: fmt.Sprintf("%+.2f to %+.2f", 100*g.Change.Interval.Low, 100*g.Change.Interval.High), Colour: screen.Dim}})
	}
	screen.Write(a.out, left("WHEN", ">WOKEN", "95 %", ">EXPECTED LOSS", ">ACCURACY", ">POINTS", "95 %"), rows)
	chosen := "chosen on these very products"
	if r.ChosenOn != "" {
		chosen = "chosen on " + screen.Clean(r.ChosenOn)
	}
	a.out.Printf("\nThe cheapest that is expected to lose at most %g points, %s. For the leg %s in the composition:\n\n  when: %s\n", r.MaxLoss, chosen, screen.Clean(r.Leg), r.Gates[0].When)
}

// figure is the picture of a sweep.
func (r *gateReport) figure() curves.Figure {
	p := curves.Panel{X: "share of the products that wake " + r.Leg, Y: "accuracy", XAxis: curves.Axis{To: 1, Percent: true},
		Levels: []curves.Level{{Y: r.Always}}}
	low, high, settled := r.Always-r.MaxLoss/100, r.Always, 0.0
	f := curves.Figure{Title: fmt.Sprintf("A gate for %s by how sure %s is (woken for all: %.4f)", r.Leg, r.On, r.Always)}
	for i, g := range r.Gates {
		f.Legend = append(f.Legend, fmt.Sprintf("%s: %.2f %% woken, accuracy %.4f", g.When, 100*g.Woken, g.Accuracy))
		var line []draw.Point
		for _, q := range g.whole {
			line = append(line, draw.At(q.Woken, q.Accuracy))
			low, high = min(low, q.Accuracy), max(high, q.Accuracy)
			if q.Accuracy != r.Always {
				settled = max(settled, q.Woken)
			}
		}
		p.Curves = append(p.Curves, curves.Curve{Series: i, Points: line}, curves.Curve{Series: i, Points: []draw.Point{draw.At(g.Woken, g.Accuracy)}, Dots: true})
	}
	p.YAxis = curves.Fit(low, high)
	p.XAxis.To = min(1, curves.Fit(0, 1.2*max(settled, r.Gates[0].Woken, 0.01)).To) // beyond, nothing changes
	f.Panels = []curves.Panel{p}
	return f
}
