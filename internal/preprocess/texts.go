package preprocess

import (
	"context"
	"strings"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/product"
)

// joiner makes one text of a product: of the fields that it has, in the order
// of reads, with join between them.
type joiner struct {
	reads []string
	join  string
}

func newJoiner(spec model.Spec) joiner { return joiner{reads: spec.Reads, join: *spec.Preprocess.Join} }

func (j joiner) text(p product.Product) (string, error) {
	texts := make([]string, 0, len(j.reads))
	for _, name := range j.reads {
		if t := strings.TrimSpace(p.Field(name)); t != "" {
			texts = append(texts, t)
		}
	}
	if len(texts) == 0 {
		return "", noText(j.reads)
	}
	return strings.Join(texts, j.join), nil
}

func (j joiner) raw([]byte) (Sample, error) { return nil, noPictures(j.reads) }

func noText(reads []string) error {
	return nothingToRead("the product has none of the fields that this classifier reads: %v", reads)
}

func noPictures(reads []string) error {
	return nothingToRead("this classifier reads no pictures; it reads %v", reads)
}

// texts gives the text itself: BYTES [batch] or [batch, 1].
type texts struct {
	joiner
	column bool // [batch, 1]
}

type text string

func (text) Release() {}

func newTexts(spec model.Spec) *texts {
	return &texts{joiner: newJoiner(spec), column: len(spec.Inputs[0].Shape) == 2}
}

func (t *texts) product(_ context.Context, p product.Product) (Sample, error) {
	s, err := t.text(p)
	if err != nil {
		return nil, err
	}
	return text(s), nil
}

func (*texts) blank() Sample { return text("") }

func (*texts) group(Sample) string { return "" }

func (t *texts) tensors(batch []Sample, b *Buffers) []onnx.Tensor {
	b.strings = b.strings[:0]
	for _, s := range batch {
		b.strings = append(b.strings, string(s.(text)))
	}
	shape := []int64{int64(len(batch))}
	if t.column {
		shape = append(shape, 1)
	}
	return []onnx.Tensor{{Shape: shape, Strings: b.strings}}
}
