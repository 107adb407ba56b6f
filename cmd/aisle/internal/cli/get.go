package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
)

// kind is something that get lists.
type kind struct {
	name    string
	aliases []string
	columns []screen.Column
	list    func(context.Context, client.Client) (any, error)
	rows    func(any) [][]screen.Cell // of what list gives
}

var right = true

// unknown is what a place does not tell; a column of nothing else is left out.
var unknown = screen.Cell{Text: "-", Colour: screen.Dim}

// kinds shows names of the usual namespace without it.
func kinds(now func() time.Time, usual string) []kind {
	named := func(namespace, name string) screen.Cell {
		if namespace != "" && namespace != usual {
			name = namespace + "/" + name
		}
		return screen.Cell{Text: name, Colour: screen.Bold}
	}
	return []kind{
		{"services", []string{"service", "svc"},
			[]screen.Column{{Name: "NAME"}, {Name: "READY"}, {Name: "PODS", Right: right}, {Name: "REVISION"}, {Name: "URL"}, {Name: "REASON"}},
			func(ctx context.Context, c client.Client) (any, error) { return c.Services(ctx) },
			func(list any) [][]screen.Cell {
				var rows [][]screen.Cell
				for _, s := range list.([]client.Service) {
					ready := screen.Cell{Text: "yes", Colour: screen.Green}
					if !s.Ready {
						ready = screen.Cell{Text: "no", Colour: screen.Red}
					}
					rows = append(rows, []screen.Cell{named(s.Namespace, s.Name), ready, count(s.Pods), {Text: s.LatestRevision}, {Text: s.URL}, {Text: s.Reason}})
				}
				return rows
			}},
		{"revisions", []string{"revision", "rev"},
			[]screen.Column{{Name: "NAME"}, {Name: "WANT", Right: right}, {Name: "READY", Right: right}, {Name: "STARTING", Right: right}, {Name: "DRAINING", Right: right},
				{Name: "SCALE"}, {Name: "REQUESTS", Right: right}, {Name: "WAITING", Right: right}, {Name: "SINCE", Right: right}, {Name: "WHY"}},
			func(ctx context.Context, c client.Client) (any, error) { return c.Revisions(ctx) },
			func(list any) [][]screen.Cell {
				var rows [][]screen.Cell
				for _, r := range list.([]client.Revision) {
					scale := fmt.Sprintf("%d-%d", r.MinScale, r.MaxScale)
					if r.MaxScale == 0 {
						scale = fmt.Sprintf("%d-", r.MinScale)
					}
					requests := unknown
					if r.Concurrency >= 0 {
						requests = screen.Cell{Text: strconv.FormatFloat(r.Concurrency, 'f', -1, 64)}
					}
					rows = append(rows, []screen.Cell{named(r.Namespace, r.Name), count(r.Want), count(r.Ready), count(r.Starting), count(r.Draining),
						{Text: scale}, requests, count(r.Waiting), ago(now, r.Since), {Text: r.Why}})
				}
				return rows
			}},
		{"pods", []string{"pod", "po"},
			[]screen.Column{{Name: "NAME"}, {Name: "PHASE"}, {Name: "REQUESTS", Right: right}, {Name: "READY AFTER", Right: right}, {Name: "MEMORY", Right: right},
				{Name: "CPU", Right: right}, {Name: "AGE", Right: right}, {Name: "PID", Right: right}, {Name: "ADDRESS"}, {Name: "REASON"}},
			func(ctx context.Context, c client.Client) (any, error) { return c.Pods(ctx) },
			func(list any) [][]screen.Cell {
				var rows [][]screen.Cell
				for _, p := range list.([]client.Pod) {
					phase := screen.Cell{Text: p.Phase}
					switch p.Phase {
					case "Ready":
						phase.Colour = screen.Green
					case "Starting":
						phase.Colour = screen.Cyan
					case "Draining":
						phase.Colour = screen.Yellow
					}
					readyAfter := ""
					if p.ReadyMs > 0 {
						readyAfter = fmt.Sprintf("%.0f ms", p.ReadyMs)
					}
					memory, cpu, pid, reason := unknown, unknown, unknown, unknown
					if p.PID > 0 {
						memory, cpu = screen.Cell{Text: fmt.Sprintf("%.0f MB", float64(p.RSSBytes)/1e6)}, screen.Cell{Text: fmt.Sprintf("%.1fs", p.CPUSeconds)}
						pid = count(p.PID)
					}
					if p.Reason != "" {
						reason = screen.Cell{Text: p.Reason, Colour: screen.Red}
					}
					rows = append(rows, []screen.Cell{named(p.Namespace, p.Name), phase, count(p.InFlight), {Text: readyAfter},
						memory, cpu, ago(now, p.Started), pid, {Text: p.Address}, reason})
				}
				return rows
			}},
	}
}

