package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
	list    func(context.Context, client.Client) (any, [][]screen.Cell, error)
}

var right = true

func kinds(now func() time.Time) []kind {
	return []kind{
		{"services", []string{"service", "svc"},
			[]screen.Column{{Name: "NAME"}, {Name: "READY"}, {Name: "PODS", Right: right}, {Name: "REVISION"}, {Name: "URL"}, {Name: "REASON"}},
			func(ctx context.Context, c client.Client) (any, [][]screen.Cell, error) {
				list, err := c.Services(ctx)
				var rows [][]screen.Cell
				for _, s := range list {
					ready := screen.Cell{Text: "yes", Colour: screen.Green}
					if !s.Ready {
						ready = screen.Cell{Text: "no", Colour: screen.Red}
					}
					rows = append(rows, []screen.Cell{named(s.Namespace, s.Name), ready, count(s.Pods), {Text: s.LatestRevision}, {Text: s.URL}, {Text: s.Reason}})
				}
				return list, rows, err
			}},
		{"revisions", []string{"revision", "rev"},
			[]screen.Column{{Name: "NAME"}, {Name: "WANT", Right: right}, {Name: "READY", Right: right}, {Name: "STARTING", Right: right}, {Name: "DRAINING", Right: right},
				{Name: "SCALE"}, {Name: "REQUESTS", Right: right}, {Name: "WAITING", Right: right}, {Name: "SINCE", Right: right}, {Name: "WHY"}},
			func(ctx context.Context, c client.Client) (any, [][]screen.Cell, error) {
				list, err := c.Revisions(ctx)
				var rows [][]screen.Cell
				for _, r := range list {
					scale := fmt.Sprintf("%d-%d", r.MinScale, r.MaxScale)
					if r.MaxScale == 0 {
						scale = fmt.Sprintf("%d-", r.MinScale)
					}
					rows = append(rows, []screen.Cell{named(r.Namespace, r.Name), count(r.Want), count(r.Ready), count(r.Starting), count(r.Draining),
						{Text: scale}, {Text: strconv.FormatFloat(r.Concurrency, 'f', -1, 64)}, count(r.Waiting), ago(now, r.Since), {Text: r.Why}})
				}
				return list, rows, err
			}},
		{"pods", []string{"pod", "po"},
			[]screen.Column{{Name: "NAME"}, {Name: "PHASE"}, {Name: "REQUESTS", Right: right}, {Name: "READY AFTER", Right: right}, {Name: "MEMORY", Right: right},
				{Name: "CPU", Right: right}, {Name: "AGE", Right: right}, {Name: "PID", Right: right}, {Name: "ADDRESS"}},
			func(ctx context.Context, c client.Client) (any, [][]screen.Cell, error) {
				list, err := c.Pods(ctx)
				var rows [][]screen.Cell
				for _, p := range list {
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
					rows = append(rows, []screen.Cell{named(p.Namespace, p.Name), phase, count(p.InFlight), {Text: readyAfter},
						{Text: fmt.Sprintf("%.0f MB", float64(p.RSSBytes)/1e6)}, {Text: fmt.Sprintf("%.1fs", p.CPUSeconds)}, ago(now, p.Started), count(p.PID), {Text: p.Address}})
				}
				return list, rows, err
			}},
	}
}

// named leaves the usual namespace out.
func named(namespace, name string) screen.Cell {
	if namespace == "" || namespace == "default" {
		return screen.Cell{Text: name, Colour: screen.Bold}
	}
	return screen.Cell{Text: namespace + "/" + name, Colour: screen.Bold}
}

func count(n int) screen.Cell { return screen.Cell{Text: strconv.Itoa(n)} }

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
made of each, and why) or pods (processes on this machine).`,
		Example: `  aisle get services
  aisle get revisions
  aisle get pods --watch
  aisle get services -o json`,
	}
	for _, k := range kinds(time.Now) {
		cmd.AddCommand(&cobra.Command{
			Use:     k.name,
			Aliases: k.aliases,
			Short:   "List " + k.name,
			Example: fmt.Sprintf("  aisle get %s\n  aisle get %s --watch\n  aisle get %s -o json", k.name, k.name, k.name),
			Args:    none,
			RunE: func(cmd *cobra.Command, _ []string) error {
				place, err := a.engine()
				if err != nil {
					return err
				}
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
	list, rows, err := k.list(ctx, place)
	if err != nil {
		return nil, "", err
	}
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
		s.Printf("no %s%s\n", k.name, map[string]string{"pods": ": nothing runs until a request comes"}[k.name])
		return buf.Bytes(), key, nil
	}
	screen.Write(s, k.columns, rows)
	return buf.Bytes(), key, nil
}

// refresh is how often a watched list is asked for.
const refresh = 250 * time.Millisecond

// watch shows the list whenever it is another: drawn again in place on a
// terminal, appended elsewhere.
func (a *app) watch(ctx context.Context, place client.Client, k kind, format string) error {
	tick := time.NewTicker(refresh)
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
