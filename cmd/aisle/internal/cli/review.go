package cli

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/reviewing"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/cmd/aisle/internal/stored"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/review"
)

// reviewFlags are those of all of `aisle review`.
type reviewFlags struct{ from string }

// decideFlags say where a decision goes.
type decideFlags struct {
	broker, composition, dataset, by string
	timeout                          time.Duration
}

func (f *decideFlags) flags(cmd *cobra.Command, a *app) {
	s := cmd.Flags()
	s.StringVar(&f.broker, "broker", "", "the Broker that decisions go to: NAME, NAMESPACE/NAME or a URL (default: the one there is, or default)")
	s.StringVar(&f.composition, "composition", "", "a composition file, whose taxonomy has the categories (default: that of the composer that runs)")
	s.StringVar(&f.dataset, "dataset", "", "append each decision to this NDJSON file too, as export writes it")
	s.DurationVar(&f.timeout, "timeout", 10*time.Second, "for the Broker to take a decision, all attempts together")
	s.StringVar(&f.by, "by", a.Getenv("USER"), "who decides")
}

func (a *app) review() *cobra.Command {
	var f reviewFlags
	var d decideFlags
	cmd := &cobra.Command{
		Use:   "review",
		Short: "Decide about products whose categories were not sure enough",
		Long: `Work the review queue: the products whose answers were less sure than their
composition's threshold (events of type dev.aisle.review.v1), the oldest first.
Each is shown with its candidates; one key decides:

  enter   the first candidate is right
  2 to 9  another one is
  /       type a part of the right category's name; tab completes
  s b     skip it, or go back to the one before
  m       show all of it
  q       stop

Each decision is an event of type dev.aisle.reviewed.v1 at the Broker, which
takes the product off the queue, and a row of a dataset (export, --dataset).
About one product the last decision holds. Scripts use list and decide.

A cluster's brokers do not tell of their events: have a sink of yours keep those
of both types, one a line, and name that file with --from and the Broker's URL
with --broker.`,
		Example: `  aisle review
  aisle review --dataset reviewed.ndjson
  aisle review list
  aisle review decide p-17 "Casual Shoes"
  aisle review export > reviewed.ndjson && aisle evaluate reviewed.ndjson
  aisle review stats`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.reviewSession(cmd.Context(), f.from, &d) },
	}
	d.flags(cmd, a)
	cmd.PersistentFlags().StringVar(&f.from, "from", "", "file of review and reviewed events, one in JSON a line (default: the events that the engine keeps)")
	cmd.AddCommand(a.reviewList(&f), a.reviewDecide(&f), a.reviewExport(&f), a.reviewStats(&f))
	return cmd
}

// reviewEvents passes review and reviewed events to each.
func (a *app) reviewEvents(ctx context.Context, from string, each func(ce.Event) error) error {
	if from != "" {
		file, err := os.Open(from)
		if err != nil {
			return fmt.Errorf("open the events: %w", err)
		}
		defer file.Close()
		return stored.Events(file, from, each)
	}
	e, err := a.eventsAt()
	if err != nil {
		return err
	}
	return e.Results(ctx, "", false, func(r client.Result) error {
		ev, _, err := event.Decode(http.Header{"Content-Type": {"application/cloudevents+json"}}, r.Data)
		if err != nil {
			return fmt.Errorf("read event %s: %w", screen.Clean(r.ID), err)
		}
		return each(ev)
	}, reviewing.Types...)
}

func (a *app) reviewQueue(ctx context.Context, from string) (*reviewing.Queue, error) {
	q := reviewing.NewQueue()
	err := a.reviewEvents(ctx, from, func(ev ce.Event) error {
		q.Add(ev)
		return nil
	})
	if n := q.Unread(); n > 0 && err == nil {
		a.err.Printf("%s could not be read, and were passed over\n", plural(n, "event"))
	}
	return q, err
}

// decider makes decisions known.
type decider struct {
	poster     *delivery.Poster
	categories reviewing.Categories
	dataset    string
	by         string
}

