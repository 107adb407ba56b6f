package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"aisle.dev/aisle/internal/fashion"
	"aisle.dev/aisle/internal/fit"
	"aisle.dev/aisle/internal/reduce"
	"aisle.dev/aisle/internal/score"
	"aisle.dev/aisle/models/internal/pack"
	"aisle.dev/aisle/models/internal/replay"
)

// seen is one way that the legs see the test products, through every reducer.
type seen struct {
	name      string
	whole     bool                    // all legs
	alone     []pack.Figures          // where all legs are present: each as its package answers
	byReducer map[string]pack.Figures // calibrated
}

// measure compares, on the test products, each leg alone and both, through
// every reducer with its calibration.
func measure(ctx context.Context, set *fashion.Set, legs []*replay.Leg, choice fit.Choice, prior []float64) ([]seen, error) {
	products := set.In(fashion.Test)
	truth := pack.Truth(set, products)
	var out []seen
	for i, v := range views(set) {
		a, err := answers(ctx, set, legs, products, v.View)
		if err != nil {
			return nil, err
		}
		for _, row := range []struct {
			name    string
			pattern []int
			photo   bool // of products that have one
		}{{"photo", []int{1}, true}, {v.Name, []int{0}, true}, {v.Name + " (products that have no photo)", []int{0}, false}, {v.Name + ", and photo", []int{0, 1}, true}} {
			if row.name == "photo" && i > 0 {
				continue // the photo does not depend on the view
			}
			// of gives what a product's figures are of: nil leaves it out.
			of := func(k int) [][]float64 {
				if products[k].Photo != row.photo {
					return nil
				}
				return fit.Only(a[k], row.pattern)
			}
			s := seen{name: row.name, whole: len(row.pattern) == len(legs), byReducer: map[string]pack.Figures{}}
			if s.whole {
				for leg := range legs {
					p := make([][]float64, len(a))
					for k := range a {
						if said := of(k); said != nil {
							p[k] = said[leg]
						}
					}
					s.alone = append(s.alone, pack.Measure("", legNames[leg], p, truth))
				}
			}
			for _, name := range fit.Names() {
				t := reduce.Calibrated{Patterns: choice.Held[name].Calibration}.Temperature(func(leg int) bool { return slices.Contains(row.pattern, leg) }, len(legs))
				fused := make([][]float64, len(a))
				for k := range a {
					if said := of(k); said != nil {
						fused[k] = make([]float64, len(set.Labels))
						choice.Fuse(name, fused[k], said, prior)
						reduce.Temper(fused[k], fused[k], t)
					}
				}
				s.byReducer[name] = pack.Measure("", row.name, fused, truth)
			}
			out = append(out, s)
		}
	}
	return out, nil
}

func report(rows []seen, legs []*replay.Leg, choice fit.Choice, date string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What the models are worth\n\nWritten by `go run ./models/fuse` on %s; not edited by hand.\n\n", date)
	fmt.Fprintf(&b, "Test products with a photo where nothing else is said, split rule `%s`. In brackets: 95%% intervals (Wilson for accuracy, bias-corrected bootstrap otherwise). ECE: 15 bins of equal mass, debiased. Masked: every word of the class names removed from the title, singular and plural. Products of one component resemble each other, so the true intervals are somewhat wider.\n\n", fashion.Rule)
	var shipped []pack.Figures
	for _, r := range rows {
		shipped = append(shipped, r.byReducer[fit.LogPoolName])
	}
	b.WriteString(pack.Table(shipped))
	fmt.Fprintf(&b, "\nOne logpool for all rows, fitted on the validation part and calibrated by which legs are present: weights")
	for i, w := range choice.Pool.Weights {
		fmt.Fprintf(&b, " %s %v,", legNames[i], w)
	}
	if choice.Pool.PriorWeight > 0 {
		fmt.Fprintf(&b, " prior %v (manifests/base/prior.csv, the labels' shares of the training part),", choice.Pool.PriorWeight)
	}
	fmt.Fprintf(&b, " temperature %v. A row of one leg is what the pool answers when the other leg is missing.\n\n", choice.Pool.Temperature)

	b.WriteString("## Reducers compared\n\nAccuracy of both legs through each reducer, and of the better leg alone:\n\n")
	column := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	column(slices.Concat([]string{"seen", "better leg"}, fit.Names())...)
	column(slices.Repeat([]string{"---"}, 2+len(fit.Names()))...)
	for _, r := range rows {
		if !r.whole {
			continue
		}
		better := slices.MaxFunc(r.alone, func(a, b pack.Figures) int { return int(1e6 * (a.Accuracy - b.Accuracy)) })
		cells := []string{r.name, better.Name + " " + interval(better.Accuracy, better.AccuracyInterval)}
		for _, name := range fit.Names() {
			f := r.byReducer[name]
			cells = append(cells, interval(f.Accuracy, f.AccuracyInterval))
		}
		column(cells...)
	}
	b.WriteString("\nECE after calibration, all legs present and one missing:\n\n")
	column(slices.Concat([]string{"seen"}, fit.Names())...)
	column(slices.Repeat([]string{"---"}, 1+len(fit.Names()))...)
	for _, r := range rows {
		cells := []string{r.name}
		for _, name := range fit.Names() {
			f := r.byReducer[name]
			cells = append(cells, interval(f.ECE, f.ECEInterval))
		}
		column(cells...)
	}
	fmt.Fprintf(&b, "\nBy %d-fold cross-validation on the validation part, whole groups of near-twins held out, all views counted alike:\n\n", fit.Folds)
	column("reducer", "accuracy", "log-loss", "temperatures after fusion")
	column("---", "---", "---", "---")
	for _, name := range fit.Names() {
		h := choice.Held[name]
		var temperatures []string
		for _, p := range h.Calibration {
			var names []string
			for _, i := range p.Legs {
				names = append(names, legNames[i])
			}
			temperatures = append(temperatures, fmt.Sprintf("%s %v", strings.Join(names, "+"), p.Temperature))
		}
		column(name, fmt.Sprintf("%.4f", h.Accuracy), fmt.Sprintf("%.4f", h.Loss), strings.Join(temperatures, ", "))
	}
	fmt.Fprintf(&b, "\nThe stack (penalty %v) has a log-loss lower than logpool's by %.4f, standard error %.4f. By the rule of `aisle compose fit` (a loss that is lower by two standard errors, and right no less often) %s is the better. manifests/base ships logpool.\n\n", choice.Penalty, choice.Gain, choice.Error, choice.Best())
	for _, l := range legs {
		fmt.Fprintf(&b, "- %s: %s\n", l.Package.Spec.Name, l.Package.Digest)
	}
	return b.String()
}

func interval(x float64, i score.Interval) string {
	return fmt.Sprintf("%.3f (%.3f-%.3f)", x, i.Low, i.High)
}
