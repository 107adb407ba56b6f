package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/labelled"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/fit"
	"aisle.dev/aisle/internal/mask"
	"aisle.dev/aisle/internal/reduce"
)

// fitFlags say what reducers are fitted to, and what is written.
type fitFlags struct {
	file                      fileFlags
	masked                    bool
	saved, save               string // files of answers
	groups, composition, into string
	reducer                   string
	format                    string
}

func (a *app) composeFit() *cobra.Command {
	var f fitFlags
	cmd := &cobra.Command{
		Use:   "fit [FILE]",
		Short: "Fit how a composition's legs become one answer",
		Long: `Send a file of products whose categories are known to the running composer, and
fit each kind of reducer to what the legs say of them: the weights, logpool's
temperature and prior, the stack, and for each the temperatures after fusion by
which legs were present. Fit to products that no model was trained on, and
measure with aisle evaluate on others again.

The reducers are compared by 5-fold cross-validation. A stack is taken only if
its log-loss is lower than logpool's by more than twice the standard error and
it is right as often; else logpool is. Products that are alike are kept in one
fold and share the weight of one: those of one component in the file that
--groups names (CSV with the columns id and component), else those of one title.

The numbers to paste into the composition are printed as YAML; a stack is
written as a folder to put beside it. With --mask products count twice: as they
are, and without the words of the class names in their titles, so that the
numbers do for titles that do not name the class too. Legs behind a gate answer
few products: fit them with a composition without gates.`,
		Example: `  aisle compose fit validation.csv
  aisle compose fit --composition composition.yaml --mask --groups split.csv validation.csv
  aisle compose fit --save answers.ndjson validation.csv
  aisle compose fit --saved answers.ndjson --reducer stack --into stack
  aisle compose fit --saved answers.ndjson -o json | jq .reducers.stack`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args); err != nil {
				return err
			}
			var prior map[string]float64
			if f.composition != "" {
				c, err := composition.Load(f.composition)
				if err != nil {
					return err
				}
				prior = c.Fusion.Pool.Prior
			}
			answers, err := a.labelled(cmd, args, &f)
			if err != nil {
				return err
			}
			return a.fitTo(cmd.Context(), answers, prior, &f)
		},
	}
	f.file.flags(cmd, true)
	s := cmd.Flags()
	s.BoolVar(&f.masked, "mask", false, "fit to the titles without the words of the class names too")
	s.StringVar(&f.composition, "composition", "", "the composition, of which the prior is taken")
	s.StringVar(&f.groups, "groups", "", "CSV file with the columns id and component: which products are alike")
	s.StringVar(&f.save, "save", "", "also write the legs' answers to this NDJSON file")
	s.StringVar(&f.saved, "saved", "", "fit to answers that --save wrote; nothing is sent")
	s.StringVar(&f.reducer, "reducer", "", "print this one instead of the better of logpool and stack: "+strings.Join(fit.Names(), ", "))
	s.StringVar(&f.into, "into", fit.StackName, "folder to write a stack to")
	_ = cmd.RegisterFlagCompletionFunc("reducer", cobra.FixedCompletions(fit.Names(), cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	output(cmd, &f.format, "yaml", "json")
	return cmd
}

func (f *fitFlags) check(args []string) error {
	switch {
	case (len(args) == 0) == (f.saved == ""):
		return usagef("want either a file of products, or --saved with the answers of an earlier run")
	case f.saved != "" && (f.save != "" || f.masked || f.groups != ""):
		return usagef("--saved answers have their groups and views: leave out --save, --mask and --groups")
	case f.reducer != "" && !slices.Contains(fit.Names(), f.reducer):
		return usagef("--reducer %s: use %s", f.reducer, strings.Join(fit.Names(), ", "))
	}
	return f.file.check()
}

// labelled gets the answers: from a file, or from the composer.
func (a *app) labelled(cmd *cobra.Command, args []string, f *fitFlags) ([]labelled.Answer, error) {
	if f.saved != "" {
		in, err := os.Open(f.saved)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		answers, err := labelled.Read(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.saved, err)
		}
		return answers, nil
	}
	var groups map[string]string
	if f.groups != "" {
		in, err := os.Open(f.groups)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		if groups, err = labelled.Groups(in); err != nil {
			return nil, fmt.Errorf("--groups %s: %w", f.groups, err)
		}
	}
	answers, err := a.ask(cmd, args[0], f, "whole", nil, groups)
	if err == nil && f.masked {
		var classes []string
		if classes, err = a.classes(cmd.Context(), args[0], &f.file); err != nil {
			return nil, err
		}
		titles := mask.New(classes)
		var more []labelled.Answer
		more, err = a.ask(cmd, args[0], f, "masked", func(i *feed.Item) { i.Product.Title = titles.Mask(i.Product.Title) }, groups)
		answers = append(answers, more...)
	}
	if err != nil || f.save == "" {
		return answers, err
	}
	out, err := os.Create(f.save)
	if err != nil {
		return nil, err
	}
	enc := json.NewEncoder(out)
	for _, answer := range answers {
		if err = enc.Encode(answer); err != nil {
			break
		}
	}
	return answers, errors.Join(err, out.Close())
}

