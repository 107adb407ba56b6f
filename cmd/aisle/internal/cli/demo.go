package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/fashion"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/product"
)

func (a *app) demo() *cobra.Command {
	var m machine
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show all of it: serve, categorise samples, see the pods stop",
		Long: `Serve the services of this machine as up does, send some thirty sample
products as CloudEvents, show the categories as they come, then show the pods
stop. It goes on serving until Ctrl-C; with --once it ends by itself, with exit
code 0 only if every product got a category.

The samples are drawings with made-up titles (samples/). Where the fashion data
is (AISLE_DATA, default ../shared/data) real products and photos are taken from
there instead.`,
		Example: `  aisle demo
  aisle demo --once
  aisle demo --addr 127.0.0.1:9090`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.thisMachine(); err != nil {
				return err
			}
			return a.show(cmd.Context(), m, once)
		},
	}
	m.flags(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "end when the pods have stopped")
	return cmd
}

// show runs the engine in this process and the demonstration against it.
func (a *app) show(ctx context.Context, m machine, once bool) error {
	started := make(chan client.Version, 1)
	level := slog.LevelError // what a manifest asks in vain is for up to say
	if m.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
	e, err := a.load(&m, log, func(v client.Version) { started <- v })
	if err != nil {
		return err
	}
	samples, err := a.samples(ctx, m.root)
	if err != nil {
		return err
	}
	defer samples.pictures.Close()

	// Shutdown: 1. the demonstration ends, 2. the engine stops its pods, 3. it is waited for.
	engineCtx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.run(engineCtx, e, &m) }()
	var v client.Version
	select {
	case v = <-started:
	case err := <-ended:
		return err
	}
	t, err := a.demonstrate(engineCtx, v, samples)
	if err == nil && !once {
		a.try(v, samples)
		select {
		case <-ctx.Done():
		case err = <-ended:
			return errors.Join(errors.New("the engine ended"), err)
		}
	}
	stop()
	if engineErr := <-ended; engineErr != nil {
		return engineErr
	}
	switch {
	case ctx.Err() != nil && once:
		return &exit{Interrupted, errors.New("interrupted")}
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return nil // Ctrl-C is how a demonstration ends
	case err != nil:
		return err
	}
	return t.outcome()
}

// sampleSet is what the demonstration sends.
type sampleSet struct {
	items    []feed.Item
	pictures *feed.Pictures
	what     string // for people
	example  string // a command line that sends one more
}

// Next hands the items out once.
func (s *sampleSet) Next() (feed.Item, error) {
	if len(s.items) == 0 {
		return feed.Item{}, io.EOF
	}
	item := s.items[0]
	s.items = s.items[1:]
	return item, nil
}

// samples are products of the fashion data, one of each type, where that is;
// else the drawings.
func (a *app) samples(ctx context.Context, root string) (*sampleSet, error) {
	if dir, err := fashion.Dir(a.Getenv); err == nil {
		return realSamples(dir)
	}
	dir := filepath.Join(root, "samples")
	in, err := a.open(ctx, filepath.Join(dir, "products.csv"), &fileFlags{}, true)
	if err != nil {
		return nil, err
	}
	set := &sampleSet{pictures: in.pictures, what: "made-up titles and drawings (samples/)", example: "--image samples/drawings/tshirt.jpg"}
	for {
		item, err := in.Next()
		if errors.Is(err, io.EOF) {
			return set, nil
		}
		if err != nil {
			return nil, errors.Join(err, in.close())
		}
		set.items = append(set.items, item)
	}
}

func realSamples(dir string) (*sampleSet, error) {
	products, err := fashion.Read(dir)
	if err != nil {
		return nil, err
	}
	first := map[string]fashion.Product{}
	for _, p := range fashion.Labelled(products, fashion.Labels(products)) {
		if _, has := first[p.Type]; !has && p.Photo {
			first[p.Type] = p
		}
	}
	set := &sampleSet{what: "real titles and photos from " + short(dir) + " (the models may have learned from some of them)"}
	for _, class := range slices.Sorted(maps.Keys(first)) {
		p := first[class]
		n := len(set.items) + 1
		set.items = append(set.items, feed.Item{N: n, Line: n, Product: product.Product{ID: fmt.Sprint(p.ID), Title: p.Title, Attributes: p.Attributes()}})
		set.example = "--image " + short(fashion.Photo(dir, p.ID))
	}
	set.pictures, err = feed.OpenPictures(dir, filepath.Join(dir, "images"))
	return set, err
}

