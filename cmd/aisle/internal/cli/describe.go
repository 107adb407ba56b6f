package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
)

func (a *app) describe() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "describe service|revision|pod NAME",
		Short: "Show all that is known of a service, a revision or a pod",
		Long: `Show one service, revision or pod with what belongs to it: conditions, what the
autoscaler wants and why, pods, recent events of a cluster, the last words of
the newest pods, and the digest of the model, where the revision declares it or
a pod says it.`,
		Example: `  aisle describe service title
  aisle describe pod title-00001-bcdfg
  aisle --context prod -n aisle describe revision title-00002`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("want a kind and a name, such as: service title; got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			k, ok := kindNamed(args[0])
			if !ok {
				return usagef("%q is not a kind; use service, revision or pod", args[0])
			}
			place, err := a.place()
			if err != nil {
				return err
			}
			d, err := place.Describe(cmd.Context(), strings.TrimSuffix(k.name, "s"), args[1])
			if err != nil {
				return err
			}
			if format != "table" {
				return writeAs(a.out, format, d)
			}
			a.showDescription(d, time.Now)
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			switch {
			case len(args) == 0:
				return []string{client.KindService, client.KindRevision, client.KindPod}, cobra.ShellCompDirectiveNoFileComp
			case len(args) == 1:
				return a.names(cmd, args[0]), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

// kindNamed finds a kind by any of its names.
func kindNamed(name string) (kind, bool) {
	for _, k := range kinds(time.Now, "") {
		for _, alias := range append(k.aliases, k.name) {
			if alias == name {
				return k, true
			}
		}
	}
	return kind{}, false
}

// names completes what there is of a kind.
func (a *app) names(cmd *cobra.Command, kind string) []string {
	place, err := a.place()
	k, ok := kindNamed(kind)
	if err != nil || !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completing)
	defer cancel()
	list, err := k.list(ctx, place)
	if err != nil {
		return nil // where nothing answers there is nothing to complete
	}
	var names []string
	for _, row := range k.rows(list) {
		names = append(names, row[0].Text[strings.LastIndexByte(row[0].Text, '/')+1:])
	}
	return names
}

func (a *app) showDescription(d client.Description, now func() time.Time) {
	line := func(name, text string) {
		if text != "" {
			a.out.Printf("%-11s %s\n", name, screen.Clean(text))
		}
	}
	line(strings.ToUpper(d.Kind[:1])+d.Kind[1:], d.Name)
	line("Namespace", d.Namespace)
	if s := d.Service; s != nil {
		line("URL", s.URL)
		line("Revision", s.LatestRevision)
	}
	if d.Kind != client.KindService && len(d.Revisions) > 0 {
		r := d.Revisions[0]
		line("Service", r.Service)
		line("Image", r.Image)
		line("Wanted", fmt.Sprintf("%d pods: %s", r.Want, r.Why))
	}
	line("Model", d.Model)
	var traffic []string
	for _, s := range d.Traffic {
		tag := ""
		if s.Tag != "" {
			tag = " as " + s.Tag
		}
		traffic = append(traffic, fmt.Sprintf("%d%% %s%s", s.Percent, s.Revision, tag))
	}
	line("Traffic", strings.Join(traffic, ", "))

	section := func(title string, columns []screen.Column, rows [][]screen.Cell) {
		if len(rows) > 0 {
			a.out.Printf("\n%s\n", a.out.Paint(screen.Bold, title))
			columns, rows = known(columns, rows)
			screen.Write(a.out, columns, rows)
		}
	}
	var rows [][]screen.Cell
	for _, c := range d.Conditions {
		status := screen.Cell{Text: c.Status, Colour: map[string]screen.Colour{"True": screen.Green, "False": screen.Red}[c.Status]}
		why := c.Message
		if c.Reason != "" && why != "" {
			why = c.Reason + ": " + why
		} else if why == "" {
			why = c.Reason
		}
		rows = append(rows, []screen.Cell{{Text: c.Type}, status, orUnknown(ago(now, c.Since)), orUnknown(screen.Cell{Text: why})})
	}
	section("Conditions", []screen.Column{{Name: "TYPE"}, {Name: "STATUS"}, {Name: "SINCE", Right: true}, {Name: "WHY"}}, rows)
	all := kinds(now, d.Namespace)
	section("Revisions", all[1].columns, all[1].rows(d.Revisions))
	section("Pods", all[2].columns, all[2].rows(d.Pods))
	rows = nil
	for _, e := range d.Events {
		kind := screen.Cell{Text: e.Type}
		if e.Type != "Normal" {
			kind.Colour = screen.Yellow
		}
		rows = append(rows, []screen.Cell{ago(now, e.Last), kind, {Text: e.Object}, {Text: e.Reason}, count(e.Count), {Text: e.Message}})
	}
	section("Events", []screen.Column{{Name: "AGO", Right: right}, {Name: "TYPE"}, {Name: "OBJECT"}, {Name: "REASON"}, {Name: "TIMES", Right: right}, {Name: "MESSAGE"}}, rows)
	for _, s := range d.Said {
		a.out.Printf("\n%s\n%s\n", a.out.Paint(screen.Bold, "Last words of "+screen.Clean(s.Pod)), screen.CleanLines(s.Text))
	}
	for _, m := range d.Missing {
		a.out.Printf("\n%s\n%s\n", a.out.Paint(screen.Yellow, "Not read"), screen.CleanLines(m))
	}
}

func orUnknown(c screen.Cell) screen.Cell {
	if c.Text == "" {
		return unknown
	}
	return c
}
