package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/feed"
)

func (a *app) send() *cobra.Command {
	var f fileFlags
	var wait, dry, resume bool
	var format, stateFile string
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

With --dry-run nothing is sent: it says what the file is, which column or element
each field comes from, how many products have it, and what is wrong on which line.

With --resume it is kept beside the file (FILE.sent, or --state) how far it has
come, whatever ends it, also a kill: the same command goes on from there. At most
what was in flight is sent again, as the same events. When all is sent the state
is removed.

A service that is full (429, 503) is tried again when it asks to be. What is
wrong with one product does not stop the others: failures are listed at the
end, and the exit code is 3.`,
		Example: `  aisle send products.csv
  aisle send --wait products.ndjson
  aisle send --wait -o ndjson products.csv | jq .data.category.label
  aisle send --title name --id sku --attribute gender --attribute colour=baseColour --images photos/ products.csv
  zcat products.csv.gz | aisle send -
  aisle send --dry-run products.xml.gz
  aisle send --resume --wait -o ndjson products.xml >> categories.ndjson
  kubectl -n knative-eventing port-forward service/broker-ingress 8082:80 &
  aisle send --broker http://localhost:8082/aisle/default --timeout 10m products.csv`,
		Args: exactly(1, "one file, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if err := checkSend(cmd, args[0], &f, dry, wait, resume, format); err != nil {
				return err
			}
			in, err := a.open(cmd.Context(), args[0], &f, false)
			if err != nil {
				return err
			}
			defer in.close()
			if dry {
				return a.dry(cmd, in, &f, format)
			}
			if resume {
				if in.state, err = a.resume(args[0], cmp.Or(stateFile, args[0]+".sent"), &f); err != nil {
					return err
				}
			}
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
			if in.state != nil {
				err = errors.Join(err, in.state.Close(err == nil && (f.limit == 0 || t.Products < f.limit)))
			}
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
	cmd.Flags().BoolVar(&dry, "dry-run", false, "send nothing: say what the file holds, and what is wrong with it")
	cmd.Flags().BoolVar(&resume, "resume", false, "keep how far it has come, and go on from there")
	cmd.Flags().StringVar(&stateFile, "state", "", "with --resume: the file that keeps it (default FILE.sent)")
	output(cmd, &format, "table", "json", "ndjson", "yaml")
	return cmd
}

// checkSend finds flags that do not go together.
func checkSend(cmd *cobra.Command, name string, f *fileFlags, dry, wait, resume bool, format string) error {
	switch {
	case dry && (wait || resume || f.broker != "" || cmd.Flags().Changed("to")):
		return usagef("--dry-run sends nothing: it goes with none of --wait, --resume, --to and --broker")
	case format == "yaml" && !dry:
		return usagef("-o yaml is for --dry-run")
	case dry && format == "ndjson":
		return usagef("-o ndjson writes categories, and --dry-run has none; use json or yaml")
	case !wait && format == "ndjson":
		return usagef("-o ndjson writes categories, so it needs --wait")
	case f.broker != "" && (wait || cmd.Flags().Changed("to")):
		return usagef("--broker takes events and answers none: it goes with neither --to nor --wait")
	case cmd.Flags().Changed("state") && !resume:
		return usagef("--state is for --resume")
	case resume && name == "-":
		return usagef("--resume needs a file: standard input cannot be read again")
	case resume && f.skip > 0:
		return usagef("--resume knows how far it has come; leave --skip out")
	}
	return nil
}

// resume opens the state of a file's sending, and skips what has been sent.
func (a *app) resume(name, path string, f *fileFlags) (*delivery.State, error) {
	opened, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the products: %w", err)
	}
	defer opened.Close()
	how := fmt.Sprintf("to %s; %s %s %q %+v %v %s", cmp.Or(f.broker, f.to, "the composer"), f.format, f.charset, f.delimiter, f.columns, f.attributes, f.images)
	sending, err := delivery.NewSending(opened, how)
	if err != nil {
		return nil, err
	}
	state, done, failed, err := delivery.OpenState(path, sending)
	if errors.Is(err, delivery.ErrOtherSending) {
		return nil, fmt.Errorf("%w, when %s had been sent; remove %s to send all of it, or go on with --skip %d and without --resume", err, plural(done, "product"), path, done)
	}
	if err != nil {
		return nil, err
	}
	if f.skip = done; done > 0 {
		text := "going on after " + plural(done, "product")
		if failed > 0 {
			text += fmt.Sprintf(", of which %s failed", screen.Thousands(failed))
		}
		a.err.Printf("%s\n", text)
	}
	return state, nil
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
			if t.add(ans); t.Products == 1 && f.skip > 0 {
				bar.From(in.fraction(0, 0))
			}
			if progress {
				bar.Set(time.Now(), t.Products, t.Failed, in.fraction(t.Products, f.limit))
			}
			if err := emit(ans); err != nil || in.state == nil {
				return err
			}
			return in.state.Done(ans.Item.N, ans.Err != nil) // what was written is not written again
		},
	})
	bar.Clear()
	t.stop()
	tell()
	goOn := fmt.Sprintf("--skip %d", done)
	if in.state != nil {
		goOn = "the same command"
	}
	switch {
	case err != nil && cmd.Context().Err() != nil && errors.Is(err, context.Cause(cmd.Context())):
		t.Interrupted = true
		return &exit{Interrupted, fmt.Errorf("interrupted after %s; go on with %s", plural(t.Products, "product"), goOn)}
	case err != nil:
		if t.Products > 0 {
			err = fmt.Errorf("stopped after %s: %w; go on with %s", plural(t.Products, "product"), err, goOn)
		}
		return err
	case t.Products == 0 && f.skip == 0:
		return fmt.Errorf("%s has no products", in.name)
	}
	return nil
}
