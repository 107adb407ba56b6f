package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/product"
)

// dryRun is what --dry-run tells of a file.
type dryRun struct {
	File string `json:"file"`
	feed.Layout
	Filled   map[string]int  `json:"filled"` // how many products have each field
	Notes    []string        `json:"notes,omitempty"`
	Products int             `json:"products"`
	Failed   int             `json:"failed"`
	Failures []failure       `json:"failures"` // the first 1,000 of them
	Examples []exampleOfFile `json:"examples"` // the first few that would be sent
}

// exampleOfFile is a product as it would be sent, but that the bytes of its
// pictures are counted.
type exampleOfFile struct {
	Line    int             `json:"line"`
	Product product.Product `json:"product"`
	Bytes   int             `json:"bytes,omitempty"` // of pictures
}

// shownExamples is how many products a dry run shows.
const shownExamples = 3

// dry reads a file as send does, and sends nothing.
func (a *app) dry(cmd *cobra.Command, in *file, f *fileFlags, format string) error {
	d := dryRun{File: in.name, Layout: in.Layout(), Filled: map[string]int{}, Examples: []exampleOfFile{}}
	opts := delivery.Options{Pictures: in.pictures}
	t := newTally()
	bar := screen.NewProgress(a.err, time.Now(), "read")
	err := func() error {
		for f.limit == 0 || t.Products < f.limit {
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			item, err := in.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if item.N <= f.skip {
				continue
			}
			p, err := opts.Product(item)
			t.add(delivery.Answer{Item: item, Err: err, Accepted: true})
			bar.Set(time.Now(), t.Products, t.Failed, in.fraction(t.Products, f.limit))
			if err == nil {
				d.add(item, p)
			}
		}
		return nil
	}()
	bar.Clear()
	if err != nil {
		if t.Products > 0 {
			err = fmt.Errorf("it cannot be read beyond %s: %w", plural(t.Products, "product"), err)
		}
		return err
	}
	d.Notes, d.Products, d.Failed, d.Failures = in.Notes(), t.Products, t.Failed, t.Failures
	if d.Products == 0 {
		return fmt.Errorf("%s has no products", in.name)
	}
	if format != "table" {
		if err := writeAs(a.out, format, d); err != nil {
			return err
		}
	} else {
		a.showDry(&d)
		a.listFailures(t)
	}
	return t.outcome()
}

func (d *dryRun) add(item feed.Item, p product.Product) {
	for name, there := range map[string]bool{"id": p.ID != "", "title": p.Title != "", "description": p.Description != "", "brand": p.Brand != "", "images": len(p.Images) > 0} {
		if there {
			d.Filled[name]++
		}
	}
	for name := range p.Attributes {
		if _, known := d.Filled["attributes."+name]; known || len(d.Filled) < maxFailures {
			d.Filled["attributes."+name]++
		}
	}
	if len(d.Examples) == shownExamples {
		return
	}
	e := exampleOfFile{Line: item.Line, Product: p.Bare()}
	for _, i := range p.Images {
		e.Bytes += len(i.Data)
	}
	d.Examples = append(d.Examples, e)
}

func (a *app) showDry(d *dryRun) {
	what := string(d.Format) + ", " + d.Charset
	if d.Delimiter != "" {
		what += fmt.Sprintf(", separated by %q", d.Delimiter)
	}
	if d.Packed != "" {
		what += ", in " + d.Packed
	}
	a.out.Printf("%s: %s\n", screen.Clean(d.File), what)
	for _, note := range d.Notes {
		a.out.Printf("  %s\n", screen.Clean(note))
	}
	a.out.Printf("\n")
	var rows [][]screen.Cell
	for _, m := range d.Mapping {
		n := screen.Cell{Text: "", Colour: screen.Dim}
		if !strings.HasSuffix(m.Field, "*") && m.Field != "category" {
			n.Text = screen.Thousands(d.Filled[m.Field])
		}
		rows = append(rows, []screen.Cell{{Text: m.Field, Colour: screen.Bold}, {Text: m.From}, n})
	}
	screen.Write(a.out, left("FIELD", "FROM", ">PRODUCTS THAT HAVE IT"), rows)
	a.out.Printf("\n%s would be sent", plural(d.Products-d.Failed, "product"))
	if d.Failed > 0 {
		a.out.Printf(", and %s cannot be", screen.Thousands(d.Failed))
	}
	if len(d.Examples) > 0 {
		a.out.Printf(". As in:\n")
	} else {
		a.out.Printf(".\n")
	}
	for _, e := range d.Examples {
		text, err := json.Marshal(e.Product)
		if err != nil {
			continue // it was read from text
		}
		line := fmt.Sprintf("  line %d: %s", e.Line, screen.JSON(text))
		if e.Bytes > 0 {
			line += fmt.Sprintf(" and a picture of %s bytes", screen.Thousands(e.Bytes))
		}
		a.out.Printf("%s\n", screen.Clean(line))
	}
}
