package cli

import (
	"cmp"
	"fmt"

	"aisle.dev/aisle/cmd/aisle/internal/contrast"
	"aisle.dev/aisle/cmd/aisle/internal/curves"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/draw"
	"aisle.dev/aisle/internal/score"
)

// shownPairs is how many ways to move are told to people.
const shownPairs = 10

func (a *app) showContrast(nameA, nameB string, r contrast.Report, moves int) {
	a.out.Printf("A  %s\nB  %s\n\n", screen.Clean(nameA), screen.Clean(nameB))
	a.out.Printf("%s of both: they say the same of %.2f%% (95 %%: %.2f-%.2f)", plural(r.Products, "product"), 100*r.Agreement, 100*r.AgreementInterval.Low, 100*r.AgreementInterval.High)
	if r.OnlyInA+r.OnlyInB > 0 {
		a.out.Printf("; of A alone %s, of B alone %s, which are left out", screen.Thousands(r.OnlyInA), screen.Thousands(r.OnlyInB))
	}
	a.out.Printf("\n")
	if l := r.Labelled; l != nil {
		a.out.Printf("\nWhere the right category is known, %s:\n\n", plural(l.N, "product"))
		row := func(who string, accuracy float64, i score.Interval, only int) []screen.Cell {
			return []screen.Cell{{Text: who, Colour: screen.Bold}, {Text: fmt.Sprintf("%.4f", accuracy)},
				{Text: fmt.Sprintf("%.4f-%.4f", i.Low, i.High), Colour: screen.Dim}, {Text: screen.Thousands(only)}}
		}
		screen.Write(a.out, left("WHO", ">ACCURACY", "95 %", ">RIGHT ALONE"), [][]screen.Cell{
			row("A", l.AccuracyA, l.AccuracyAInterval, l.Paired.OnlyA), row("B", l.AccuracyB, l.AccuracyBInterval, l.Paired.OnlyB)})
		p := l.Paired
		a.out.Printf("\nB is %+.2f points better (95 %%: %+.2f to %+.2f; McNemar's p = %.3g)\n", 100*p.Difference, 100*p.Interval.Low, 100*p.Interval.High, p.P)
	} else {
		a.out.Printf("Which is right is not known; say it with --truth FILE\n")
	}
	if len(r.Moves) == 0 {
		return
	}
	a.out.Printf("\nMost frequent moves:\n")
	for _, p := range r.Pairs[:min(len(r.Pairs), shownPairs)] {
		a.out.Printf("  %4d  %s", p.Count, pairName(p))
		if r.Labelled != nil {
			a.out.Printf(" (%d became right, %d wrong)", p.Gained, p.Lost)
		}
		a.out.Printf("\n")
	}
	var rows [][]screen.Cell
	for _, m := range r.Moves[:min(len(r.Moves), max(0, moves))] {
		truth := unknown
		if m.Truth != "" {
			truth = screen.Cell{Text: m.Truth}
			switch m.Truth {
			case m.To:
				truth.Colour = screen.Green
			case m.From:
				truth.Colour = screen.Red
			}
		}
		rows = append(rows, []screen.Cell{{Text: m.ID}, {Text: answerName(m.From)}, sure(m.FromConfidence), {Text: answerName(m.To)}, sure(m.ToConfidence), truth})
	}
	if len(rows) > 0 {
		a.section("Products that move", left("PRODUCT", "A SAYS", ">SURE", "B SAYS", ">SURE", "IS"), rows)
	}
	if more := len(r.Moves) - len(rows); more > 0 {
		a.out.Printf("and %s more (--moves N, or -o csv)\n", screen.Thousands(more))
	}
}

func answerName(label string) string { return cmp.Or(label, "no answer") }

func pairName(p contrast.Pair) string {
	return screen.Clean(answerName(p.From) + " → " + answerName(p.To))
}

// contrastFigure is the picture of a comparison: risk against coverage of both
// where it is known what is right, else how often they agree; and the moves.
func contrastFigure(nameA, nameB string, r contrast.Report) curves.Figure {
	f := curves.Figure{Title: fmt.Sprintf("%s and %s: %.2f %% the same of %s", nameA, nameB, 100*r.Agreement, plural(r.Products, "product"))}
	bars := curves.Panel{Title: "Most frequent moves", Y: "products", Bars: []curves.Bar{}}
	for _, p := range r.Pairs[:min(len(r.Pairs), shownPairs)] {
		parts := []float64{float64(p.Lost), float64(p.Gained), float64(p.Count - p.Lost - p.Gained)}
		if r.Labelled == nil {
			parts = []float64{float64(p.Count)}
		}
		bars.Bars = append(bars.Bars, curves.Bar{Name: pairName(p), Parts: parts})
	}
	first := curves.Panel{XAxis: curves.Axis{To: 1}, YAxis: curves.Axis{To: 1}}
	if l := r.Labelled; l != nil {
		f.Legend = []string{
			fmt.Sprintf("A: accuracy %.4f; moves that became wrong", l.AccuracyA),
			fmt.Sprintf("B: accuracy %.4f; moves that became right", l.AccuracyB),
			"moves that are right by neither",
		}
		lineA, highA := riskLine(r.A)
		lineB, highB := riskLine(r.B)
		first.Title, first.X, first.Y = "Risk against coverage", "coverage: share that is answered, the surest first", "risk: share of those that is wrong"
		first.XAxis.Percent = true
		first.YAxis = curves.Fit(0, max(highA, highB, 0.02))
		first.YAxis.Percent = true
		first.Curves = []curves.Curve{{Series: 0, Points: lineA}, {Series: 1, Points: lineB}}
	} else {
		f.Legend = []string{"A and B"}
		first.Title, first.X, first.Y = "Agreement", "how sure A is: mean confidence of a bin", "share of which B says the same"
		var bins []draw.Point
		for _, b := range score.Reliability(r.Same, score.Bins) {
			bins = append(bins, draw.At(b.Confidence, b.Accuracy))
		}
		first.Curves = []curves.Curve{{Points: bins, Dots: true}}
	}
	f.Panels = []curves.Panel{first, bars}
	return f
}