// short is a path relative to the working directory, where that is shorter.
func short(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && len(rel) < len(path) {
			return rel
		}
	}
	return path
}

// demoConcurrency is low, so that one can follow.
const demoConcurrency = 4

// demonstrate sends the samples and watches the pods go.
func (a *app) demonstrate(ctx context.Context, v client.Version, samples *sampleSet) (*tally, error) {
	place := client.NewEngine(v.DataDir)
	a.banner(ctx, a.out, v)
	a.out.Printf("\n%s\n%d products go in as CloudEvents: %s.\n\n", a.out.Paint(screen.Bold, "Nothing runs yet. The first products start the pods."), len(samples.items), samples.what)
	t := newTally()
	table := &answerTable{screen: a.out, start: startCell}
	poster := &delivery.Poster{To: urlOf("composer", "default", v.Address), Source: "/aisle/demo", Attempts: 6, Timeout: time.Minute, Client: delivery.NewClient(demoConcurrency, ""), Help: engineHelp}
	defer poster.Client.CloseIdleConnections()
	_, err := delivery.Run(ctx, samples, delivery.Options{
		Poster: poster, Pictures: samples.pictures, Concurrency: demoConcurrency,
		Emit: func(ans delivery.Answer) error {
			t.add(ans)
			if err := table.add(ans); err != nil {
				return err
			}
			if t.Categorised == 0 && t.Failed >= demoConcurrency {
				return errors.New("none of the first products got a category; see why: aisle get services, aisle logs composer (programs older than the manifests? make build)")
			}
			return nil
		},
	})
	t.stop()
	if err != nil {
		return t, err
	}
	a.out.Printf("\n%s\n", t.sentence())
	a.listFailures(t)
	a.out.Printf("\n%s\n", a.out.Paint(screen.Bold, "Nobody asks any more. The pods go:"))
	return t, a.watchZero(ctx, place, time.Now())
}

// patience is how long pods may take to go before that is called an error.
const patience = 3 * time.Minute

// watchZero shows the pods until none is left.
func (a *app) watchZero(ctx context.Context, place client.Client, begun time.Time) error {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	shown := ""
	for {
		pods, err := place.Pods(ctx)
		if err != nil {
			return err
		}
		waited := time.Since(begun)
		line := podsLine(pods)
		switch {
		case len(pods) == 0:
			line = a.out.Paint(screen.Green, "no process is left")
		case waited > patience:
			return fmt.Errorf("after %v these pods still run: %s; see why: aisle get revisions", patience, line)
		}
		if a.out.Terminal {
			a.out.Printf("\r\x1b[K  %5.1fs  %s", waited.Seconds(), screen.Cut(line, a.out.Width-12))
		} else if line != shown {
			a.out.Printf("  %5.1fs  %s\n", waited.Seconds(), line)
		}
		shown = line
		if len(pods) == 0 {
			if a.out.Terminal {
				a.out.Printf("\r\x1b[K  %5.1fs  %s\n", waited.Seconds(), line)
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if a.out.Terminal {
				a.out.Printf("\n")
			}
			return context.Cause(ctx)
		}
	}
}

// podsLine sums pods up: "composer 1 ready, photo 1 ready, photo 1 draining".
func podsLine(pods []client.Pod) string {
	var keys []string
	n := map[string]int{}
	for _, p := range pods {
		key := p.Service + " %d " + strings.ToLower(p.Phase)
		if n[key]++; n[key] == 1 {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for i, key := range keys {
		keys[i] = fmt.Sprintf(key, n[key])
	}
	return strings.Join(keys, ", ")
}

// try prints what can be done next.
func (a *app) try(v client.Version, samples *sampleSet) {
	flag := a.here()
	a.out.Printf("\n%s Ctrl-C ends it. In another terminal, for instance:\n\n", a.out.Paint(screen.Bold, "Serving."))
	for _, line := range []string{
		`classify --title "Blue denim jeans"`,
		`classify --title "Something nice" ` + samples.example,
		"send --wait samples/products.csv",
		"get pods --watch",
	} {
		a.out.Printf("  bin/aisle %s%s\n", line, flag)
	}
	a.out.Printf("  curl %s/category/predict -H 'content-type: application/json' -d '{\"title\": \"Silk tie\"}'\n", urlOf("composer", "default", v.Address))
}
