package preprocess

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"strconv"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/wordpiece"
)

// tokens gives a text's WordPiece ids, and what else of a tokenizer the graph
// declares: each [batch, length].
type tokens struct {
	joiner
	tokenizer *wordpiece.Tokenizer
	most      int
	fixed     bool // the graph's length is most
	inputs    []tokenInput
}

type tokenInput struct {
	name string // input_ids, attention_mask or token_type_ids
	wide bool   // INT64
}

type ids []int64

func (ids) Release() {}

func newTokens(p *model.Package) (*tokens, error) {
	w := p.Spec.Preprocess.Wordpiece
	data, err := p.ReadFile(w.Tokenizer)
	if err != nil {
		return nil, err
	}
	tokenizer, err := wordpiece.Load(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.Tokenizer.File, err)
	}
	t := &tokens{joiner: newJoiner(p.Spec), tokenizer: tokenizer, most: w.MaxTokens}
	if n := tokenizer.Specials(); n > t.most {
		return nil, fmt.Errorf("%s: every text has %d special tokens, but maxTokens is %d", w.Tokenizer.File, n, t.most)
	}
	for _, in := range p.Spec.Inputs {
		one := tokenInput{name: in.Name, wide: in.Datatype == onnx.INT64}
		if !one.wide && max(tokenizer.MaxID(), tokenizer.PadID()) > math.MaxInt32 {
			return nil, fmt.Errorf("%s: it has ids that are no INT32, as input %s is", w.Tokenizer.File, in.Name)
		}
		t.inputs, t.fixed = append(t.inputs, one), in.Shape[1] != -1
	}
	return t, nil
}

func (t *tokens) product(_ context.Context, p product.Product) (Sample, error) {
	text, err := t.text(p)
	if err != nil {
		return nil, err
	}
	return ids(t.tokenizer.Encode(text, t.most)), nil
}

func (t *tokens) seen(p product.Product) []string {
	text, err := t.text(p)
	if err != nil {
		return nil
	}
	return t.tokenizer.Tokens(t.tokenizer.Encode(text, t.most))
}

func (t *tokens) blank() Sample { return ids(t.tokenizer.Encode("", t.most)) }

// group keeps texts together whose lengths are in the same power of two: the
// work on a short text that is padded to a long one's length is for nothing.
func (t *tokens) group(s Sample) string {
	if t.fixed {
		return ""
	}
	return strconv.Itoa(max(4, bits.Len(uint(len(s.(ids))-1))))
}

// tensors pads each row to the longest, or the graph's length, with the
// tokenizer's own id for that, which the mask leaves out.
func (t *tokens) tensors(batch []Sample, b *Buffers) []onnx.Tensor {
	cols := 1
	for _, s := range batch {
		cols = max(cols, len(s.(ids)))
	}
	if t.fixed {
		cols = t.most
	}
	n := len(batch) * cols
	shape := []int64{int64(len(batch)), int64(cols)}
	b.wide, b.ids = grow(b.wide, n*len(t.inputs)), grow(b.ids, n*len(t.inputs))
	out := make([]onnx.Tensor, len(t.inputs))
	for i, in := range t.inputs {
		wide := b.wide[i*n : (i+1)*n]
		for r, s := range batch {
			row := wide[r*cols : (r+1)*cols]
			t.fill(row, s.(ids), in.name)
		}
		out[i] = onnx.Tensor{Shape: shape, I64: wide}
		if !in.wide {
			narrow := b.ids[i*n : (i+1)*n]
			for k, v := range wide {
				narrow[k] = int32(v)
			}
			out[i] = onnx.Tensor{Shape: shape, I32: narrow}
		}
	}
	return out
}

// fill writes one row of an input.
func (t *tokens) fill(row []int64, s ids, input string) {
	switch input {
	case "input_ids":
		for k := copy(row, s); k < len(row); k++ {
			row[k] = t.tokenizer.PadID()
		}
	case "attention_mask":
		clear(row)
		for k := range s {
			row[k] = 1
		}
	default: // token_type_ids: all is one text
		clear(row)
	}
}
