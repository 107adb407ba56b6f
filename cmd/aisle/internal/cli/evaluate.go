package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/reliability"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/mask"
	"aisle.dev/aisle/internal/score"
)

func (a *app) evaluate() *cobra.Command {
	var f fileFlags
	var masked, confusion bool
	var format, plot string
	cmd := &cobra.Command{
		Use:   "evaluate FILE",
		Short: "Measure how right the running system is on a file of products",
		Long: `Send a file of products whose categories are known through the running system
and say how right it is: fused over all products that got a category, and each
leg over the products that it answered. Where these differ, the figures over
the products that every leg answered are given too: there they can be compared.

  accuracy   share of right answers, with Wilson's 95 % interval
  macro-F1   mean F1 over the classes that are true or were said
  ECE        expected calibration error: 15 bins of equal mass, debiased

The intervals of macro-F1 and ECE are bias-corrected bootstrap intervals from
1,000 samples. With --mask the words of all class names in the file, singular
and plural, are removed from the titles first: what the system knows without
being told. A product of which nothing is left then is counted apart.

The file is read as send reads it, with a column category.`,
		Example: `  aisle evaluate products.csv
  aisle evaluate --mask -o json products.csv | jq .fused.accuracy
  aisle evaluate --confusion --plot reliability.png products.csv
  aisle evaluate --title productDisplayName --category articleType --attribute gender \
      --images images/ products.csv`,
		Args: exactly(1, "one file, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if plot != "" && !reliability.Known(plot) {
				return usagef("--plot %s: use a name that ends in .png or .svg", plot)
			}
			var edit func(*feed.Item)
			if masked {
				classes, err := a.classes(cmd.Context(), args[0], &f)
				if err != nil {
					return err
				}
				titles := mask.New(classes)
				edit = func(i *feed.Item) { i.Product.Title = titles.Mask(i.Product.Title) }
			}
			in, err := a.open(cmd.Context(), args[0], &f, true)
			if err != nil {
				return err
			}
			defer in.close()
			t, e := newTally(), newEvaluation()
			err = a.deliver(cmd, in, &f, edit, t, func(ans delivery.Answer) error {
				if errors.Is(ans.Err, delivery.ErrNothing) && masked {
					t.Failed-- // no failure: the mask took everything
					t.Failures = t.Failures[:min(len(t.Failures), t.Failed)]
					e.empty++
				}
				e.add(ans)
				return nil
			}, true)
			if err != nil {
				a.listFailures(t)
				return err
			}
			if len(e.fused) == 0 {
				a.listFailures(t)
				if t.Accepted > 0 {
					return noAnswers(t)
				}
				return fmt.Errorf("no product of %s got a category; there is nothing to measure", in.name)
			}
			r := e.report(in.name, masked, confusion, t)
			if plot != "" {
				if err := a.plot(plot, e, r); err != nil {
					return err
				}
			}
			if format == "table" {
				a.listFailures(t)
				a.showReport(r, t)
			} else if err := writeAs(a.out, format, r); err != nil {
				return err
			}
			return t.outcome()
		},
	}
	f.flags(cmd, true)
	cmd.Flags().BoolVar(&masked, "mask", false, "remove the words of the class names from the titles")
	cmd.Flags().BoolVar(&confusion, "confusion", false, "list the classes that are most often taken for others")
	cmd.Flags().StringVar(&plot, "plot", "", "draw a reliability diagram into this .png or .svg file")
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

// classes reads the file's distinct categories.
func (a *app) classes(ctx context.Context, name string, f *fileFlags) ([]string, error) {
	if name == "-" {
		return nil, usagef("--mask reads the file twice, first for the names of the classes; give a file instead of -")
	}
	in, err := a.open(ctx, name, f, true)
	if err != nil {
		return nil, err
	}
	defer in.close()
	seen := map[string]bool{}
	var classes []string
	for {
		item, err := in.Next()
		if errors.Is(err, io.EOF) {
			return classes, nil
		}
		if err != nil {
			return nil, err
		}
		if c := item.Category; item.Err == nil && !seen[c] {
			seen[c] = true
			classes = append(classes, c)
		}
	}
}

