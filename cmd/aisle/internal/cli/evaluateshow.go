package cli

import (
	"fmt"
	"strings"

	"aisle.dev/aisle/cmd/aisle/internal/curves"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/draw"
	"aisle.dev/aisle/internal/score"
)

func (a *app) showReport(r report, t *tally) {
	titles := "whole titles"
	switch {
	case r.Stored:
		titles = "stored answers"
	case r.Masked:
		titles = "titles without the words of the class names"
	}
	a.out.Printf("%s: %s\n\n", screen.Clean(r.File), titles)
	columns := []screen.Column{{Name: "WHO"}, {Name: "PRODUCTS", Right: true}, {Name: "ACCURACY", Right: true}, {Name: "95 %"}, {Name: "MACRO-F1", Right: true}, {Name: "95 %"}, {Name: "ECE", Right: true}, {Name: "95 %"}}
	var rows, covered [][]screen.Cell
	interval := func(i score.Interval) screen.Cell {
		return screen.Cell{Text: fmt.Sprintf("%.4f-%.4f", i.Low, i.High), Colour: screen.Dim}
	}
	row := func(name string, f figures, c screen.Colour) {
		if f.N == 0 {
			rows = append(rows, []screen.Cell{{Text: name}, {Text: "0"}, {}, {}, {}, {}, {}, {}})
			return
		}
		value := func(v float64) screen.Cell { return screen.Cell{Text: fmt.Sprintf("%.4f", v), Colour: c} }
		rows = append(rows, []screen.Cell{{Text: name, Colour: c}, {Text: screen.Thousands(f.N)}, value(f.Accuracy), interval(f.AccuracyInterval),
			value(f.MacroF1), interval(f.MacroF1Interval), value(f.ECE), interval(f.ECEInterval)})
		cells := []screen.Cell{{Text: name, Colour: c}}
		for _, at := range f.Coverage {
			from := unknown
			if at.Share > 0 {
				from = screen.Cell{Text: fmt.Sprintf("%.4f", at.Threshold)}
			}
			cells = append(cells, value(at.Share), interval(at.Interval), from)
		}
		covered = append(covered, cells)
	}
	heading := func(text string) {
		rows = append(rows, []screen.Cell{{Text: text, Colour: screen.Dim}, {}, {}, {}, {}, {}, {}, {}})
		covered = append(covered, []screen.Cell{{Text: text, Colour: screen.Dim}, {}, {}, {}, {}, {}, {}})
	}
	for _, leg := range r.order {
		row(leg, r.Legs[leg], screen.Plain)
	}
	row("fused", r.Fused, screen.Bold)
	if r.Complete != nil {
		heading("where all answered:")
		for _, leg := range r.order {
			row("  "+leg, r.Complete.Legs[leg], screen.Plain)
		}
		row("  fused", r.Complete.Fused, screen.Bold)
	}
	screen.Write(a.out, columns, rows)
	a.out.Printf("\nCoverage: the share that may be answered so that so many are right, and from which confidence on\n")
	screen.Write(a.out, left("WHO", ">AT 95 %", "95 %", ">FROM", ">AT 99 %", "95 %", ">FROM"), covered)
	if r.Backoff != nil {
		a.showBackoff(r.Backoff)
	}
	if r.Stored {
		a.out.Printf("\n%s\n", plural(t.Products, "stored answer"))
	} else {
		a.out.Printf("\n%s\n", t.sentence())
	}
	if r.Empty > 0 {
		a.out.Printf("%s had no picture and nothing left in the title; they are in no figure\n", plural(r.Empty, "product"))
	}
	if len(r.Confusions) > 0 {
		a.out.Printf("\nMost often taken for another:\n")
		for _, c := range r.Confusions {
			a.out.Printf("  %4d  %s, said to be %s (%.0f%% of them)\n", c.Count, screen.Clean(c.Truth), screen.Clean(c.Said), 100*c.Share)
		}
	}
}

// coveragePoints bounds how many points of a risk curve are drawn.
const coveragePoints = 400

// figure is the picture of an evaluation: reliability, and risk against
// coverage.
func (e *evaluation) figure(r report) curves.Figure {
	f := curves.Figure{Title: "How sure, and how often right: " + r.File}
	if r.Masked {
		f.Title += " (class names masked)"
	}
	whole := curves.Axis{To: 1}
	sure := curves.Panel{Title: "Reliability", X: "how sure: mean confidence of a bin", Y: "how often right", XAxis: whole, YAxis: whole, Diagonal: true}
	risk := curves.Panel{Title: "Risk against coverage", X: "coverage: share of the products that is answered, the surest first", Y: "risk: share of those that is wrong", XAxis: curves.Axis{To: 1, Percent: true}}
	highest := 0.06
	add := func(label string, answers []score.Answer, fig figures) {
		if len(answers) == 0 {
			return
		}
		i := len(f.Legend)
		f.Legend = append(f.Legend, fmt.Sprintf("%s: accuracy %.3f, ECE %.3f, coverage at 95 %% / 99 %% right %.3f / %.3f, n %s", label, fig.Accuracy, fig.ECE, fig.Coverage[0].Share, fig.Coverage[1].Share, screen.Thousands(fig.N)))
		var bins []draw.Point
		for _, b := range score.Reliability(answers, score.Bins) {
			bins = append(bins, draw.At(b.Confidence, b.Accuracy))
		}
		sure.Curves = append(sure.Curves, curves.Curve{Series: i, Points: bins, Dots: true})
		line, top := riskLine(answers)
		risk.Curves = append(risk.Curves, curves.Curve{Series: i, Points: line})
		highest = max(highest, top)
	}
	for _, leg := range e.legs {
		add(leg, e.byLeg[leg], r.Legs[leg])
	}
	add("fused", e.fused, r.Fused)
	if b := r.Backoff; b != nil {
		label := "fused, backing off:"
		for i, at := range b.At {
			if i > 0 {
				label += ","
			}
			share := 0.0
			if at.Found != nil {
				share = at.Found.Share
			}
			label += fmt.Sprintf(" %.3f answered at %g %% right", share, 100*at.Precision)
		}
		risk.Curves = append(risk.Curves, b.curve(len(f.Legend)))
		f.Legend = append(f.Legend, label)
	}
	risk.YAxis = curves.Fit(0, highest)
	risk.YAxis.Percent = true
	risk.Levels = []curves.Level{{Y: 0.05, Text: "95 % right", Left: true}, {Y: 0.01, Text: "99 % right", Left: true}}
	f.Panels = []curves.Panel{sure, risk}
	return f
}

// riskLine is a risk curve as it is drawn, and how high it gets. The first few
// answers say nothing of a share, so the line begins at two in a hundred.
func riskLine(answers []score.Answer) (line []draw.Point, highest float64) {
	points := score.RiskCurve(answers)
	every := max(1, len(points)/coveragePoints)
	for i, p := range points {
		if i == len(points)-1 || i%every == 0 && p.Coverage >= 0.02 {
			line = append(line, draw.At(p.Coverage, p.Risk))
			highest = max(highest, p.Risk)
		}
	}
	return line, highest
}

func isSVG(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".svg") }
