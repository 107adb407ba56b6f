package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client"
)

func (a *app) explain() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "explain EVENT-ID | PRODUCT-ID",
		Short: "Show why a product got its category",
		Long: `Show why a product that came as an event got its category, out of the stored
event: what each leg said and how much it counted, by which model, what failed
and what was slow. Events are kept by age and size.`,
		Example: `  aisle explain p1
  aisle explain 4f1c9e0b7a -o json`,
		Args: exactly(1, "the id of an event or of a product"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.eventsAt()
			if err != nil {
				return err
			}
			return a.explainOne(cmd.Context(), e, args[0], format)
		},
	}
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

func (a *app) explainOne(ctx context.Context, e *client.Engine, id, format string) error {
	x, err := e.Explain(ctx, id)
	if err != nil {
		return err
	}
	if format != "table" {
		return writeAs(a.out, format, x)
	}
	a.showExplanation(x)
	return nil
}

func (a *app) showExplanation(x client.Explanation) {
	line := func(name, format string, args ...any) {
		a.out.Printf("%-12s %s\n", name, screen.Clean(fmt.Sprintf(format, args...)))
	}
	when := func(s client.Stored) string {
		text := fmt.Sprintf("event %s of %s", s.ID, s.Source)
		if s.Seq > 0 {
			text += fmt.Sprintf(", number %d of %s", s.Seq, strings.TrimPrefix(s.Broker, "default/"))
		}
		if !s.Time.IsZero() {
			text = s.Time.Local().Format(time.DateTime) + ", " + text
		}
		return text
	}
	r := x.Result
	if r != nil && r.ID != "" {
		line("Product", "%s", r.ID)
	}
	line("Came", "%s", when(x.Asked))
	if x.Answer != nil {
		line("Answered", "%s", when(*x.Answer))
	}
	if r == nil {
		line("Category", "none yet; what waits: aisle get events --pending, what was given up: aisle events")
		a.showDeliveries(x)
		return
	}
	if r.Category != nil {
		line("Category", "%s, %.2f sure", strings.Join(r.Category.Path, " > "), r.Category.Confidence)
	} else {
		line("Category", "none: no leg answered")
	}
	var next []string
	for _, c := range r.Candidates[min(1, len(r.Candidates)):] {
		next = append(next, fmt.Sprintf("%s %.2f", c.Label, c.Probability))
	}
	if len(next) > 0 {
		line("Else", "%s", strings.Join(next, ", "))
	}
	line("Status", "%s, %.1f ms in the composer", r.Status, r.DurationMs)
	line("Composition", "%s %s", r.Composition.Name, r.Composition.Digest)
	a.section("Legs", left("LEG", "SAYS", ">SURE", ">WEIGHT", ">SHARE", ">MS", ">COLD", ">TRIED", "MODEL", "REASON"), legRows(x))
	a.showDeliveries(x)
	for i, s := range x.Slow {
		if i == 0 {
			a.out.Printf("\n%s\n", a.out.Paint(screen.Bold, "Slow"))
		}
		a.out.Printf("%s\n", screen.Clean(s))
	}
	for i, s := range x.Earlier {
		if i == 0 {
			a.out.Printf("\n%s\n", a.out.Paint(screen.Bold, "Answered before"))
		}
		a.out.Printf("%s\n", screen.Clean(when(s)))
	}
}

// showDeliveries says what became of the product event at the Triggers that
// take it, and how far was looked.
func (a *app) showDeliveries(x client.Explanation) {
	var rows [][]screen.Cell
	for _, d := range x.Deliveries {
		state, tried, dead, code := screen.Cell{Text: d.State}, unknown, unknown, unknown
		if d.Attempts > 0 {
			tried = count(d.Attempts)
		}
		if d.State == client.DeliveryGivenUp {
			state.Colour = screen.Red
			dead = screen.Cell{Text: strconv.FormatUint(d.DeadLetter, 10)}
			if d.Code > 0 {
				code = count(d.Code)
			}
		}
		rows = append(rows, []screen.Cell{{Text: strings.TrimPrefix(d.Trigger, "default/"), Colour: screen.Bold}, state, tried, dead, code})
	}
	if len(rows) > 0 {
		a.section("Delivered", left("TRIGGER", "STATE", ">TRIED", ">DEAD LETTER", ">CODE"), rows)
	}
	if x.Bound != "" {
		a.out.Printf("\n%s\n", screen.Clean(x.Bound))
	}
}

// legRows say what each leg said, and how much it counted.
func legRows(x client.Explanation) [][]screen.Cell {
	var rows [][]screen.Cell
	for _, l := range x.Result.Legs {
		weight, share := unknown, unknown
		for _, w := range x.Weights {
			if w.Leg == l.Name {
				weight = screen.Cell{Text: fmt.Sprintf("%.2f", w.Weight)}
				share = screen.Cell{Text: fmt.Sprintf("%.0f%%", 100*w.Share)}
			}
		}
		says, how, cold, tried, model := screen.Cell{Text: string(l.Outcome), Colour: screen.Dim}, unknown, unknown, unknown, unknown
		switch l.Outcome {
		case category.Answered:
			says, how = screen.Cell{Text: l.Label}, sure(l.Confidence)
		case category.Closed:
			says.Colour = screen.Yellow
		case category.LegFailed:
			says.Colour = screen.Red
		}
		if l.ColdMs > 0 {
			cold = screen.Cell{Text: fmt.Sprintf("%.1f", l.ColdMs), Colour: screen.Cyan}
		}
		if l.Attempts > 0 {
			tried = count(l.Attempts)
		}
		if l.Model != nil {
			model = screen.Cell{Text: strings.TrimSpace(l.Model.Name+" "+l.Model.Version) + " " + l.Model.Digest}
		}
		rows = append(rows, []screen.Cell{{Text: legName(l), Colour: screen.Bold}, says, how, weight, share,
			{Text: fmt.Sprintf("%.1f", l.LatencyMs)}, cold, tried, model, orUnknown(screen.Cell{Text: l.Reason})})
	}
	return rows
}