// evaluation keeps what the figures need: a few bytes per product.
type evaluation struct {
	classes map[string]int32
	names   []string // of the classes
	legs    []string // in the composition's order
	byLeg   map[string][]score.Answer
	fused   []score.Answer
	empty   int

	// The same over the products that every leg answered: there legs and
	// fused can be compared.
	allByLeg map[string][]score.Answer
	allFused []score.Answer
}

func newEvaluation() *evaluation {
	return &evaluation{classes: map[string]int32{}, byLeg: map[string][]score.Answer{}, allByLeg: map[string][]score.Answer{}}
}

func (e *evaluation) class(name string) int32 {
	c, ok := e.classes[name]
	if !ok {
		c = int32(len(e.names))
		e.classes[name] = c
		e.names = append(e.names, name)
	}
	return c
}

func (e *evaluation) add(a delivery.Answer) {
	if a.Err != nil || a.Accepted {
		return
	}
	truth := e.class(a.Item.Category)
	c := a.Result.Category
	fused := score.Answer{Truth: truth, Said: e.class(c.Label), Confidence: c.Confidence}
	e.fused = append(e.fused, fused)
	all := !slices.ContainsFunc(a.Result.Legs, func(l category.Leg) bool { return l.Outcome != category.Answered })
	if all {
		e.allFused = append(e.allFused, fused)
	}
	for _, l := range a.Result.Legs {
		if _, known := e.byLeg[l.Name]; !known {
			e.legs = append(e.legs, l.Name)
			e.byLeg[l.Name] = nil
		}
		if l.Outcome != category.Answered {
			continue
		}
		said := score.Answer{Truth: truth, Said: e.class(l.Label), Confidence: l.Confidence}
		e.byLeg[l.Name] = append(e.byLeg[l.Name], said)
		if all {
			e.allByLeg[l.Name] = append(e.allByLeg[l.Name], said)
		}
	}
}

// figures are how right answers are.
type figures struct {
	N                int            `json:"n"`
	Accuracy         float64        `json:"accuracy"`
	AccuracyInterval score.Interval `json:"accuracyInterval"`
	MacroF1          float64        `json:"macroF1"`
	MacroF1Interval  score.Interval `json:"macroF1Interval"`
	ECE              float64        `json:"ece"`
	ECEInterval      score.Interval `json:"eceInterval"`
}

// seed makes the bootstrap's intervals the same for the same answers.
const seed = 1

func figuresOf(answers []score.Answer) figures {
	accuracy := score.Accuracy(answers)
	n := len(answers)
	b := score.Bootstrap(answers, seed)
	return figures{
		N: n, Accuracy: accuracy, AccuracyInterval: score.Wilson(int(accuracy*float64(n)+0.5), n),
		MacroF1: score.MacroF1(answers), MacroF1Interval: b.MacroF1,
		ECE: score.ECE(answers), ECEInterval: b.ECE,
	}
}

// report is the result of an evaluation.
type report struct {
	File       string             `json:"file"`
	Masked     bool               `json:"masked"`
	Products   int                `json:"products"`
	Empty      int                `json:"empty,omitempty"` // the mask left nothing to read
	Failed     int                `json:"failed"`
	Seconds    float64            `json:"seconds"`
	Legs       map[string]figures `json:"legs"`
	Fused      figures            `json:"fused"`
	Complete   *complete          `json:"complete,omitempty"`   // where not all legs answered all products
	Confusions []confused         `json:"confusions,omitempty"` // of fused, the most frequent
	Failures   []failure          `json:"failures,omitempty"`

	order []string
}

// complete is the figures over the products that every leg answered.
type complete struct {
	Legs  map[string]figures `json:"legs"`
	Fused figures            `json:"fused"`
}

type confused struct {
	Truth string `json:"truth"`
	Said  string `json:"said"`
	Count int    `json:"count"`
}

// shownConfusions is how many pairs are worth reading.
const shownConfusions = 20

