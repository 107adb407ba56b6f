package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative"
	"aisle.dev/aisle/internal/scaling"
)

// scaler is a place as far as bounds are set there by hand. A name may be
// NAMESPACE/NAME.
type scaler interface {
	Scale(ctx context.Context, name string) (client.Scale, error)
	SetScale(ctx context.Context, name string, hand scaling.ByHand, how client.Changing) (client.Scale, error)
	ResetScale(ctx context.Context, name string, how client.Changing) (client.Scale, error)
}

var (
	_ scaler = (*client.Engine)(nil)
	_ scaler = clusterScaler{}
)

// scalerAt is the place that is meant.
func (a *app) scalerAt() (scaler, error) {
	p, err := a.place()
	if err != nil {
		return nil, err
	}
	if c, ok := p.(*knative.Cluster); ok {
		return clusterScaler{c, cmp.Or(a.Getenv("USER"), "somebody") + ", by aisle"}, nil
	}
	return p.(*client.Engine), nil
}

// handFlags are those that set bounds.
type handFlags struct {
	min, max  int32
	expiry    scaling.ByHand // all but min and max
	given     []string       // flags of it that are given
	dry, back bool
}

func (h *handFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Int32Var(&h.min, "min", 0, "the least number of pods")
	f.Int32Var(&h.max, "max", 0, "the greatest number of pods")
	f.BoolVar(&h.back, "reset", false, "take back what was set by hand")
	h.expiryFlags(cmd)
}

// expiryFlags say how long it holds, and why.
func (h *handFlags) expiryFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&h.expiry.For, "for", "", "how long it holds, such as 3h or 90m")
	f.StringVar(&h.expiry.Until, "until", "", "until when it holds: 18:00 (the next one here), or 2026-11-27T18:00:00+01:00")
	f.BoolVar(&h.expiry.Permanent, "permanent", false, "it holds until somebody takes it back")
	f.StringVar(&h.expiry.Reason, "reason", "", "why, for who reads it later")
	f.BoolVar(&h.dry, "dry-run", false, "show what would be written and what would hold, and write nothing")
}

// read gives what is to be set; nil: nothing is.
func (h *handFlags) read(cmd *cobra.Command, now time.Time) (*scaling.ByHand, error) {
	for _, name := range []string{"min", "max", "for", "until", "permanent", "reason"} {
		if cmd.Flags().Changed(name) {
			h.given = append(h.given, "--"+name)
		}
	}
	if len(h.given) == 0 {
		if h.dry && !h.back {
			return nil, usagef("--dry-run shows what a change would be: say which, such as --min 2 --for 3h")
		}
		return nil, nil
	}
	if h.back {
		return nil, usagef("--reset takes back what was set; leave %s away", strings.Join(h.given, ", "))
	}
	hand := h.expiry
	if cmd.Flags().Changed("min") {
		hand.Min = &h.min
	}
	if cmd.Flags().Changed("max") {
		hand.Max = &h.max
	}
	return checked(hand, now)
}

// checked is bounds whose time is whole, and that are right as far as can be
// said before anybody is asked.
func checked(hand scaling.ByHand, now time.Time) (*scaling.ByHand, error) {
	var err error
	if hand.Until, err = clockTime(hand.Until, now); err != nil {
		return nil, err
	}
	if _, err := hand.Schedule("default", "service", "", now); err != nil {
		return nil, usagef("%s", flagged(err.Error()))
	}
	return &hand, nil
}

// flagged calls fields what the command line calls them.
func flagged(text string) string {
	parts := strings.Split(text, "; ")
	for i, part := range parts {
		if name, _, ok := strings.Cut(part, ": "); ok && !strings.Contains(name, " ") {
			parts[i] = "--" + part
		}
	}
	return strings.Join(parts, "; ")
}

// clockTime makes of "18:00" the next time that the clock here shows that, and
// leaves all else as it is.
func clockTime(text string, now time.Time) (string, error) {
	if len(text) > 5 || text == "" {
		return text, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return "", usagef("--until %q: use a time such as 18:00 or 2026-11-27T18:00:00+01:00", text)
	}
	at := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
	if !at.After(now) {
		at = time.Date(now.Year(), now.Month(), now.Day()+1, t.Hour(), t.Minute(), 0, 0, now.Location())
	}
	return at.Format(time.RFC3339), nil
}