func (a *app) decider(ctx context.Context, f *decideFlags) (*decider, error) {
	spec, err := a.composition(ctx, f.composition)
	if err != nil {
		return nil, err
	}
	if f.timeout <= 0 {
		return nil, usagef("--timeout %v: use a duration such as 10s", f.timeout)
	}
	if len(f.by) > review.MaxText {
		return nil, usagef("--by has %d bytes: at most %d", len(f.by), review.MaxText)
	}
	to, err := a.brokerURL(ctx, f.broker)
	if err != nil {
		return nil, err
	}
	d := &decider{categories: reviewing.NewCategories(spec.Taxonomy), dataset: f.dataset, by: f.by}
	d.poster = &delivery.Poster{To: to.url, Gateway: to.gateway, Help: to.help, Source: "/aisle/review", Broker: true, Timeout: f.timeout, Client: delivery.NewClient(1, to.gateway)}
	return d, d.poster.Check(ctx)
}

// brokerURL is where a Broker takes events.
func (a *app) brokerURL(ctx context.Context, name string) (target, error) {
	if strings.Contains(name, "://") {
		return a.target(ctx, name, "")
	}
	p, err := a.place()
	if err != nil {
		return target{}, err
	}
	if _, ok := p.(*client.Engine); !ok || a.remote() != "" {
		return target{}, usagef("give the URL of the Broker that decisions go to with --broker; in a cluster: kubectl get brokers -A")
	}
	namespace, name, named := strings.Cut(name, "/")
	if !named {
		namespace, name = cmp.Or(a.at.namespace, "default"), namespace
	}
	all, _, err := objects.List[*eventingv1.Broker](ctx, p.Objects(), objects.Broker, namespace, "")
	if err != nil {
		return target{}, err
	}
	var names []string
	for _, b := range all {
		names = append(names, b.Name)
		if b.Name == cmp.Or(name, "default") || name == "" && len(all) == 1 {
			u := urlOf("broker-ingress", "knative-eventing", a.engineAddress(ctx)).JoinPath(namespace, b.Name)
			return target{url: u, help: engineHelp}, nil
		}
	}
	return target{}, usagef("there is no Broker %s in namespace %s; there are: %s", cmp.Or(name, "default"), namespace, cmp.Or(strings.Join(names, ", "), "none"))
}

// decide sends a decision, and keeps it as a row where that is asked for.
func (d *decider) decide(ctx context.Context, item reviewing.Item, c review.Category) error {
	decision := item.Decide(c, d.by)
	ev, err := event.New(event.TypeReviewed, d.poster.Source, rand.Text(), event.SchemaReviewed, decision)
	if err != nil {
		return err
	}
	ev.SetTime(time.Now())
	ev.SetExtension("causationid", item.Review)
	if id := item.Product.ID; id != "" && screen.Clean(id) == id {
		ev.SetSubject(id)
	}
	if err := d.poster.PostEvent(ctx, ev); err != nil {
		return err
	}
	row, ok := reviewing.NewRow(decision)
	if d.dataset == "" || !ok {
		return nil
	}
	file, err := os.OpenFile(d.dataset, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		err = errors.Join(reviewing.WriteRow(file, row), file.Close())
	}
	if err != nil {
		return fmt.Errorf("the Broker has it, and the dataset has not (export writes it anew): %w", err)
	}
	return nil
}

func (a *app) reviewSession(ctx context.Context, from string, f *decideFlags) error {
	in, ok := a.In.(*os.File)
	if !ok || !screen.IsTerminal(in) || !a.out.Terminal {
		return usagef("review asks somebody at a terminal, and this is none; scripts use: aisle review list, and aisle review decide ID CATEGORY")
	}
	d, err := a.decider(ctx, f)
	if err != nil {
		return err
	}
	defer d.poster.Client.CloseIdleConnections()
	keys := newStoppable(in)
	defer keys.stop()
	defer context.AfterFunc(ctx, keys.stop)()
	total := 0
	for {
		q, err := a.reviewQueue(ctx, from)
		if err != nil {
			return err
		}
		items, more := q.Waiting()
		if len(items) == 0 {
			a.out.Printf("nothing waits for a review\n")
			return nil
		}
		n, err := a.atTerminal(ctx, in, keys, d, items, more)
		total += n
		if err != nil || n < len(items) || more == 0 || from != "" {
			a.out.Printf("%s decided\n", plural(total, "product"))
			return err
		}
	}
}