func (e *evaluation) report(name string, masked, confusion bool, t *tally) report {
	r := report{File: name, Masked: masked, Products: t.Products, Empty: e.empty, Failed: t.Failed, Seconds: t.Seconds,
		Legs: map[string]figures{}, Fused: figuresOf(e.fused), Failures: t.Failures, order: e.legs}
	for _, leg := range e.legs {
		r.Legs[leg] = figuresOf(e.byLeg[leg])
	}
	if n := len(e.allFused); n > 0 && n < len(e.fused) {
		r.Complete = &complete{Legs: map[string]figures{}, Fused: figuresOf(e.allFused)}
		for _, leg := range e.legs {
			r.Complete.Legs[leg] = figuresOf(e.allByLeg[leg])
		}
	}
	if confusion {
		all := score.Confusions(e.fused)
		for _, c := range all[:min(len(all), shownConfusions)] {
			r.Confusions = append(r.Confusions, confused{e.names[c.Truth], e.names[c.Said], c.Count})
		}
	}
	return r
}

func (a *app) showReport(r report, t *tally) {
	titles := "whole titles"
	if r.Masked {
		titles = "titles without the words of the class names"
	}
	a.out.Printf("%s: %s\n\n", screen.Clean(r.File), titles)
	columns := []screen.Column{{Name: "WHO"}, {Name: "PRODUCTS", Right: true}, {Name: "ACCURACY", Right: true}, {Name: "95 %"}, {Name: "MACRO-F1", Right: true}, {Name: "95 %"}, {Name: "ECE", Right: true}, {Name: "95 %"}}
	var rows [][]screen.Cell
	row := func(name string, f figures, c screen.Colour) {
		if f.N == 0 {
			rows = append(rows, []screen.Cell{{Text: name}, {Text: "0"}, {}, {}, {}, {}, {}, {}})
			return
		}
		value := func(v float64) screen.Cell { return screen.Cell{Text: fmt.Sprintf("%.4f", v), Colour: c} }
		interval := func(i score.Interval) screen.Cell {
			return screen.Cell{Text: fmt.Sprintf("%.4f-%.4f", i.Low, i.High), Colour: screen.Dim}
		}
		rows = append(rows, []screen.Cell{{Text: name, Colour: c}, {Text: screen.Thousands(f.N)}, value(f.Accuracy), interval(f.AccuracyInterval),
			value(f.MacroF1), interval(f.MacroF1Interval), value(f.ECE), interval(f.ECEInterval)})
	}
	for _, leg := range r.order {
		row(leg, r.Legs[leg], screen.Plain)
	}
	row("fused", r.Fused, screen.Bold)
	if r.Complete != nil {
		rows = append(rows, []screen.Cell{{Text: "where all answered:", Colour: screen.Dim}, {}, {}, {}, {}, {}, {}, {}})
		for _, leg := range r.order {
			row("  "+leg, r.Complete.Legs[leg], screen.Plain)
		}
		row("  fused", r.Complete.Fused, screen.Bold)
	}
	screen.Write(a.out, columns, rows)
	a.out.Printf("\n%s\n", t.sentence())
	if r.Empty > 0 {
		a.out.Printf("%s had no picture and nothing left in the title; they are in no figure\n", plural(r.Empty, "product"))
	}
	if len(r.Confusions) > 0 {
		a.out.Printf("\nMost often taken for another:\n")
		for _, c := range r.Confusions {
			a.out.Printf("  %4d  %s, said to be %s\n", c.Count, screen.Clean(c.Truth), screen.Clean(c.Said))
		}
	}
}

// plot draws the reliability diagram of the legs and of fused.
func (a *app) plot(name string, e *evaluation, r report) error {
	d := reliability.Diagram{Title: "How sure, and how often right"}
	if r.Masked {
		d.Title += " (class names masked)"
	}
	series := func(label string, answers []score.Answer, f figures) {
		if len(answers) > 0 {
			d.Series = append(d.Series, reliability.Series{
				Label: fmt.Sprintf("%s: accuracy %.3f, ECE %.3f, n %s", label, f.Accuracy, f.ECE, screen.Thousands(f.N)),
				Bins:  score.Reliability(answers, score.Bins),
			})
		}
	}
	for _, leg := range e.legs {
		series(leg, e.byLeg[leg], r.Legs[leg])
	}
	series("fused", e.fused, r.Fused)
	data, err := d.Draw(strings.HasSuffix(strings.ToLower(name), ".svg"))
	if err == nil {
		err = os.WriteFile(name, data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("draw the diagram: %w", err)
	}
	a.err.Printf("drawn: %s\n", name)
	return nil
}
