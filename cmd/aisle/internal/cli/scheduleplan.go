package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/plan"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
)

// maxPlanDays is how many days a plan has at most.
const maxPlanDays = 366

// planFlags say which days are planned.
type planFlags struct {
	from, to, zone string
	lead           time.Duration
}

// days are the beginning of the first date and the end of the last one. Without
// flags: this week, in the schedules' time zone.
func (f planFlags) days(services []plan.Service, now time.Time) (from, to time.Time, err error) {
	loc := time.Local
	if len(services) > 0 && len(services[0].Schedules) > 0 {
		loc = services[0].Schedules[0].Location()
	}
	if f.zone != "" {
		if loc, err = time.LoadLocation(f.zone); err != nil {
			return from, to, usagef("--time-zone %q: use a name of the IANA database, such as Europe/Berlin", f.zone)
		}
	}
	date := func(flag, text string) (time.Time, error) {
		t, err := time.ParseInLocation(time.DateOnly, text, loc)
		if err != nil {
			return t, usagef("--%s %q: use a date such as 2026-11-27", flag, text)
		}
		return t, nil
	}
	year, month, day := now.In(loc).Date()
	from = time.Date(year, month, day-(int(now.In(loc).Weekday())+6)%7, 0, 0, 0, 0, loc)
	if f.from != "" {
		if from, err = date("from", f.from); err != nil {
			return from, to, err
		}
	}
	to = from.AddDate(0, 0, 7)
	if f.to != "" {
		if to, err = date("to", f.to); err != nil {
			return from, to, err
		}
		to = to.AddDate(0, 0, 1)
	}
	switch {
	case !to.After(from):
		return from, to, usagef("--to %s is before --from %s", f.to, from.Format(time.DateOnly))
	case to.After(from.AddDate(0, 0, maxPlanDays)):
		return from, to, usagef("from %s to %s are more than %d days; plan fewer", from.Format(time.DateOnly), f.to, maxPlanDays)
	}
	return from, to, nil
}

func (a *app) schedulePlan() *cobra.Command {
	var s sources
	var f planFlags
	var format string
	cmd := &cobra.Command{
		Use:   "plan [SERVICE...]",
		Short: "Show what schedules will do: a chart, a table, JSON, or a picture",
		Long: `Show floor and cap of services over a range of dates, as schedules make them:
of those in files, or at the place. Without dates it is this week.

Changes of the clock, overlaps, floors that are cut to a cap, and floors that
hold early are marked. Below: the hours of pods (of GPUs, where a pod takes
them) that floors hold, which is the least that there will be; what the largest
floor would take if it were always on; and what caps allow at most.

With -o svg or -o png it is a picture, on standard output.`,
		Example: `  aisle schedule plan
  aisle schedule plan title -f schedules.yaml --from 2026-10-19 --to 2026-10-25
  aisle schedule plan -k manifests/overlays/local -o svg > plan.svg
  aisle --context prod schedule plan -o json | jq '.services[].hours'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := a.find(cmd.Context(), &s)
			if err != nil {
				return err
			}
			if err := found.err(); err != nil {
				return err
			}
			services, err := found.chosen(args)
			if err != nil {
				return err
			}
			if f.lead < 0 {
				return usagef("--lead %v: use a duration such as 90s", f.lead)
			}
			if f.lead > 0 {
				for i := range services {
					services[i].Lead.Source, services[i].Lead.Time.Duration = "declared", f.lead
				}
			}
			from, to, err := f.days(services, time.Now())
			if err != nil {
				return err
			}
			p := plan.Make(services, from, to)
			if a.out.Terminal && !cmd.Flags().Changed("output") {
				format = "chart"
			}
			return a.showPlan(p, format)
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.serviceNames(cmd)
		},
	}
	s.fileFlags(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.from, "from", "", "the first date (default: this week's Monday)")
	fs.StringVar(&f.to, "to", "", "the last date (default: six days later)")
	fs.StringVar(&f.zone, "time-zone", "", "of dates and times shown (default: the first schedule's)")
	fs.DurationVar(&f.lead, "lead", 0, "a lead time, in place of what was learned or declared")
	fs.BoolVarP(&a.at.all, "all-namespaces", "A", false, "of all namespaces")
	output(cmd, &format, "table", "chart", "json", "yaml", "svg", "png")
	return cmd
}

func (a *app) showPlan(p plan.Plan, format string) error {
	switch format {
	case "json", "yaml":
		return writeAs(a.out, format, p)
	case "svg", "png":
		if a.out.Terminal {
			return usagef("-o %s is a picture; send it into a file: > plan.%s", format, format)
		}
		picture, err := p.Draw(format == "svg")
		if err != nil {
			return fmt.Errorf("draw the plan: %w", err)
		}
		_, err = a.out.Write(picture)
		return err
	}
	if len(p.Services) == 0 {
		a.out.Printf("no schedules\n")
		return nil
	}
	a.out.Printf("%s\n\n", p.Range())
	if format == "chart" {
		p.Chart(a.out)
		return nil
	}
	// A span lasts until the next one begins, and the last to the end of the range.
	var rows [][]screen.Cell
	for _, s := range p.Services {
		for _, span := range s.Spans {
			rows = append(rows, []screen.Cell{{Text: s.FullName(), Colour: screen.Bold}, {Text: moment(span.From)},
				{Text: fmt.Sprint(span.Floor)}, limit(span.Cap), {Text: plan.Notes(span)}, {Text: plan.Windows(span)}})
		}
	}
	screen.Write(a.out, left("SERVICE", "FROM", ">FLOOR", ">CAP", "NOTE", "WINDOWS"), rows)
	for _, c := range p.Clock {
		a.out.Printf("\nThe clock of %s is changed by %+g h on %s.", c.TimeZone, c.Hours, moment(c.At))
	}
	a.out.Printf("\n")
	for _, s := range p.Services {
		a.out.Printf("%s: %s\n", screen.Clean(s.FullName()), s.Summary())
	}
	return nil
}

// moment is a time as plans have it: seconds only where there are some.
func moment(t time.Time) string {
	if t.Second() != 0 {
		return t.Format("Mon 2 Jan 15:04:05")
	}
	return t.Format("Mon 2 Jan 15:04")
}

func limit(n int) screen.Cell {
	if n == 0 {
		return unknown
	}
	return screen.Cell{Text: fmt.Sprint(n)}
}
