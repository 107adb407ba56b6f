// Command split applies the committed split rule to the fashion data and
// writes, into a folder outside the project, what the recipes read:
//
//	split.csv    id,component,split of every labelled product
//	labels.txt   the labels, one a line, in the order of the models' outputs
//	summary.json counts, largest components, digests; with -golden its copy is
//	             written where the tests look for it
//	validation.csv, test.csv  those products for `aisle compose fit` and for
//	             `aisle evaluate` (-evaluate)
package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"aisle.dev/aisle/internal/fashion"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "split:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	flags := flag.NewFlagSet("split", flag.ContinueOnError)
	out := flags.String("out", "", "folder to write to (required); never one inside the project that git tracks")
	golden := flags.String("golden", "", "also write the summary to this file")
	evaluate := flags.Bool("evaluate", false, "also write validation.csv and test.csv")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" {
		return fmt.Errorf("-out is missing: name a folder, for instance ~/.cache/aisle/fashion")
	}
	dir, err := fashion.Dir(getenv)
	if err != nil {
		return err
	}
	set, err := fashion.Load(ctx, dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	var split bytes.Buffer
	if err := set.Split.WriteCSV(&split); err != nil {
		return err
	}
	summary, err := set.Summary()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(summary, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	files := map[string][]byte{
		"split.csv":    split.Bytes(),
		"labels.txt":   []byte(strings.Join(set.Labels, "\n") + "\n"),
		"summary.json": text,
	}
	if *evaluate {
		for _, part := range []fashion.Part{fashion.Validation, fashion.Test} {
			if files[string(part)+".csv"], err = evaluation(set, part); err != nil {
				return err
			}
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(*out, name), data, 0o644); err != nil {
			return err
		}
	}
	if *golden != "" {
		if err := os.WriteFile(*golden, text, 0o644); err != nil {
			return err
		}
	}
	_, err = stdout.Write(text)
	return err
}

// evaluation is a table of a part's products: what a shop would send, and the
// right category.
func evaluation(set *fashion.Set, part fashion.Part) ([]byte, error) {
	var buf bytes.Buffer
	w := csv.NewWriter(&buf)
	_ = w.Write([]string{"id", "title", "image", "gender", "colour", "season", "usage", "category"}) // w.Error says
	for _, p := range set.In(part) {
		image := ""
		if p.Photo {
			image = fashion.Photo(set.Dir, p.ID)
		}
		a := p.Attributes()
		_ = w.Write([]string{strconv.Itoa(p.ID), p.Title, image, a["gender"], a["colour"], a["season"], a["usage"], p.Type})
	}
	w.Flush()
	return buf.Bytes(), w.Error()
}
