package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/contrast"
	"aisle.dev/aisle/cmd/aisle/internal/curves"
	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/offline"
	"aisle.dev/aisle/cmd/aisle/internal/stored"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/composition"
)

// compareFlags are those of `aisle compare`.
type compareFlags struct {
	fileFlags
	products, answers, truth string
	plot, output             string
	moves                    int
}

// Words that name what is compared.
const (
	fromEvents = "events"
	legPrefix  = "leg:"
)

// maxCompared bounds how many answers of each are held.
const maxCompared = 2_000_000

func (a *app) compare() *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Show what a new leg, model or composition would change",
		Long: `Compare two ways to answer the same products, before one takes the other's
place: how often they agree, which is right more often where the right category
is known, and which products move. A and B are each one of

  FILE.ndjson   answers that were stored: by evaluate --save, send --wait -o
                ndjson or results -o ndjson
  events        the category events that this machine's brokers keep
  leg:NAME      what one leg said, shadow legs too, in the answers of the other,
                of --answers FILE, or else in the events
  FILE.yaml     a composition: what it would have answered, out of the same
                answers. They must hold all that the legs predict (evaluate --save)
  URL           a composer, which is asked about --products FILE

The difference of the accuracies has a 95 % interval for paired answers, and the
p of McNemar's exact test; docs/evaluation.md has the formulas.`,
		Example: `  aisle compare events leg:title-v2
  aisle compare answers.ndjson new.yaml --plot moves.png
  aisle compare old.yaml new.yaml --answers answers.ndjson -o csv > moved.csv
  aisle compare http://composer.default.localhost:8080 http://composer.next.localhost:8080 \
      --products products.csv --truth products.csv`,
		Args: exactly(2, "two things to compare"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if f.plot != "" && !curves.Known(f.plot) {
				return usagef("--plot %s: use a name that ends in .png or .svg", f.plot)
			}
			return a.runCompare(cmd, args[0], args[1], &f)
		},
	}
	f.flags(cmd, true)
	_ = cmd.Flags().MarkHidden("to") // fails only for a flag that is not there; A and B say whom to ask
	s := cmd.Flags()
	s.StringVar(&f.products, "products", "", "file of products, to ask a composer about")
	s.StringVar(&f.answers, "answers", "", "stored answers that compositions and legs are about (default: those of the other one; else the events)")
	s.StringVar(&f.truth, "truth", "", "file of products with the right categories, by id (answers that evaluate saved have them)")
	s.StringVar(&f.plot, "plot", "", "draw both and the moves into this .png or .svg file")
	s.IntVar(&f.moves, "moves", 20, "list so many of the products that move")
	output(cmd, &f.output, "table", "json", "csv")
	return cmd
}

func (a *app) runCompare(cmd *cobra.Command, nameA, nameB string, f *compareFlags) error {
	truth, err := a.truths(cmd.Context(), f)
	if err != nil {
		return err
	}
	var said [2][]contrast.Said
	untold := 0
	for i, name := range []string{nameA, nameB} {
		other := []string{nameB, nameA}[i]
		err := a.said(cmd, name, other, f, func(id, known string, r contrast.Said) error {
			if len(said[i]) == maxCompared {
				return fmt.Errorf("%s has more than %d answers; compare fewer", name, maxCompared)
			}
			if t, ok := truth[id]; ok {
				known = t
			}
			r.ID, r.Truth = id, known
			said[i] = append(said[i], r)
			return nil
		}, &untold)
		if err != nil {
			return err
		}
	}
	r := contrast.Compare(said[0], said[1])
	if r.Products == 0 {
		return fmt.Errorf("%s (%s) and %s (%s) are about no product in common", nameA, plural(len(said[0]), "product"), nameB, plural(len(said[1]), "product"))
	}
	if untold > 0 {
		a.err.Printf("%s left out: their stored answers do not tell what they would be\n", plural(untold, "product"))
	}
	if f.plot != "" {
		if err := a.draw(contrastFigure(nameA, nameB, r), f.plot); err != nil {
			return err
		}
	}
	switch f.output {
	case "json":
		return writeAs(a.out, "json", struct {
			A      string `json:"a"`
			B      string `json:"b"`
			Untold int    `json:"untold,omitempty"` // left out
			contrast.Report
		}{nameA, nameB, untold, r})
	case "csv":
		return writeMoves(a.out, r.Moves)
	}
	a.showContrast(nameA, nameB, r, f.moves)
	return nil
}