// ask sends a file of products through the composer.
func (a *app) ask(cmd *cobra.Command, name string, f *fitFlags, view string, edit func(*feed.Item), groups map[string]string) ([]labelled.Answer, error) {
	in, err := a.open(cmd.Context(), name, &f.file, true)
	if err != nil {
		return nil, err
	}
	defer in.close()
	t := newTally()
	var answers []labelled.Answer
	f.file.distributions = true
	err = a.deliver(cmd, in, &f.file, edit, t, func(ans delivery.Answer) error {
		if errors.Is(ans.Err, delivery.ErrNothing) && view == "masked" {
			t.Failed-- // the mask took everything: nothing to learn, and no failure
			t.Failures = t.Failures[:min(len(t.Failures), t.Failed)]
		}
		if ans.Err == nil {
			answers = append(answers, labelled.New(ans.Item, view, ans.Result, groups))
		}
		return nil
	}, true)
	a.listFailures(t)
	if err != nil {
		return nil, err
	}
	a.err.Printf("%s titles: %s\n", view, t.sentence())
	return answers, nil
}

// fitTo fits the reducers and says what was found.
func (a *app) fitTo(ctx context.Context, answers []labelled.Answer, prior map[string]float64, f *fitFlags) error {
	data, legs, unknown, err := labelled.Data(answers, prior)
	if err != nil {
		return err
	}
	if unknown > 0 {
		a.err.Printf("%s of a category that no leg knows: left out\n", plural(unknown, "product"))
	}
	bar := screen.NewProgress(a.err, time.Now(), "steps of the fit")
	choice, err := fit.Choose(ctx, data, func(done, of int) { bar.Set(time.Now(), done, 0, float64(done)/float64(of)) })
	bar.Clear()
	if err != nil {
		return err
	}
	r := newFitReport(choice, legs, len(answers), cmp.Or(f.reducer, choice.Best()))
	if r.Use == fit.StackName {
		if r.Stack, err = writeStack(f.into, choice, legs); err != nil {
			return err
		}
	}
	if f.format == "json" {
		return writeAs(a.out, "json", r)
	}
	columns := []screen.Column{{Name: "REDUCER"}, {Name: "ACCURACY", Right: true}, {Name: "LOG-LOSS", Right: true}}
	var rows [][]screen.Cell
	for _, name := range fit.Names() {
		h, colour := r.Reducers[name], screen.Plain
		if name == r.Use {
			colour = screen.Bold
		}
		rows = append(rows, []screen.Cell{{Text: name, Colour: colour}, {Text: fmt.Sprintf("%.4f", h.Accuracy)}, {Text: fmt.Sprintf("%.4f", h.Loss)}})
	}
	screen.Write(a.err, columns, rows)
	a.err.Printf("held out in %d folds; the stack's log-loss is lower than logpool's by %.4f, standard error %.4f\n\n", fit.Folds, r.Gain, r.Error)
	a.out.Printf("%s", r.yaml(choice))
	return nil
}

