// Package preprocess makes a graph's input tensors of products, as a model
// package's model.yaml says.
//
// A product becomes a [Sample] in its request's own goroutine; samples of the
// same group become the tensors of one batch in a worker's. What a kind of
// preprocessing is, training does too: text is hashed by internal/ngrams, cut
// into tokens by internal/wordpiece, or given as it is; pictures are resized
// by internal/imaging.
//
// Guarantees: nothing of a product is kept once its sample is made; a
// sample's tensors do not depend on who shares its batch, but for padding that
// the graph is told of; every refusal of a product is a *problem.Error, and
// one without any field that the package reads is of type
// problem.TypeNothingToRead. All methods may be called concurrently, each
// worker with Buffers of its own.
//
// Of a product with several pictures the first one that can be read is, those
// that come inline before those that must be fetched.
//
// Non-goals: running graphs, reading outputs.
package preprocess

import (
	"context"
	"fmt"
	"net/http"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// Options of [New].
type Options struct {
	// Fetch gets a picture by its URL; its errors are *problem.Error. Nil:
	// pictures by URL are refused.
	Fetch func(ctx context.Context, url string) ([]byte, error)
}

// Sample is one product as the graph wants it.
type Sample interface {
	// Release gives the sample's memory back, once no worker has it any more.
	Release()
}

// Preprocessor makes samples, and tensors of them, for one model package.
type Preprocessor struct{ kind kind }

// kind is one kind of preprocessing. Its methods do what those of
// Preprocessor promise; the samples that it is given are its own.
type kind interface {
	product(ctx context.Context, p product.Product) (Sample, error)
	raw(data []byte) (Sample, error)
	blank() Sample
	group(s Sample) string
	tensors(batch []Sample, b *Buffers) []onnx.Tensor
}

// New returns the package's preprocessor. A package without preprocessing has
// none.
func New(p *model.Package, o Options) (*Preprocessor, error) {
	k, err := newKind(p, o)
	if err != nil {
		return nil, fmt.Errorf("model package %s: %w", p.Dir, err)
	}
	return &Preprocessor{kind: k}, nil
}

func newKind(p *model.Package, o Options) (kind, error) {
	switch k := p.Spec.Preprocess.Kind; k {
	case model.Picture:
		return newImages(p.Spec, o), nil
	case model.HashedNgrams:
		return newBags(p.Spec), nil
	case model.TextString:
		return newTexts(p.Spec), nil
	case model.WordPiece:
		return newTokens(p)
	default:
		return nil, fmt.Errorf("preprocess kind %q reads no products", k)
	}
}

// Product makes a sample of p, of which it keeps nothing.
func (pp *Preprocessor) Product(ctx context.Context, p product.Product) (Sample, error) {
	return pp.kind.product(ctx, p)
}

// Seen is what is read in p's texts, for people: its n-grams, in the order of
// their ids, or its tokens. It is empty for what is read as it is.
func (pp *Preprocessor) Seen(p product.Product) []string {
	if k, ok := pp.kind.(interface {
		seen(product.Product) []string
	}); ok {
		return k.seen(p)
	}
	return nil
}

// Raw makes a sample of a picture's bytes alone, of which it keeps nothing.
func (pp *Preprocessor) Raw(data []byte) (Sample, error) { return pp.kind.raw(data) }

// Blank is a sample without content, of a usual size.
func (pp *Preprocessor) Blank() Sample { return pp.kind.blank() }

// Group names what must not share a batch with samples of other groups.
func (pp *Preprocessor) Group(s Sample) string { return pp.kind.group(s) }

// Tensors makes the graph's inputs, in the package's order, of a batch of one
// or more samples of the same group. They use the memory of b and that of the
// samples.
func (pp *Preprocessor) Tensors(batch []Sample, b *Buffers) []onnx.Tensor {
	return pp.kind.tensors(batch, b)
}

// Buffers are one worker's memory, kept between its batches. The zero value
// is ready for use.
type Buffers struct {
	floats  []float32
	bytes   []byte
	ids     []int32
	wide    []int64
	strings []string
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// nothingToRead is a refusal that a composer takes as "skipped".
func nothingToRead(format string, args ...any) error {
	e := problem.New(http.StatusUnprocessableEntity, format, args...)
	e.Type = problem.TypeNothingToRead
	return e
}
