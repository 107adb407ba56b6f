// Command recipe makes the photo model's package of the graph that train.py
// and export.py made:
//
//	go run ./models/photo/recipe -out models/photo
//
// It fits the temperature and measures through the preprocessing that serves,
// not through Python's.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/models/internal/pack"
)

//go:embed card.md.tmpl
var card string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "photo recipe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	flags := flag.NewFlagSet("recipe", flag.ContinueOnError)
	out := flags.String("out", "models/photo", "folder of the package, with model.onnx in it")
	date := flags.String("date", time.Now().UTC().Format(time.DateOnly), "date on the card")
	if err := flags.Parse(args); err != nil {
		return err
	}
	set, err := pack.Ready(ctx, getenv, stdout)
	if err != nil {
		return err
	}
	figures, err := pack.Write(ctx, *out, spec(len(set.Labels)), set, []pack.View{{Name: "photo"}}, 1, card, *date)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(stdout, pack.Table(figures))
	return err
}

// spec repeats what photos.py says of SIZE, MEAN and STD; a golden test of
// real photos holds the two together.
func spec(labels int) model.Spec {
	return model.Spec{
		Name: "photo", Version: "1",
		Description: "article type of a fashion product from its photo",
		Reads:       []string{"images"},
		Preprocess: model.Preprocess{Kind: "image", Image: &model.Image{
			Width: 128, Height: 128, Mean: [3]float32{0.85, 0.84, 0.83}, Std: [3]float32{0.3, 0.3, 0.3},
		}},
		Inputs:     []model.Tensor{{Name: "image", Datatype: "FP32", Shape: []int64{-1, 3, 128, 128}}},
		Outputs:    []model.Output{{Tensor: model.Tensor{Name: "logits", Datatype: "FP32", Shape: []int64{-1, int64(labels)}}}},
		Activation: "softmax",
		BatchSizes: []int{1, 8},
		Provenance: model.Provenance{Recipe: "models/photo/recipe", Versions: map[string]string{"torch": "2.9.1", "onnx": "1.23.2"}},
	}
}