// truths reads the right categories by id.
func (a *app) truths(ctx context.Context, f *compareFlags) (map[string]string, error) {
	out := map[string]string{}
	if f.truth == "" {
		return out, nil
	}
	in, err := a.open(ctx, f.truth, &f.fileFlags, true)
	if err != nil {
		return nil, err
	}
	defer in.close()
	for {
		item, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		case item.Err != nil:
		case len(out) == maxCompared:
			return nil, fmt.Errorf("%s has more than %d products", f.truth, maxCompared)
		default:
			out[item.Key()] = item.Category
		}
	}
}

// said passes on what one operand says of each product. Products of which the
// stored answers do not tell it are counted.
func (a *app) said(cmd *cobra.Command, name, other string, f *compareFlags, each func(id, truth string, s contrast.Said) error, untold *int) error {
	whole := func(ans stored.Answer) error { return each(ans.ID, ans.Truth, fusedSaid(ans.Result)) }
	leg, isLeg := strings.CutPrefix(name, legPrefix)
	switch {
	case isURL(name):
		return a.askSaid(cmd, name, f, whole)
	case name == fromEvents:
		return a.storedAnswers(cmd.Context(), "", whole)
	case isLeg:
		return a.storedAnswers(cmd.Context(), base(other, f), func(ans stored.Answer) error {
			for _, l := range ans.Result.Legs {
				if l.Name == leg && l.Outcome == category.Answered {
					return each(ans.ID, ans.Truth, contrast.Said{Label: l.Label, Confidence: l.Confidence})
				}
			}
			return nil // it was not asked, or said nothing
		})
	case strings.HasSuffix(name, ".yaml"), strings.HasSuffix(name, ".yml"):
		spec, err := composition.Load(name)
		if err != nil {
			return err
		}
		composer, err := offline.New(spec)
		if err != nil {
			return err
		}
		return a.storedAnswers(cmd.Context(), base(other, f), func(ans stored.Answer) error {
			again, err := composer.Answer(ans.Result)
			if errors.Is(err, offline.ErrUntold) {
				*untold++
				return nil
			}
			if err != nil {
				return err
			}
			return each(ans.ID, ans.Truth, fusedSaid(again))
		})
	}
	return a.storedAnswers(cmd.Context(), name, whole)
}

func isURL(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// base is the file of the answers that a composition or a leg is about; empty:
// the events.
func base(other string, f *compareFlags) string {
	switch {
	case f.answers != "":
		return f.answers
	case strings.HasSuffix(other, ".yaml"), strings.HasSuffix(other, ".yml"), strings.HasPrefix(other, legPrefix), isURL(other), other == fromEvents:
		return ""
	}
	return other
}

// storedAnswers reads a file of answers, or the events of this machine.
func (a *app) storedAnswers(ctx context.Context, name string, each func(stored.Answer) error) error {
	if name != "" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("open the answers: %w", err)
		}
		defer file.Close()
		return stored.Read(file, name, each)
	}
	e, err := a.eventsAt()
	if err != nil {
		return err
	}
	return e.Results(ctx, "", false, func(r client.Result) error {
		ans, err := stored.Decode(r.Data)
		if err != nil {
			return fmt.Errorf("read result %s: %w", r.ID, err)
		}
		return each(ans)
	})
}

// askSaid asks a composer about the products.
func (a *app) askSaid(cmd *cobra.Command, to string, f *compareFlags, each func(stored.Answer) error) error {
	if f.products == "" || f.products == "-" {
		return usagef("%s is a composer: say which file of products it is to be asked about with --products FILE", to)
	}
	in, err := a.open(cmd.Context(), f.products, &f.fileFlags, false)
	if err != nil {
		return err
	}
	defer in.close()
	f.to = to
	t := newTally()
	err = a.deliver(cmd, in, &f.fileFlags, nil, t, func(ans delivery.Answer) error {
		if ans.Accepted {
			return nil
		}
		return each(stored.Answer{ID: ans.Item.Key(), Result: ans.Result}) // no category where it failed
	}, true)
	a.listFailures(t)
	if err == nil && t.Accepted > 0 {
		return noAnswers(t)
	}
	return err
}

func fusedSaid(r category.Result) contrast.Said {
	if r.Category == nil {
		return contrast.Said{}
	}
	return contrast.Said{Label: r.Category.Label, Confidence: r.Category.Confidence}
}

// writeMoves writes the products that move.
func writeMoves(w io.Writer, moves []contrast.Move) error {
	out := csv.NewWriter(w)
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', 6, 64) }
	_ = out.Write([]string{"id", "a", "a_confidence", "b", "b_confidence", "truth"}) // the writer keeps its error
	for _, m := range moves {
		_ = out.Write([]string{m.ID, m.From, number(m.FromConfidence), m.To, number(m.ToConfidence), m.Truth})
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