func (a *app) atTerminal(ctx context.Context, in *os.File, keys io.Reader, d *decider, items []reviewing.Item, more int) (int, error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return 0, fmt.Errorf("read keys one by one: %w", err)
	}
	defer func() { _ = term.Restore(int(in.Fd()), before) }() // there is nothing else to do
	s := &reviewing.Session{In: keys, Out: a.out, Categories: d.categories, Now: time.Now,
		Decide: func(item reviewing.Item, c review.Category) error { return d.decide(ctx, item, c) }}
	return s.Run(ctx, items, more)
}

func (a *app) reviewList(f *reviewFlags) *cobra.Command {
	var format string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the products that wait for a review, the oldest first",
		Example: `  aisle review list
  aisle review list -o ndjson | jq -r '[.product.id, .candidates[0].label] | @tsv'`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("--limit %d: use 1 or more", limit)
			}
			q, err := a.reviewQueue(cmd.Context(), f.from)
			if err != nil {
				return err
			}
			items, more := q.Waiting()
			more += max(0, len(items)-limit)
			items = items[:min(limit, len(items))]
			if more > 0 {
				defer func() { a.err.Printf("%s more wait\n", screen.Thousands(more)) }()
			}
			switch format {
			case "ndjson":
				out := json.NewEncoder(a.out)
				for _, i := range items {
					if err := out.Encode(i); err != nil {
						return fmt.Errorf("write the list: %w", err)
					}
				}
				return nil
			case "table":
				if len(items) == 0 {
					a.out.Printf("nothing waits for a review\n")
					return nil
				}
				var rows [][]screen.Cell
				for _, i := range items {
					rows = append(rows, []screen.Cell{{Text: i.ID(), Colour: screen.Bold}, ago(time.Now, i.Time), {Text: i.Product.Title}, {Text: i.Candidates[0].Label}, sure(i.Candidates[0].Probability)})
				}
				screen.Write(a.out, left("ID", ">AGE", "TITLE", "PERHAPS", ">SURE"), rows)
				return nil
			}
			return writeAs(a.out, format, append([]reviewing.Item{}, items...)) // an empty list is a list
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many")
	output(cmd, &format, "table", "json", "yaml", "ndjson")
	return cmd
}

// ruling is one line of what `decide -` reads.
type ruling struct {
	ID       string `json:"id"`
	Category string `json:"category"`
}

