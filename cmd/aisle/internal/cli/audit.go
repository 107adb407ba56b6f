package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
)

func (a *app) audit() *cobra.Command {
	var format string
	var limit int
	cmd := &cobra.Command{
		Use:   "audit [SERVICE]",
		Short: "Show what changed how many pods services may have, and who did",
		Long: `Show the last changes of services' bounds, the newest first: by hand, by an
event, by a schedule's window that began or ended, by one that expired; who made
them and why. They are in DATA-DIR/audit.log, of which the last 4 to 8 MB are
kept. In a cluster the API server's audit log has who wrote a ScalingSchedule,
and the Events of the schedule (aisle describe) what became of it.`,
		Example: `  aisle audit
  aisle audit title --limit 5
  aisle audit -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("want one service, or none for all; got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.place()
			if err != nil {
				return err
			}
			e, ok := p.(*client.Engine)
			if !ok {
				return usagef("in a cluster the API server's audit log says who changed what; see also: aisle describe scalingschedule NAME")
			}
			service := ""
			if len(args) == 1 {
				service = args[0]
			}
			all, err := client.Audit[audit.Entry](cmd.Context(), e, service, limit)
			if err != nil {
				return err
			}
			if format != "table" {
				return writeAs(a.out, format, all)
			}
			if len(all) == 0 {
				a.err.Printf("no change is on record\n")
				return nil
			}
			screen.Write(a.out, changeColumns, changeRows(all, time.Now))
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.serviceNames(cmd)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most, up to 1000")
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

var changeColumns = left(">AGO", "SERVICE", "PODS", "WHAT", "BY", "UNTIL", "REASON")

func changeRows(all []audit.Entry, now func() time.Time) [][]screen.Cell {
	var rows [][]screen.Cell
	for _, e := range all {
		by, until, what := string(e.Way), unknown, e.Did
		if e.By != "" {
			by = fmt.Sprintf("%s (%s)", e.By, e.Way)
		}
		if !e.Until.IsZero() {
			until = screen.Cell{Text: e.Until.In(now().Location()).Format("Mon 2006-01-02 15:04 MST")}
		}
		if e.Schedule != "" {
			what = e.Schedule + ": " + what
		}
		pods := e.New.String()
		if e.Old != e.New {
			pods = e.Old.String() + " → " + pods
		}
		rows = append(rows, []screen.Cell{ago(now, e.Time), {Text: e.Namespace + "/" + e.Service, Colour: screen.Bold}, {Text: pods}, {Text: what}, {Text: by}, until, orUnknown(screen.Cell{Text: e.Reason})})
	}
	return rows
}
