package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/feed"
)

func (a *app) send() *cobra.Command {
	var f fileFlags
	var wait bool
	var format string
	cmd := &cobra.Command{
		Use:   "send FILE|-",
		Short: "Send a file of products, as CloudEvents, to the composer",
		Long: `Send a file of products to the composer, each as a CloudEvent of type
dev.aisle.product.v1, and count the answers. With --wait the categories are
written to standard output, in the order of the file.

FILE is CSV with a header line (comma, semicolon, tab or bar), or NDJSON with
one product a line; "-" is standard input. The columns id, title, description,
brand and image are taken by these names, or by the ones that flags give;
columns named attributes.NAME are attributes. An image is a path, relative to
the file, which is read and sent along, or a URL. An attribute's cell that is
empty or NA is left out.

With --broker the events go to a Knative Broker's URL instead, which takes them
(202) and answers none: the categories go to who subscribes to them. An event
counts as sent once the broker has said 202, and is sent again until it does,
for --timeout. A broker over channels in memory says so after delivery alone;
its events may arrive twice, with the same id.

A service that is full (429, 503) is tried again when it asks to be. What is
wrong with one product does not stop the others: failures are listed at the
end, and the exit code is 3.`,
		Example: `  aisle send products.csv
  aisle send --wait products.ndjson
  aisle send --wait -o ndjson products.csv | jq .data.category.label
  aisle send --title name --id sku --attribute gender --attribute colour=baseColour --images photos/ products.csv
  zcat products.csv.gz | aisle send -
  kubectl -n knative-eventing port-forward service/broker-ingress 8082:80 &
  aisle send --broker http://localhost:8082/aisle/default --timeout 10m products.csv`,
		Args: exactly(1, "one file, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if !wait && format == "ndjson" {
				return usagef("-o ndjson writes categories, so it needs --wait")
			}
			if f.broker != "" && (wait || cmd.Flags().Changed("to")) {
				return usagef("--broker takes events and answers none: it goes with neither --to nor --wait")
			}
			in, err := a.open(cmd.Context(), args[0], &f, false)
			if err != nil {
				return err
			}
			defer in.close()
			t := newTally()
			var out answers
			if wait {
				out = a.answersAs(format)
			}
			err = a.deliver(cmd, in, &f, nil, t, func(ans delivery.Answer) error {
				if out == nil {
					return nil
				}
				return out.add(ans)
			}, !wait || !a.out.Terminal)
			if out != nil {
				err = errors.Join(err, out.end())
			}
			if err = a.sum(t, err, !wait, format); wait && err == nil && t.Accepted > 0 {
				err = noAnswers(t)
			}
			return err
		},
	}
	f.flags(cmd, false)
	cmd.Flags().StringVar(&f.broker, "broker", "", "URL of a Knative Broker to send to instead of the composer, until it says 202")
	cmd.Flags().BoolVar(&wait, "wait", false, "write one category per product")
	output(cmd, &format, "table", "json", "ndjson")
	return cmd
}

// noAnswers is what --wait says of a broker.
func noAnswers(t *tally) error {
	return &exit{SomeFailed, fmt.Errorf("%s went to a broker, which answers no event: the categories go to who subscribes to %s; send without --wait, or to the composer", plural(t.Accepted, "product"), event.TypeCategory)}
}

// sum writes the summary: to standard output where that is the result.
func (a *app) sum(t *tally, err error, result bool, format string) error {
	if t.Products == 0 && err != nil {
		return err
	}
	if result && format == "json" {
		if werr := writeAs(a.out, "json", t); werr != nil {
			return errors.Join(err, werr)
		}
	} else {
		a.listFailures(t)
		if result {
			a.out.Printf("%s\n", t.sentence())
		} else {
			a.err.Printf("%s\n", t.sentence())
		}
	}
	if err != nil {
		return err
	}
	return t.outcome()
}

// deliver runs the pipeline over an open file and tells how it goes. An
// interrupt is an error that says how far it came.
func (a *app) deliver(cmd *cobra.Command, in *file, f *fileFlags, edit func(*feed.Item), t *tally, emit func(delivery.Answer) error, progress bool) error {
	told := 0
	tell := func() { // NDJSON's notes are complete at its end
		for _, note := range in.Notes()[told:] {
			a.err.Printf("%s: %s\n", in.name, screen.Clean(note))
			told++
		}
	}
	tell()
	poster, err := a.poster(cmd, f, source(in.path))
	if err != nil {
		return err
	}
	defer poster.Client.CloseIdleConnections()
	bar := screen.NewProgress(a.err, time.Now(), "sent")
	done, err := delivery.Run(cmd.Context(), in, delivery.Options{
		Poster: poster, Pictures: in.pictures, Concurrency: f.concurrency, Skip: f.skip, Limit: f.limit, Edit: edit, Stop: in.stop,
		Emit: func(ans delivery.Answer) error {
			t.add(ans)
			if progress {
				bar.Set(time.Now(), t.Products, t.Failed, in.fraction(t.Products, f.limit))
			}
			return emit(ans)
		},
	})
	bar.Clear()
	t.stop()
	tell()
	switch {
	case err != nil && cmd.Context().Err() != nil && errors.Is(err, context.Cause(cmd.Context())):
		t.Interrupted = true
		return &exit{Interrupted, fmt.Errorf("interrupted after %s; go on with --skip %d", plural(t.Products, "product"), done)}
	case err != nil:
		if t.Products > 0 {
			err = fmt.Errorf("stopped after %s: %w; go on with --skip %d", plural(t.Products, "product"), err, done)
		}
		return err
	case t.Products == 0 && f.skip == 0:
		return fmt.Errorf("%s has no products", in.name)
	}
	return nil
}
