package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/curves"
	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/stored"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/mask"
)

// evaluateFlags are those of `aisle evaluate`.
type evaluateFlags struct {
	fileFlags
	masked     bool
	output     string
	plot, save string
	backoff    bool
	gate       gateFlags

	composition string
}

func (a *app) evaluate() *cobra.Command {
	var f evaluateFlags
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
  coverage   the largest share of answers that a threshold on their confidence
             lets through so that 95 % (99 %) of them are right

The other intervals are bias-corrected bootstrap intervals from 1,000 samples.
The ten pairs of classes that are most often taken for each other follow. With
--plot the curves behind the figures are drawn: reliability, and risk against
coverage. docs/evaluation.md has the formulas and their sources.

With --mask the words of all class names in the file, singular and plural, are
removed from the titles first: what the system knows without being told. A
product of which nothing is left then is counted apart.

The file is read as send reads it, with a column category. What was answered
is kept with --save, and such a file can be given in place of products: then
nobody is asked.

With --gate-sweep LEG it is computed what the answers would be if LEG were asked
only where another leg is less sure than a threshold, by the reducer of the
composition, over the products that all legs answered; and the cheapest gate is
named that is expected to lose at most --max-loss points of accuracy, by the
probabilities of the answers themselves. What it does lose is measured beside
that. Choose it on other products than it is measured on, with --chosen-on.

With --backoff it is told what answering with the deepest category of the
taxonomy that is sure enough would give, in place of a leaf or nothing: the
lowest threshold at which 95 % (99 %) of the answers are right, how many
products are answered then, and of which level.`,
		Example: `  aisle evaluate products.csv
  aisle evaluate --mask -o json products.csv | jq .fused.accuracy
  aisle evaluate --plot curves.png --save answers.ndjson products.csv
  aisle evaluate --title productDisplayName --category articleType --attribute gender \
      --images images/ products.csv
  aisle evaluate --gate-sweep photo --max-loss 0.2 --plot gate.png answers.ndjson
  aisle evaluate --gate-sweep photo --chosen-on validation.ndjson test.ndjson
  aisle evaluate --backoff --plot curves.png answers.ndjson`,
		Args: exactly(1, "one file, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.checkAll(); err != nil {
				return err
			}
			return a.runEvaluate(cmd, args[0], &f)
		},
	}
	f.flags(cmd, true)
	cmd.Flags().BoolVar(&f.masked, "mask", false, "remove the words of the class names from the titles")
	cmd.Flags().StringVar(&f.plot, "plot", "", "draw the curves (with --gate-sweep, that of the gate) into this .png or .svg file")
	cmd.Flags().StringVar(&f.save, "save", "", "keep the answers, with all that each leg predicts, in this file (NDJSON of category events)")
	cmd.Flags().BoolVar(&f.backoff, "backoff", false, "measure answers that back off to a category of the composition's taxonomy that is sure enough")
	cmd.Flags().StringVar(&f.composition, "composition", "", "with --gate-sweep or --backoff: a composition file (default: that of the composer that runs)")
	f.gate.flags(cmd)
	output(cmd, &f.output, "table", "json", "yaml")
	return cmd
}

func (f *evaluateFlags) checkAll() error {
	if err := f.check(); err != nil {
		return err
	}
	if f.plot != "" && !curves.Known(f.plot) {
		return usagef("--plot %s: use a name that ends in .png or .svg", f.plot)
	}
	if f.composition != "" && f.gate.leg == "" && !f.backoff {
		return usagef("--composition is for --gate-sweep LEG and --backoff")
	}
	return f.gate.check()
}

func (a *app) runEvaluate(cmd *cobra.Command, name string, f *evaluateFlags) error {
	gate, err := a.gateSweep(cmd.Context(), &f.gate, f.composition)
	if err != nil {
		return err
	}
	t, e := newTally(), newEvaluation()
	if e.back, err = a.backing(cmd.Context(), f.backoff, f.composition); err != nil {
		return err
	}
	answers := isAnswers(name)
	if answers {
		err = a.evaluateAnswers(name, f, t, e, gate)
	} else {
		err = a.evaluateProducts(cmd, name, f, t, e, gate)
	}
	if err != nil {
		a.listFailures(t)
		return err
	}
	if len(e.fused) == 0 {
		a.listFailures(t)
		if t.Accepted > 0 {
			return noAnswers(t)
		}
		return fmt.Errorf("no product of %s got a category; there is nothing to measure", name)
	}
	r := e.report(name, f.masked, t)
	r.Stored = answers
	if gate != nil {
		if r.Gate, err = a.sweep(gate, name, f); err != nil {
			return err
		}
	}
	if f.plot != "" {
		figure := e.figure(r)
		if r.Gate != nil {
			figure = r.Gate.figure()
		}
		if err := a.draw(figure, f.plot); err != nil {
			return err
		}
	}
	if f.output != "table" {
		if err := writeAs(a.out, f.output, r); err != nil {
			return err
		}
		return t.outcome()
	}
	a.listFailures(t)
	a.showReport(r, t)
	if r.Gate != nil {
		a.showGate(r.Gate)
	}
	return t.outcome()
}

// isAnswers tells whether a file holds stored answers, and no products.
func isAnswers(name string) bool {
	file, err := os.Open(name)
	if err != nil {
		return false // it is told where the products are opened
	}
	defer file.Close()
	return stored.Is(file)
}

// evaluateAnswers measures stored answers.
func (a *app) evaluateAnswers(name string, f *evaluateFlags, t *tally, e *evaluation, gate *sweeper) error {
	if f.masked || f.save != "" || f.to != "" {
		return usagef("%s holds answers: --mask, --save and --to are for products that are still to be asked about", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open the answers: %w", err)
	}
	defer file.Close()
	err = stored.Read(file, name, func(ans stored.Answer) error {
		if ans.Truth == "" {
			return fmt.Errorf("%s: the answer about %s does not say which category is right; aisle evaluate --save FILE writes that with each", name, ans.ID)
		}
		t.add(delivery.Answer{Result: ans.Result})
		if err := e.add(ans.Truth, ans.Result); err != nil {
			return err
		}
		return gate.add(e, ans.Truth, ans.Result)
	})
	t.stop()
	return err
}

// evaluateProducts asks about products, and measures the answers.
func (a *app) evaluateProducts(cmd *cobra.Command, name string, f *evaluateFlags, t *tally, e *evaluation, gate *sweeper) (err error) {
	var edit func(*feed.Item)
	if f.masked {
		classes, err := a.classes(cmd.Context(), name, &f.fileFlags)
		if err != nil {
			return err
		}
		titles := mask.New(classes)
		edit = func(i *feed.Item) { i.Product.Title = titles.Mask(i.Product.Title) }
	}
	in, err := a.open(cmd.Context(), name, &f.fileFlags, true)
	if err != nil {
		return err
	}
	defer in.close()
	var saved io.Writer = io.Discard
	if f.save != "" {
		file, err := os.Create(f.save)
		if err != nil {
			return fmt.Errorf("save the answers: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		saved = file
	}
	f.distributions = f.save != "" || gate != nil || f.backoff
	return a.deliver(cmd, in, &f.fileFlags, edit, t, func(ans delivery.Answer) error {
		if errors.Is(ans.Err, delivery.ErrNothing) && f.masked {
			t.Failed-- // no failure: the mask took everything
			t.Failures = t.Failures[:min(len(t.Failures), t.Failed)]
			e.empty++
		}
		if ans.Err != nil || ans.Accepted {
			return nil
		}
		if err := e.add(ans.Item.Category, ans.Result); err != nil {
			return err
		}
		if f.save != "" {
			if err := stored.Write(saved, ans.Event, ans.Item.Category); err != nil {
				return fmt.Errorf("save the answers: %w", err)
			}
		}
		return gate.add(e, ans.Item.Category, ans.Result)
	}, true)
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

// draw writes a figure to the file that a flag names.
func (a *app) draw(f curves.Figure, name string) error {
	data, err := f.Draw(isSVG(name))
	if err == nil {
		err = os.WriteFile(name, data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("draw the curves: %w", err)
	}
	a.err.Printf("drawn: %s\n", name)
	return nil
}