func (a *app) scale() *cobra.Command {
	var h handFlags
	var format string
	cmd := &cobra.Command{
		Use:   "scale SERVICE",
		Short: "Set how many pods a service has, by hand, or show what bounds it",
		Long: `Set the least and the greatest number of pods of a service, for a while; or,
without flags, show which bounds hold, by which schedules, and until when.

What is set is a ScalingSchedule named SERVICE-by-hand, in the place of what was
set before. It expires: say --for or --until, or --permanent where it is meant to
stay. Together with the service's own min-scale and max-scale and its other
schedules the highest floor and the lowest cap hold. To take no requests at all
use a schedule with closed: true (see docs/scaling.md).`,
		Example: `  aisle scale title                                   # what holds, and why
  aisle scale title --min 2 --max 4 --for 3h --reason "Black Friday"
  aisle scale title --max 1 --until 18:00 --dry-run   # what would hold
  aisle scale title --reset
  aisle --context prod -n aisle scale title --min 1 --for 90m`,
		Args: exactly(1, "a service"),
		RunE: func(cmd *cobra.Command, args []string) error {
			hand, err := h.read(cmd, time.Now())
			if err != nil {
				return err
			}
			s, err := a.scalerAt()
			if err != nil {
				return err
			}
			var v client.Scale
			switch {
			case h.back:
				v, err = s.ResetScale(cmd.Context(), args[0], client.Changing{Dry: h.dry})
			case hand != nil:
				v, err = s.SetScale(cmd.Context(), args[0], *hand, client.Changing{Dry: h.dry})
			default:
				v, err = s.Scale(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			if format != "table" {
				return writeAs(a.out, format, v)
			}
			return a.showScale(v, time.Now)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.serviceNames(cmd)
		},
	}
	h.flags(cmd)
	output(cmd, &format, "table", "json", "yaml")
	cmd.AddCommand(a.scaleLeg())
	return cmd
}

// podsHeld says a floor and a cap in words.
func podsHeld(floor, limit int) string {
	switch {
	case limit == 0 && floor == 0:
		return "as many pods as are needed"
	case limit == 0:
		return "at least " + plural(floor, "pod")
	case floor == limit:
		return plural(floor, "pod")
	}
	return fmt.Sprintf("%d to %d pods", floor, limit)
}

// showScale shows what bounds a service.
func (a *app) showScale(v client.Scale, now func() time.Time) error {
	if v.DryRun && v.ByHand != nil {
		text, err := yaml.Marshal(v.ByHand)
		if err != nil {
			return fmt.Errorf("show what would be written: %w", err)
		}
		a.out.Printf("%s\n%s\n", a.out.Paint(screen.Bold, "Would be written"), screen.CleanLines(string(text)))
	}
	holds := podsHeld(v.Floor, v.Cap)
	if v.Closed {
		holds = "closed: it takes no requests" + opens(v.Opens, now)
	}
	line := func(name, text string) { a.out.Printf("%-11s %s\n", name, screen.Clean(text)) }
	line("Service", v.Namespace+"/"+v.Service)
	if v.DryRun {
		line("Would hold", holds)
	} else {
		line("Holds", holds)
	}
	if v.Cut > 0 {
		line("", fmt.Sprintf("a floor of %d is cut to the cap", v.Cut))
	}
	if !v.Next.IsZero() {
		line("Changes", coming(v.Next, now))
	}
	for _, w := range v.Warnings {
		a.err.Printf("%s %s\n", a.err.Paint(screen.Yellow, "note:"), screen.Clean(w))
	}
	rows := [][]screen.Cell{}
	for _, w := range v.Why {
		rows = append(rows, holdingRow(w, now))
	}
	a.section("Why", left("SCHEDULE", "WINDOW", ">FLOOR", ">CAP", "UNTIL", "BY", "REASON"), rows)
	return nil
}

func opens(t time.Time, now func() time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", until " + coming(t, now)
}

func holdingRow(w client.Holding, now func() time.Time) []screen.Cell {
	number := func(n int) screen.Cell {
		if n == 0 {
			return unknown
		}
		return screen.Cell{Text: strconv.Itoa(n)}
	}
	name, limit := screen.Cell{Text: w.Schedule, Colour: screen.Bold}, number(w.Cap)
	if w.Schedule == "" {
		name = screen.Cell{Text: "(the service's own)"}
	}
	if w.Closed {
		limit = screen.Cell{Text: "closed", Colour: screen.Yellow}
	}
	window := orUnknown(screen.Cell{Text: w.Window})
	if w.Early {
		window = screen.Cell{Text: strings.TrimSpace(w.Window + " (to be ready for it)")}
	}
	until := unknown
	if !w.Until.IsZero() {
		until = screen.Cell{Text: coming(w.Until, now)}
	}
	return []screen.Cell{name, window, number(w.Floor), limit, until, orUnknown(screen.Cell{Text: w.By}), orUnknown(screen.Cell{Text: w.Reason})}
}

// coming is a time to come, and how far away it is.
func coming(t time.Time, now func() time.Time) string {
	return fmt.Sprintf("%s (in %s)", t.In(now().Location()).Format("Mon 2006-01-02 15:04:05 MST"), screen.Short(max(0, t.Sub(now()))))
}