// known leaves out the columns of which nothing is known.
func known(columns []screen.Column, rows [][]screen.Cell) (some []screen.Column, cut [][]screen.Cell) {
	cut = make([][]screen.Cell, len(rows))
	for i, c := range columns {
		if !slices.ContainsFunc(rows, func(row []screen.Cell) bool { return row[i] != unknown }) {
			continue
		}
		some = append(some, c)
		for j, row := range rows {
			cut[j] = append(cut[j], row[i])
		}
	}
	return some, cut
}

func count(n int) screen.Cell {
	if n < 0 {
		return unknown
	}
	return screen.Cell{Text: strconv.Itoa(n)}
}

func ago(now func() time.Time, t time.Time) screen.Cell {
	if t.IsZero() {
		return screen.Cell{}
	}
	return screen.Cell{Text: screen.Short(max(0, now().Sub(t)))}
}

func (a *app) get() *cobra.Command {
	var format string
	var watch bool
	cmd := &cobra.Command{
		Use:   "get KIND",
		Short: "List services, revisions or pods",
		Long: `List what runs: services (what can be asked), revisions (what the autoscaler
made of each, and why) or pods (processes on this machine, or a cluster's pods).
A cluster does not tell how many requests a pod has, nor what it uses.`,
		Example: `  aisle get services
  aisle get revisions
  aisle get pods --watch
  aisle get services -o json
  aisle --context prod get services -A`,
	}
	for i, k := range kinds(time.Now, "") {
		cmd.AddCommand(&cobra.Command{
			Use:     k.name,
			Aliases: k.aliases,
			Short:   "List " + k.name,
			Example: fmt.Sprintf("  aisle get %s\n  aisle get %s --watch\n  aisle get %s -o json", k.name, k.name, k.name),
			Args:    none,
			RunE: func(cmd *cobra.Command, _ []string) error {
				place, err := a.place()
				if err != nil {
					return err
				}
				k := kinds(time.Now, a.usual(place))[i]
				if watch {
					return a.watch(cmd.Context(), place, k, format)
				}
				text, _, err := a.listing(cmd.Context(), place, k, format)
				if err != nil {
					return err
				}
				_, err = a.out.Write(text)
				return err
			},
		})
	}
	for _, sub := range cmd.Commands() {
		output(sub, &format, "table", "json", "yaml")
		sub.Flags().BoolVarP(&a.at.all, "all-namespaces", "A", false, "of all namespaces")
		sub.Flags().BoolVarP(&watch, "watch", "w", false, "show it again whenever it changes, until Ctrl-C")
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("%q is not a kind; use services, revisions or pods", args[0])
		}
		return usagef("say what to list: services, revisions or pods")
	}
	return cmd
}

// unsteady are the columns that change all the time: no reason to write a list
// to a log again.
var unsteady = map[string]bool{"AGE": true, "SINCE": true, "CPU": true, "MEMORY": true}

// listing renders one list; key is what of it is worth telling a change of.
func (a *app) listing(ctx context.Context, place client.Client, k kind, format string) (text []byte, key string, err error) {
	list, err := k.list(ctx, place)
	if err != nil {
		return nil, "", err
	}
	rows := k.rows(list)
	for _, row := range rows {
		for i, c := range k.columns {
			if !unsteady[c.Name] {
				key += row[i].Text + "\x00"
			}
		}
	}
	var buf bytes.Buffer
	if format != "table" {
		if raw, _ := json.Marshal(list); string(raw) == "null" {
			list = []struct{}{} // an empty list is a list
		}
		err := writeAs(&buf, format, list)
		return buf.Bytes(), key, err
	}
	s := a.out
	s.Writer = &buf
	if len(rows) == 0 {
		s.Printf("no %s%s%s\n", k.name, a.where(place), map[string]string{"pods": ": nothing runs until a request comes"}[k.name])
		return buf.Bytes(), key, nil
	}
	columns, rows := known(k.columns, rows)
	screen.Write(s, columns, rows)
	return buf.Bytes(), key, nil
}

// refresh is how often a watched list is asked for, and a cluster's.
const (
	refresh        = 250 * time.Millisecond
	clusterRefresh = time.Second
)

// watch shows the list whenever it is another: drawn again in place on a
// terminal, appended elsewhere.
func (a *app) watch(ctx context.Context, place client.Client, k kind, format string) error {
	every := refresh
	if a.onCluster() {
		every = clusterRefresh
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	shown, first := "", true
	redrawn := a.out.Terminal && format == "table"
	for {
		text, key, err := a.listing(ctx, place, k, format)
		if ctx.Err() != nil {
			return nil // Ctrl-C is how a watch ends
		}
		if err != nil {
			return err
		}
		if redrawn {
			text = append([]byte("\x1b[H\x1b[2J"), text...)
		}
		if first || redrawn || key != shown {
			if _, err := a.out.Write(text); err != nil {
				return err
			}
			shown, first = key, false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