// writeStack writes a stack's package and returns its folder.
func writeStack(folder string, choice fit.Choice, legs []string) (string, error) {
	files, err := choice.Stack.Package(legs, map[string]float64{
		"folds": fit.Folds, "penalty": choice.Penalty,
		"lossLogpool": round4(choice.Held[fit.LogPoolName].Loss), "lossStack": round4(choice.Held[fit.StackName].Loss),
	})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			return "", err
		}
	}
	return folder, nil
}

// fitReport is what a fit found, with the legs by name.
type fitReport struct {
	Products int                   `json:"products"` // each view counted
	Legs     []string              `json:"legs"`
	Reducers map[string]fitReducer `json:"reducers"`
	Gain     float64               `json:"gain"`      // of the stack over logpool, in log-loss
	Error    float64               `json:"gainError"` // its standard error
	Use      string                `json:"use"`
	Stack    string                `json:"stack,omitempty"` // the folder that was written
}

type fitReducer struct {
	Accuracy    float64            `json:"accuracy"` // of products that it was not fitted to
	Loss        float64            `json:"loss"`     // mean negative log-likelihood of these, calibrated
	Weights     map[string]float64 `json:"weights"`
	Temperature float64            `json:"temperature,omitempty"`
	PriorWeight float64            `json:"priorWeight,omitempty"`
	Calibration []fitPattern       `json:"calibration"`
}

type fitPattern struct {
	Legs        []string `json:"legs"`
	Temperature float64  `json:"temperature"`
}

func newFitReport(c fit.Choice, legs []string, products int, use string) fitReport {
	r := fitReport{Products: products, Legs: legs, Reducers: map[string]fitReducer{}, Gain: round4(c.Gain), Error: round4(c.Error), Use: use}
	for name, weights := range map[string][]float64{fit.LogPoolName: c.Pool.Weights, fit.LinPoolName: c.LinPool.Weights, fit.VoteName: c.Vote.Weights, fit.StackName: c.Pool.Weights} {
		h := fitReducer{Accuracy: round4(c.Held[name].Accuracy), Loss: round4(c.Held[name].Loss), Weights: map[string]float64{}}
		for i, w := range weights {
			h.Weights[legs[i]] = w
		}
		if name == fit.LogPoolName || name == fit.StackName {
			h.Temperature, h.PriorWeight = c.Pool.Temperature, c.Pool.PriorWeight
		}
		for _, p := range c.Held[name].Calibration {
			h.Calibration = append(h.Calibration, fitPattern{named(legs, p), p.Temperature})
		}
		r.Reducers[name] = h
	}
	return r
}

func named(legs []string, p reduce.Pattern) []string {
	var out []string
	for _, i := range p.Legs {
		out = append(out, legs[i])
	}
	return out
}

// yaml is what to paste into the composition.
func (r fitReport) yaml(c fit.Choice) string {
	var b strings.Builder
	h := r.Reducers[r.Use]
	number := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	b.WriteString("# into spec.legs:\n")
	for _, leg := range r.Legs {
		fmt.Fprintf(&b, "#   - {name: %s, weight: %s}\n", leg, number(h.Weights[leg]))
	}
	fmt.Fprintf(&b, "reducer:\n  type: %s\n", r.Use)
	switch r.Use {
	case fit.LogPoolName:
		fmt.Fprintf(&b, "  temperature: %s\n", number(h.Temperature))
		if c.Pool.Prior != nil {
			fmt.Fprintf(&b, "  prior: {file: prior.csv, weight: %s}\n", number(h.PriorWeight))
		}
	case fit.StackName:
		fmt.Fprintf(&b, "  model: %s\n", filepath.Base(r.Stack))
	}
	if len(h.Calibration) > 0 {
		b.WriteString("  calibration:\n")
	}
	for _, p := range h.Calibration {
		fmt.Fprintf(&b, "    - {legs: [%s], temperature: %s}\n", strings.Join(p.Legs, ", "), number(p.Temperature))
	}
	return b.String()
}

func round4(x float64) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', 4, 64), 64) // what was written is read
	return v
}