func (a *app) reviewDecide(f *reviewFlags) *cobra.Command {
	var d decideFlags
	cmd := &cobra.Command{
		Use:   "decide ID CATEGORY | decide -",
		Short: "Decide about one product, or many from standard input",
		Long: `Decide that a product that waits for a review is of a category: a label of the
composition's taxonomy, or the id of one. ID is the product's, or its review's.
Deciding again mends a decision.

With - it reads one decision a line, {"id": "p-17", "category": "Casual Shoes"};
one that cannot be taken is told with its line, and does not stop the others: the
exit code is 3 then.`,
		Example: `  aisle review decide p-17 "Casual Shoes"
  jq -c '{id: .product.id, category: .candidates[0].label}' waiting.ndjson | aisle review decide -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 || len(args) == 1 && args[0] == "-" {
				return nil
			}
			return usagef("give a product's id and its category, or - for lines from standard input")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			to, err := a.decider(ctx, &d)
			if err != nil {
				return err
			}
			defer to.poster.Client.CloseIdleConnections()
			q, err := a.reviewQueue(ctx, f.from)
			if err != nil {
				return err
			}
			if len(args) == 2 {
				return a.decideOne(ctx, to, q, ruling{args[0], args[1]})
			}
			return a.decideLines(ctx, to, q)
		},
	}
	d.flags(cmd, a)
	return cmd
}

func (a *app) decideOne(ctx context.Context, to *decider, q *reviewing.Queue, s ruling) error {
	item, ok := q.Find(s.ID)
	if !ok {
		return fmt.Errorf("no product %q waits for a review, nor is it among the last that were decided about; see: aisle review list", s.ID)
	}
	c, err := to.categories.Resolve(s.Category)
	if err != nil {
		return err
	}
	if err := to.decide(ctx, item, c); err != nil {
		return err
	}
	a.out.Printf("%s is %s\n", screen.Clean(item.ID()), screen.Clean(cmp.Or(strings.Join(c.Path, " > "), c.Label)))
	return nil
}

func (a *app) decideLines(ctx context.Context, to *decider, q *reviewing.Queue) error {
	in := bufio.NewScanner(a.In)
	in.Buffer(nil, 64<<10)
	failed := 0
	for n := 1; in.Scan() && ctx.Err() == nil; n++ {
		if len(strings.TrimSpace(in.Text())) == 0 {
			continue
		}
		var s ruling
		err := json.Unmarshal(in.Bytes(), &s)
		if err == nil {
			err = a.decideOne(ctx, to, q, s)
		}
		if errors.Is(err, delivery.ErrUnreachable) {
			return err
		}
		if err != nil {
			failed++
			a.err.Printf("line %d: %s\n", n, screen.Clean(err.Error()))
		}
	}
	switch err := in.Err(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, bufio.ErrTooLong):
		return errors.New("a line is longer than 64 KB: want an id and a category")
	case err != nil:
		return fmt.Errorf("read the decisions: %w", err)
	case failed > 0:
		return &exit{SomeFailed, fmt.Errorf("%s not taken", plural(failed, "decision"))}
	}
	return nil
}

func (a *app) reviewExport(f *reviewFlags) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write what was decided as a dataset of labelled products",
		Long: `Write the products that were decided about, each with its category: what evaluate,
compose fit and training read. Of each product the last decision counts. Events
are kept for a while (aisle up --events-history): put what is exported into your
data's repository, or have review and decide append to a file with --dataset.`,
		Example: `  aisle review export > reviewed.ndjson
  aisle review export -o csv > reviewed.csv
  aisle review export > reviewed.ndjson && aisle compose fit reviewed.ndjson`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := bufio.NewWriter(a.out)
			rows, skipped, err := reviewing.Export(out, format == "csv", func(each func(ce.Event) error) error {
				return a.reviewEvents(cmd.Context(), f.from, each)
			})
			if err = errors.Join(err, out.Flush()); err != nil {
				return err
			}
			text := plural(rows, "product")
			if skipped > 0 {
				text += fmt.Sprintf("; %s had nothing but a picture that came as bytes, and are not in it", plural(skipped, "product"))
			}
			a.err.Printf("%s\n", text)
			return nil
		},
	}
	output(cmd, &format, "ndjson", "csv")
	return cmd
}

func (a *app) reviewStats(f *reviewFlags) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Tell how right the answers were that were reviewed",
		Long: `Tell how many of the products that were reviewed had been answered right: in all,
and by category, those with most wrong answers first. They are products that the
composition was not sure of, so it says nothing of the others.`,
		Example: `  aisle review stats
  aisle review stats -o json | jq .accuracy`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := a.reviewQueue(cmd.Context(), f.from)
			if err != nil {
				return err
			}
			s := q.Stats()
			if format != "table" {
				return writeAs(a.out, format, s)
			}
			a.out.Printf("%s reviewed, %s waiting\n", screen.Thousands(s.Reviewed), screen.Thousands(s.Waiting))
			if s.Reviewed == 0 {
				return nil
			}
			a.out.Printf("right: %.1f %% (95 %%: %.1f-%.1f); among the candidates: %.1f %%\n\n", 100*s.Accuracy, 100*s.Interval.Low, 100*s.Interval.High, 100*float64(s.Among)/float64(s.Reviewed))
			var rows [][]screen.Cell
			for _, c := range s.By[:min(shownCategories, len(s.By))] {
				rows = append(rows, []screen.Cell{{Text: c.Label}, count(c.Reviewed), count(c.Reviewed - c.Right), {Text: fmt.Sprintf("%.2f", float64(c.Right)/float64(c.Reviewed))},
					{Text: fmt.Sprintf("%.2f-%.2f", c.Interval.Low, c.Interval.High), Colour: screen.Dim}})
			}
			screen.Write(a.out, left("CATEGORY", ">REVIEWED", ">WRONG", ">RIGHT", "95 %"), rows)
			return nil
		},
	}
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

// shownCategories is how many categories a table of statistics has.
const shownCategories = 20
