package classify

import (
	"fmt"
	"net/http"
	"slices"
	"sync"

	"aisle.dev/aisle/internal/imaging"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// sample is one product as the graph wants it.
type sample struct {
	ids     []int32
	weights []float32
	image   *[]float32 // from the pool; see release
}

// preprocessor makes samples of products, and tensors of samples.
type preprocessor interface {
	// product keeps nothing of p.
	product(p product.Product) (sample, error)
	// raw takes the bytes of a picture alone, and keeps nothing of them.
	raw(data []byte) (sample, error)
	blank() sample
	// tensors may use b's memory, and that of the samples.
	tensors(batch []*job, b *buffers) []onnx.Tensor
	// release gives back a sample that no worker has any more.
	release(s sample)
}

func newPreprocessor(spec model.Spec) (preprocessor, error) {
	if spec.Preprocess.Kind == "image" {
		if in := spec.Inputs[0]; in.Datatype != "FP32" {
			return nil, fmt.Errorf("input %s is %s; a picture is FP32", in.Name, in.Datatype)
		}
		return newImages(spec), nil
	}
	ids, weights := spec.Inputs[0], spec.Inputs[1]
	if ids.Datatype != "INT32" && ids.Datatype != "INT64" || weights.Datatype != "FP32" {
		return nil, fmt.Errorf("inputs %s %s and %s %s: hashed n-grams are INT32 or INT64 ids and FP32 weights", ids.Name, ids.Datatype, weights.Name, weights.Datatype)
	}
	return &texts{config: *spec.Preprocess.HashedNgrams, reads: spec.Reads, wide: ids.Datatype == "INT64"}, nil
}

// nothingToRead is a refusal that a composer takes as "skipped".
func nothingToRead(format string, args ...any) error {
	e := problem.New(http.StatusUnprocessableEntity, format, args...)
	e.Type = problem.TypeNothingToRead
	return e
}

// texts reads a product's texts as hashed n-grams.
type texts struct {
	config ngrams.Config
	reads  []string
	wide   bool // ids are INT64
}

func (t *texts) product(p product.Product) (sample, error) {
	if !p.Has(t.reads) {
		return sample{}, nothingToRead("the product has none of the fields that this classifier reads: %v", t.reads)
	}
	fields := make([]ngrams.Field, len(t.reads))
	for i, name := range t.reads {
		fields[i] = ngrams.Field{Name: name, Text: p.Field(name)}
	}
	ids, weights := t.config.Features(fields)
	return sample{ids: ids, weights: weights}, nil
}

func (t *texts) raw([]byte) (sample, error) {
	return sample{}, nothingToRead("this classifier reads no pictures; it reads %v", t.reads)
}

func (t *texts) blank() sample {
	const usual = 64 // about what a title has, so that a warm run has the usual shape
	return sample{ids: make([]int32, usual), weights: make([]float32, usual)}
}

func (t *texts) release(sample) {}

// tensors pads the rows with id 0 of weight 0, which adds nothing.
func (t *texts) tensors(batch []*job, b *buffers) []onnx.Tensor {
	rows, cols := len(batch), 1
	for _, j := range batch {
		cols = max(cols, len(j.sample.ids))
	}
	shape := []int64{int64(rows), int64(cols)}
	ids, weights := batch[0].sample.ids, batch[0].sample.weights
	if rows > 1 || len(ids) == 0 {
		b.ids, b.floats = grow(b.ids, rows*cols), grow(b.floats, rows*cols)
		ids, weights = b.ids, b.floats
		for i, j := range batch {
			row, w := ids[i*cols:(i+1)*cols], weights[i*cols:(i+1)*cols]
			n := copy(row, j.sample.ids)
			copy(w, j.sample.weights)
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

// images reads a product's first inline picture.
type images struct {
	spec model.Image
	pool sync.Pool // of *[]float32, each one picture's
}

func newImages(spec model.Spec) *images {
	im := &images{spec: *spec.Preprocess.Image}
	im.pool.New = func() any { return new(make([]float32, im.size())) }
	return im
}

func (im *images) size() int { return 3 * im.spec.Width * im.spec.Height }

func (im *images) product(p product.Product) (sample, error) {
	if len(p.Images) == 0 {
		return sample{}, nothingToRead("the product has no picture, and this classifier reads nothing else")
	}
	i := slices.IndexFunc(p.Images, func(i product.Image) bool { return len(i.Data) > 0 })
	if i < 0 {
		return sample{}, problem.New(http.StatusUnprocessableEntity, "pictures by URL are not fetched; send the picture's bytes inline, in base64 as images[].data")
	}
	return im.raw(p.Images[i].Data)
}

func (im *images) raw(data []byte) (sample, error) {
	s := sample{image: im.pool.Get().(*[]float32)}
	if err := imaging.Tensor(*s.image, data, im.spec); err != nil {
		im.release(s)
		return sample{}, err
	}
	return s, nil
}

func (im *images) blank() sample {
	s := sample{image: im.pool.Get().(*[]float32)}
	clear(*s.image)
	return s
}

func (im *images) release(s sample) { im.pool.Put(s.image) }

func (im *images) tensors(batch []*job, b *buffers) []onnx.Tensor {
	n := im.size()
	data := *batch[0].sample.image
	if len(batch) > 1 {
		b.floats = grow(b.floats, len(batch)*n)
		data = b.floats
		for i, j := range batch {
			copy(data[i*n:(i+1)*n], *j.sample.image)
		}
	}
	return []onnx.Tensor{{Shape: []int64{int64(len(batch)), 3, int64(im.spec.Height), int64(im.spec.Width)}, F32: data}}
}
