package cli

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
)

func (a *app) results() *cobra.Command {
	var format, since string
	var follow bool
	cmd := &cobra.Command{
		Use:   "results",
		Short: "Show the categories that products got by events, and follow them",
		Long: `Show the category events that this machine's brokers keep, oldest first. With
--follow it goes on with those that come; where the engine starts again it goes
on from where it was. The place of each, which is told at the end of a follow
too, is what --since names.

With -o ndjson each line is the event in the JSON format of CloudEvents. With
-o csv each product is a row. With -o heureka it is a feed that Heureka's importer
reads beside the shop's own: of each product its ITEM_ID and its CATEGORYTEXT, the
category's path; products without a category or an id are left out.`,
		Example: `  aisle results
  aisle results -f
  aisle results -o heureka > categories.xml
  aisle results -f --since default/default:1200 -o ndjson | jq -r .data.category.label`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := a.eventsAt()
			if err != nil {
				return err
			}
			w := &resultWriter{app: a, format: format, file: newResultFile(a.out, format), lines: eventLines{app: a, array: format == "json"}}
			err = e.Results(cmd.Context(), since, follow, w.add)
			if follow && cmd.Context().Err() != nil {
				err = nil // Ctrl-C is how a follow ends
				if w.last != "" {
					a.err.Printf("go on with: aisle results -f --since %s\n", screen.Clean(w.last))
				}
			}
			return errors.Join(err, w.end())
		},
	}
	output(cmd, &format, "table", "json", "ndjson", "csv", "heureka")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with those that come, until Ctrl-C")
	cmd.Flags().StringVar(&since, "since", "", "only those after this place")
	return cmd
}

// resultWriter writes category events as they come.
type resultWriter struct {
	*app
	format string
	lines  eventLines
	file   resultFile // nil: the format is none of a file's
	stream *screen.Stream
	last   string // the place of the last one
}

func (w *resultWriter) add(r client.Result) error {
	ev, _, err := event.Decode(http.Header{"Content-Type": {"application/cloudevents+json"}}, r.Data)
	if err != nil {
		return fmt.Errorf("read result %s: %w", screen.Clean(r.ID), err)
	}
	w.last = r.ID
	if w.file != nil {
		res, err := resultOf(ev)
		if err != nil {
			return err
		}
		return w.file.add(r.ID, ev, res)
	}
	if w.format != "table" {
		return w.lines.add(delivery.Answer{Event: ev})
	}
	if w.stream == nil {
		w.stream = screen.NewStream(w.out, []screen.Column{{Name: "TIME", Min: 8}, {Name: "PRODUCT", Min: 12, Share: 2},
			{Name: "CATEGORY", Min: 12, Share: 4, Left: true}, {Name: "SURE", Min: 4, Right: true}, {Name: "LEGS", Min: 16, Share: 4}, {Name: "MS", Min: 6, Right: true}, {Name: "PLACE", Min: 8, Share: 2}})
		w.stream.Header()
	}
	w.stream.Row(resultRow(r.ID, ev)...)
	return nil
}

func (w *resultWriter) end() error {
	if w.format == "table" {
		if w.stream == nil {
			w.out.Printf("no results yet\n")
		}
		return nil
	}
	if w.file != nil {
		return w.file.end()
	}
	return w.lines.end()
}

// resultRow is a category event in one line.
func resultRow(place string, ev ce.Event) []screen.Cell {
	row := []screen.Cell{{Text: ev.Time().Local().Format(time.TimeOnly)}, {Text: ev.ID()}, {Text: "no category", Colour: screen.Red}, {}, {}, {}, {Text: place, Colour: screen.Dim}}
	r, err := resultOf(ev)
	if err != nil {
		row[2].Text = "not readable: " + err.Error()
		return row
	}
	if r.ID != "" {
		row[1].Text = r.ID
	}
	if r.Category != nil {
		row[2], row[3] = screen.Cell{Text: strings.Join(r.Category.Path, " > "), Colour: screen.Bold}, sure(r.Category.Confidence)
	}
	var legs []string
	for _, l := range r.Legs {
		switch l.Outcome {
		case category.Answered:
			legs = append(legs, fmt.Sprintf("%s %.2f %s", l.Name, l.Confidence, l.Label))
		case category.Closed, category.LegFailed:
			legs = append(legs, l.Name+" "+string(l.Outcome))
		}
	}
	row[4].Text, row[5].Text = strings.Join(legs, ", "), fmt.Sprintf("%.1f", r.DurationMs)
	return row
}
