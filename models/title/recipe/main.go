// Command recipe trains the title model from the fashion data and writes its
// package:
//
//	go run ./models/title/recipe -out models/title
//
// Multinomial logistic regression over hashed n-grams of the title and the
// attributes gender, colour, season and usage. Each visit of a product in
// training draws whether the words of the class names are masked and which
// attributes are there, so that one model serves whole and masked titles with
// and without attributes. Several models of different seeds are averaged,
// which for a linear model is an ensemble at the price of one.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"aisle.dev/aisle/internal/fashion"
	"aisle.dev/aisle/internal/mask"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/models/internal/pack"
	"aisle.dev/aisle/models/internal/replay"
)

//go:embed card.md.tmpl
var card string

// Chosen on the validation part.
var (
	features = ngrams.Config{Buckets: 16384, Words: [2]int{1, 2}, Chars: [2]int{3, 5}, MaxTokens: 512, AttributeWeight: 0.3}
	training = Training{Epochs: 16, Rate: 2, Seed: 1}
	reads    = []string{"title", "attributes.gender", "attributes.colour", "attributes.season", "attributes.usage"}
)

const (
	ensemble  = 4
	maskShare = 0.5  // of the visits see a masked title
	loseShare = 0.3  // of a masked title's words are lost too, so that the rest of them must tell
	bareShare = 0.4  // of the visits see no attributes
	dropShare = 0.15 // of each attribute, otherwise
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "title recipe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	flags := flag.NewFlagSet("recipe", flag.ContinueOnError)
	out := flags.String("out", "models/title", "folder of the package")
	date := flags.String("date", time.Now().UTC().Format(time.DateOnly), "date on the card")
	if err := flags.Parse(args); err != nil {
		return err
	}
	set, err := pack.Ready(ctx, getenv, stdout)
	if err != nil {
		return err
	}
	data, err := train(set, stdout).graph("aisle models/title/recipe").Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*out, "model.onnx"), data, 0o644); err != nil {
		return err
	}
	masked := mask.New(set.Labels)
	figures, err := pack.Write(ctx, *out, spec(len(set.Labels)), set, []pack.View{
		{Name: "title and attributes"},
		{Key: "Bare", Name: "title alone", View: replay.View{Bare: true}},
		{Key: "Masked", Name: "masked title and attributes", View: replay.View{Mask: masked}},
		{Key: "MaskedBare", Name: "masked title alone", View: replay.View{Mask: masked, Bare: true}},
	}, 2, card, *date)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(stdout, pack.Table(figures))
	return err
}

// train returns the average of the ensemble.
func train(set *fashion.Set, stdout io.Writer) *Linear {
	products, masked := set.In(fashion.Train), mask.New(set.Labels)
	members := make([]*Linear, ensemble)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for k := range members {
		g.Go(func() error {
			t := training
			t.Seed += uint64(k)
			members[k] = NewLinear(features.Buckets, len(set.Labels))
			members[k].Train(t, len(products), func(i int, rnd *rand.Rand) (Bag, int) {
				return draw(products[i], masked, rnd), set.Label(products[i])
			}, func(epoch int, loss float64) {
				fmt.Fprintf(stdout, "model %d of %d: epoch %d of %d, loss %.4f\n", k+1, ensemble, epoch, t.Epochs, loss)
			})
			return nil
		})
	}
	_ = g.Wait() // training does not fail
	return average(members)
}

// draw is one visit of a product in training.
func draw(p fashion.Product, masked mask.Titles, rnd *rand.Rand) Bag {
	var v replay.View
	if rnd.Float64() < maskShare {
		v.Mask = masked
	}
	v.Bare = rnd.Float64() < bareShare
	kept := make([]ngrams.Field, 0, len(reads))
	for _, f := range v.Fields(reads, p) {
		switch {
		case f.Name != "title" && rnd.Float64() < dropShare:
			continue
		case f.Name == "title" && !v.Mask.IsZero():
			f.Text = lose(f.Text, rnd)
		}
		kept = append(kept, f)
	}
	ids, weights := features.Features(kept)
	return Bag{ids, weights}
}

// lose drops words of the text at random, but not all of them.
func lose(text string, rnd *rand.Rand) string {
	var kept []string
	for w := range strings.FieldsSeq(text) {
		if rnd.Float64() >= loseShare {
			kept = append(kept, w)
		}
	}
	if len(kept) == 0 {
		return text
	}
	return strings.Join(kept, " ")
}

func spec(labels int) model.Spec {
	return model.Spec{
		Name: "title", Version: "1",
		Description: "article type of a fashion product from its title, and from gender, colour, season and usage where they are known",
		Reads:       reads,
		Preprocess:  model.Preprocess{Kind: "text/hashed-ngrams", HashedNgrams: &features},
		Inputs: []model.Tensor{
			{Name: "ids", Datatype: "INT32", Shape: []int64{-1, -1}},
			{Name: "weights", Datatype: "FP32", Shape: []int64{-1, -1}},
		},
		Outputs:    []model.Output{{Tensor: model.Tensor{Name: "probabilities", Datatype: "FP32", Shape: []int64{-1, int64(labels)}}}},
		Activation: "none",
		BatchSizes: []int{1, 8, 32},
		Provenance: model.Provenance{Recipe: "models/title/recipe", Versions: map[string]string{"go": "1.26"}},
	}
}
