package preprocess

import (
	"context"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/product"
)

// bags reads a product's texts as hashed n-grams: ids [batch, n] and weights
// [batch, n].
type bags struct {
	config ngrams.Config
	reads  []string
	wide   bool // ids are INT64
}

type bag struct {
	ids     []int32
	weights []float32
}

func (*bag) Release() {}

func newBags(spec model.Spec) *bags {
	return &bags{config: *spec.Preprocess.HashedNgrams, reads: spec.Reads, wide: spec.Inputs[0].Datatype == onnx.INT64}
}

func (t *bags) product(_ context.Context, p product.Product) (Sample, error) {
	if !p.Has(t.reads) {
		return nil, noText(t.reads)
	}
	ids, weights := t.config.Features(t.fields(p))
	return &bag{ids: ids, weights: weights}, nil
}

func (t *bags) fields(p product.Product) []ngrams.Field {
	fields := make([]ngrams.Field, len(t.reads))
	for i, name := range t.reads {
		fields[i] = ngrams.Field{Name: name, Text: p.Field(name)}
	}
	return fields
}

func (t *bags) seen(p product.Product) []string { return t.config.Names(t.fields(p)) }

func (t *bags) raw([]byte) (Sample, error) { return nil, noPictures(t.reads) }

func (*bags) blank() Sample {
	const usual = 64 // about what a title has, so that a warm run has the usual shape
	return &bag{ids: make([]int32, usual), weights: make([]float32, usual)}
}

func (*bags) group(Sample) string { return "" }

// tensors pads the rows with id 0 of weight 0, which adds nothing.
func (t *bags) tensors(batch []Sample, b *Buffers) []onnx.Tensor {
	rows, cols := len(batch), 1
	for _, s := range batch {
		cols = max(cols, len(s.(*bag).ids))
	}
	shape := []int64{int64(rows), int64(cols)}
	first := batch[0].(*bag)
	ids, weights := first.ids, first.weights
	if rows > 1 || len(ids) == 0 {
		b.ids, b.floats = grow(b.ids, rows*cols), grow(b.floats, rows*cols)
		ids, weights = b.ids, b.floats
		for i, s := range batch {
			row, w := ids[i*cols:(i+1)*cols], weights[i*cols:(i+1)*cols]
			n := copy(row, s.(*bag).ids)
			copy(w, s.(*bag).weights)
			clear(row[n:])
			clear(w[n:])
		}
	}
	in := []onnx.Tensor{{Shape: shape, I32: ids}, {Shape: shape, F32: weights}}
	if t.wide {
		b.wide = grow(b.wide, len(ids))
		for i, id := range ids {
			b.wide[i] = int64(id)
		}
		in[0] = onnx.Tensor{Shape: shape, I64: b.wide}
	}
	return in
}
