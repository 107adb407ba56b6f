// Command fuse fits how the title's and the photo's answers become one, and
// writes it where it is served from:
//
//	go run ./models/fuse
//
//	manifests/base/composition.yaml  logpool's numbers: the legs' weights, the prior's, the temperatures (nothing else in it is touched)
//	manifests/base/prior.csv         each label's share of the training products, with photo or without
//	manifests/base/taxonomy.csv      the tree of categories
//	models/FIGURES.md                what title, photo and both are worth on the test part, through each reducer
//
// One set of numbers serves whole and masked titles, with and without
// attributes: it is fitted on all four views of the validation products, which
// count alike. Figures are of test products. A composition that names no prior
// is fitted without one.
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/internal/fashion"
	"aisle.dev/aisle/internal/fit"
	"aisle.dev/aisle/internal/mask"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/models/internal/pack"
	"aisle.dev/aisle/models/internal/replay"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fuse:", err)
		os.Exit(1)
	}
}

// legNames are the composition's legs in order, and their packages.
var legNames = []string{"title", "photo"}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	flags := flag.NewFlagSet("fuse", flag.ContinueOnError)
	manifests := flags.String("manifests", "manifests/base", "folder of composition.yaml, prior.csv and taxonomy.csv")
	models := flags.String("models", "models", "folder of the packages and of FIGURES.md")
	date := flags.String("date", time.Now().UTC().Format(time.DateOnly), "date of the figures")
	if err := flags.Parse(args); err != nil {
		return err
	}
	set, err := pack.Ready(ctx, getenv, stdout)
	if err != nil {
		return err
	}
	var legs []*replay.Leg
	for _, name := range legNames {
		p, err := model.Load(filepath.Join(*models, name))
		if err != nil {
			return err
		}
		leg, err := replay.Open(p)
		if err != nil {
			return err
		}
		defer leg.Close()
		legs = append(legs, leg)
	}
	composition := filepath.Join(*manifests, "composition.yaml")
	text, err := os.ReadFile(composition)
	if err != nil {
		return err
	}
	files := map[string][]byte{filepath.Join(*manifests, "taxonomy.csv"): taxonomyCSV(set)}
	var prior []float64
	if hasPriorRE.Match(text) {
		prior = shares(set)
		files[filepath.Join(*manifests, "prior.csv")] = priorCSV(set.Labels, prior)
	}
	choice, err := choose(ctx, set, legs, prior, stdout)
	if err != nil {
		return err
	}
	figures, err := measure(ctx, set, legs, choice, prior)
	if err != nil {
		return err
	}
	text, err = setPool(text, legNames, choice.Pool, choice.Held[fit.LogPoolName].Calibration)
	if err != nil {
		return fmt.Errorf("%s: %w", composition, err)
	}
	page := report(figures, legs, choice, *date)
	files[composition], files[filepath.Join(*models, "FIGURES.md")] = text, []byte(page)
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	_, err = io.WriteString(stdout, page)
	return err
}

// views are the ways to see a title; the photo is always the same.
func views(set *fashion.Set) []pack.View {
	masked := mask.New(set.Labels)
	return []pack.View{
		{Name: "whole title, attributes"},
		{Name: "whole title alone", View: replay.View{Bare: true}},
		{Name: "masked title, attributes", View: replay.View{Mask: masked}},
		{Name: "masked title alone", View: replay.View{Mask: masked, Bare: true}},
	}
}

// answers returns what every leg says of the products: [product][leg][label],
// nil for a leg that has nothing to read.
func answers(ctx context.Context, set *fashion.Set, legs []*replay.Leg, products []fashion.Product, v replay.View) ([][][]float64, error) {
	out := make([][][]float64, len(products))
	for _, leg := range legs {
		p, err := leg.Probabilities(ctx, set.Dir, products, v)
		if err != nil {
			return nil, err
		}
		for i := range products {
			out[i] = append(out[i], p[i])
		}
	}
	return out, nil
}

// choose fits all reducers to the validation products: the pools to those
// that have photos, how sure a title alone may be to the others too.
func choose(ctx context.Context, set *fashion.Set, legs []*replay.Leg, prior []float64, progress io.Writer) (fit.Choice, error) {
	products := set.In(fashion.Validation)
	data := fit.Data{Labels: set.Labels, Prior: prior}
	for _, v := range views(set) {
		a, err := answers(ctx, set, legs, products, v.View)
		if err != nil {
			return fit.Choice{}, err
		}
		data.Views = append(data.Views, fit.View{Legs: a, Truth: pack.Truth(set, products), Weight: fit.Shares(set.Components(products)), Group: set.Components(products)})
	}
	return fit.Choose(ctx, data, func(done, of int) { fmt.Fprintf(progress, "fitted %d of %d\n", done, of) })
}

// taxonomyCSV is the tree of the labels and their parents, by id.
func taxonomyCSV(set *fashion.Set) []byte {
	rows := map[string]string{}
	for _, label := range set.Labels {
		parent := set.Parents[label]
		master := slug(parent.Master)
		sub := master + "/" + slug(parent.Sub)
		rows[master] = master + ",," + parent.Master
		rows[sub] = sub + "," + master + "," + parent.Sub
		leaf := sub + "/" + slug(label)
		rows[leaf] = leaf + "," + sub + "," + label
	}
	lines := make([]string, 0, len(rows))
	for _, row := range rows {
		lines = append(lines, row)
	}
	slices.SortFunc(lines, func(a, b string) int {
		x, _, _ := strings.Cut(a, ",")
		y, _, _ := strings.Cut(b, ",")
		return cmp.Compare(x, y)
	})
	return []byte("id,parent,name\n" + strings.Join(lines, "\n") + "\n")
}

// shares are the labels' shares of all training products: what the legs'
// answers take for granted.
func shares(set *fashion.Set) []float64 {
	products := set.In(fashion.Train)
	out := make([]float64, len(set.Labels))
	for _, p := range products {
		out[set.Label(p)] += 1 / float64(len(products))
	}
	return out
}

func priorCSV(labels []string, prior []float64) []byte {
	var b bytes.Buffer
	b.WriteString("label,share\n")
	for i, label := range labels {
		fmt.Fprintf(&b, "%s,%.6f\n", label, prior[i])
	}
	return b.Bytes()
}
