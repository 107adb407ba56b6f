// Package trial tries a model in this process, before anybody serves it: what
// its graph is, whether package and graph fit, what a product becomes, whether
// the package's own examples get their labels, and how fast it is.
//
// Guarantees: whatever the files hold, there is an answer in words; nothing is
// written but by [Pin]. Examples go through the classifier's own handler, so
// that what holds here holds where it is served.
//
// Non-goals: serving (that is functions/classifier's), and judging a model by
// data (aisle evaluate does).
package trial

import (
	"context"
	"fmt"
	"os"
	"slices"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/servable"
)

// Subject is a model package or a bare graph, as far as it can be read.
type Subject struct {
	Package  *model.Package // nil where nothing could be read
	Graph    *onnx.Info     // nil where the graph could not be read
	Problems []error        // all that is wrong with both
}

// Read reads what is at path, and holds the package to its graph.
func Read(path string) Subject {
	var s Subject
	s.Package, s.Problems = model.Inspect(path)
	if s.Package == nil || s.Package.Graph == "" {
		return s
	}
	if _, err := os.Stat(s.Package.Graph); err != nil && len(s.Problems) > 0 {
		return s // said already
	}
	info, err := onnx.Inspect(s.Package.Graph)
	if err != nil {
		s.Problems = append(s.Problems, err)
		return s
	}
	s.Graph = &info
	s.Problems = append(s.Problems, servable.Check(s.Package, info)...)
	return s
}

// maxFirst is how many of a tensor's elements are shown.
const maxFirst = 8

// Value is a tensor with its first elements.
type Value struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
	First    []any   `json:"first"`
}

// Input is what the package's preprocessing makes of a product.
type Input struct {
	Tensors []Value  `json:"tensors"`
	Seen    []string `json:"seen,omitempty"` // n-grams or tokens, in the order of their ids
}

// Preprocess makes an input of a product.
func Preprocess(ctx context.Context, p *model.Package, of product.Product) (*Input, error) {
	if p.Spec.Preprocess.Kind == model.None {
		return nil, fmt.Errorf("%s has no preprocessing: it takes tensors, not products", p.Spec.Name)
	}
	pp, err := preprocess.New(p, preprocess.Options{})
	if err != nil {
		return nil, err
	}
	sample, err := pp.Product(ctx, of)
	if err != nil {
		return nil, err
	}
	defer sample.Release()
	tensors := pp.Tensors([]preprocess.Sample{sample}, new(preprocess.Buffers))
	values := make([]Value, len(tensors))
	for i, t := range tensors {
		values[i] = Value{Name: p.Spec.Inputs[i].Name, Datatype: t.Type(), Shape: slices.Clone(t.Shape), First: first(t)}
	}
	return &Input{values, pp.Seen(of)}, nil
}

// first returns a tensor's first elements; of one that is held as bytes, those
// of its first element.
func first(t onnx.Tensor) []any {
	switch {
	case t.F32 != nil:
		return head(t.F32)
	case t.I32 != nil:
		return head(t.I32)
	case t.I64 != nil:
		return head(t.I64)
	case t.Strings != nil:
		return head(t.Strings)
	}
	var all []any
	size := max(1, onnx.Size(t.Type()))
	for i := 0; i+size <= len(t.Raw) && len(all) < maxFirst; i += size {
		if size == 1 {
			all = append(all, t.Raw[i])
		} else {
			all = append(all, fmt.Sprintf("0x%x", t.Raw[i:i+size]))
		}
	}
	return all
}

func head[T any](of []T) []any {
	all := make([]any, min(maxFirst, len(of)))
	for i := range all {
		all[i] = of[i]
	}
	return all
}

// Open opens the package's graph on the runtime's library.
func Open(p *model.Package, library, device string, threads int) (*onnx.Session, error) {
	if err := onnx.Init(library); err != nil {
		return nil, err
	}
	return onnx.Open(p.Graph, onnx.Options{Inputs: p.Spec.InputNames(), Outputs: p.Spec.OutputNames(), Device: device, Threads: threads})
}

// feed makes batches of inputs that need no product.
type feed struct {
	pkg *model.Package
	pp  *preprocess.Preprocessor // nil without preprocessing
	buf preprocess.Buffers
	of  []preprocess.Sample // repeated to fill a batch
	dim int64
}

// newFeed feeds products, or blanks where there are none. Without
// preprocessing it feeds zeros, with dim where a dimension that is not the
// first varies.
func newFeed(ctx context.Context, p *model.Package, products []product.Product, dim int64) (*feed, error) {
	f := &feed{pkg: p, dim: dim}
	if p.Spec.Preprocess.Kind == model.None {
		return f, nil
	}
	var err error
	if f.pp, err = preprocess.New(p, preprocess.Options{}); err != nil {
		return nil, err
	}
	for _, of := range products {
		s, err := f.pp.Product(ctx, of)
		if err != nil {
			f.release()
			return nil, err
		}
		f.of = append(f.of, s)
	}
	if len(f.of) == 0 {
		f.of = append(f.of, f.pp.Blank())
	}
	return f, nil
}

func (f *feed) release() {
	for _, s := range f.of {
		s.Release()
	}
}

// batch makes the inputs of n rows.
func (f *feed) batch(n int) []onnx.Tensor {
	if f.pp == nil {
		in := make([]onnx.Tensor, len(f.pkg.Spec.Inputs))
		for i, t := range f.pkg.Spec.Inputs {
			in[i] = zeros(t, int64(n), f.dim)
		}
		return in
	}
	rows := make([]preprocess.Sample, n)
	for i := range rows {
		rows[i] = f.of[i%len(f.of)]
	}
	return f.pp.Tensors(rows, &f.buf)
}

// zeros is a tensor of a declared input, without content.
func zeros(t model.Tensor, rows, dim int64) onnx.Tensor {
	z := onnx.Tensor{Datatype: t.Datatype, Shape: slices.Clone(t.Shape)}
	size := int64(1)
	for i, d := range z.Shape {
		if d == -1 {
			d = dim
			if i == 0 {
				d = rows
			}
			z.Shape[i] = d
		}
		size *= d
	}
	switch t.Datatype {
	case "FP32":
		z.F32 = make([]float32, size)
	case "INT32":
		z.I32 = make([]int32, size)
	case "INT64":
		z.I64 = make([]int64, size)
	case "BYTES":
		z.Strings = make([]string, size)
	default:
		z.Raw = make([]byte, size*int64(onnx.Size(t.Datatype)))
	}
	return z
}
