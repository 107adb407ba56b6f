// Package replay runs model packages over the training data, as the classifier
// runs them over products: the same preprocessing, the same graph in ONNX
// Runtime. Temperatures, pools, figures and goldens come from here, so what
// they say holds for what is served.
package replay

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"aisle.dev/aisle/internal/fashion"
	"aisle.dev/aisle/internal/imaging"
	"aisle.dev/aisle/internal/mask"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/reduce"
)

// View is what a model gets to see of a product.
type View struct {
	Mask mask.Titles // removes words from titles; the zero value removes none
	Bare bool        // no attributes
}

// Fields returns the text fields that a package reads of the product.
func (v View) Fields(reads []string, p fashion.Product) []ngrams.Field {
	attributes := p.Attributes()
	var fields []ngrams.Field
	for _, name := range reads {
		key, attribute := strings.CutPrefix(name, "attributes.")
		switch {
		case name == "title" && v.Mask.IsZero():
			fields = append(fields, ngrams.Field{Name: name, Text: p.Title})
		case name == "title":
			fields = append(fields, ngrams.Field{Name: name, Text: v.Mask.Mask(p.Title)})
		case attribute && !v.Bare && attributes[key] != "":
			fields = append(fields, ngrams.Field{Name: name, Text: attributes[key]})
		}
	}
	return fields
}

// Leg is an open model package.
type Leg struct {
	Package *model.Package
	session *onnx.Session
}

// Open opens a package. ONNX Runtime must have been loaded (onnx.Init).
func Open(p *model.Package) (*Leg, error) {
	s, err := onnx.Open(p.Graph, onnx.Options{Inputs: p.Spec.InputNames(), Outputs: p.Spec.OutputNames()})
	if err != nil {
		return nil, fmt.Errorf("open model package %s: %w", p.Spec.Name, err)
	}
	return &Leg{p, s}, nil
}

// Close frees the graph.
func (l *Leg) Close() error { return l.session.Close() }

// Probabilities returns what the package says of each product, calibrated by
// its temperature; nil for a product without any field that it reads. dir
// holds the photos.
func (l *Leg) Probabilities(ctx context.Context, dir string, products []fashion.Product, v View) ([][]float64, error) {
	out := make([][]float64, len(products))
	batch := l.Package.Spec.BatchSizes[len(l.Package.Spec.BatchSizes)-1]
	run := l.text
	if l.Package.Spec.Preprocess.Kind == "image" {
		run = l.photos
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < len(products); from += batch {
		to := min(from+batch, len(products))
		g.Go(func() error { return run(ctx, dir, products[from:to], v, out[from:to]) })
	}
	return out, g.Wait()
}

func (l *Leg) text(ctx context.Context, _ string, products []fashion.Product, v View, out [][]float64) error {
	spec, tokens := l.Package.Spec, 0
	ids, weights := make([][]int32, len(products)), make([][]float32, len(products))
	for i, p := range products {
		ids[i], weights[i] = spec.Preprocess.HashedNgrams.Features(v.Fields(spec.Reads, p))
		tokens = max(tokens, len(ids[i]))
	}
	shape := []int64{int64(len(products)), int64(tokens)}
	a, b := make([]int32, len(products)*tokens), make([]float32, len(products)*tokens)
	for i := range products {
		copy(a[i*tokens:], ids[i])
		copy(b[i*tokens:], weights[i])
	}
	rows := make([]int, len(products))
	for i := range rows {
		rows[i] = i
	}
	return l.run(ctx, []onnx.Tensor{{Shape: shape, I32: a}, {Shape: shape, F32: b}}, rows, out)
}

func (l *Leg) photos(ctx context.Context, dir string, products []fashion.Product, _ View, out [][]float64) error {
	im := l.Package.Spec.Preprocess.Image
	size := 3 * im.Width * im.Height
	var rows []int
	var data []float32
	for i, p := range products {
		if !p.Photo {
			continue
		}
		photo, err := os.ReadFile(fashion.Photo(dir, p.ID))
		if err != nil {
			return err
		}
		rows = append(rows, i)
		data = append(data, make([]float32, size)...)
		if err := imaging.Tensor(data[len(data)-size:], photo, *im); err != nil {
			return fmt.Errorf("photo of product %d: %w", p.ID, err)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	shape := []int64{int64(len(rows)), 3, int64(im.Height), int64(im.Width)}
	return l.run(ctx, []onnx.Tensor{{Shape: shape, F32: data}}, rows, out)
}

// run runs one batch; its k-th row belongs to out[rows[k]].
func (l *Leg) run(ctx context.Context, in []onnx.Tensor, rows []int, out [][]float64) error {
	result := make([]onnx.Tensor, 1)
	if err := l.session.Run(ctx, in, result); err != nil {
		return fmt.Errorf("run model package %s: %w", l.Package.Spec.Name, err)
	}
	spec, n := l.Package.Spec, len(l.Package.Labels)
	for k, i := range rows {
		p, row := make([]float64, n), result[0].F32[k*n:(k+1)*n]
		for c, v := range row {
			p[c] = float64(v)
			if spec.Activation == "softmax" {
				p[c] = math.Exp(p[c] - float64(slices.Max(row))) // Temper renormalises
			}
		}
		reduce.Temper(p, p, spec.Temperature)
		out[i] = p
	}
	return nil
}
