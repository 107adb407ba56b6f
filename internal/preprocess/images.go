package preprocess

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"aisle.dev/aisle/internal/fetch"
	"aisle.dev/aisle/internal/imaging"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// images reads a product's first picture that can be read: [batch, channels, height, width] or
// [batch, height, width, channels], of FP32, FP16 or UINT8.
type images struct {
	spec     model.Image
	datatype string
	shape    []int64                                       // of one picture
	size     int                                           // its elements
	fetch    func(context.Context, string) ([]byte, error) // nil: inline pictures alone
	pool     sync.Pool                                     // of *picture
}

// picture has either pixels or, of other datatypes, bytes.
type picture struct {
	of     *images
	pixels []float32
	bytes  []byte
}

func (p *picture) Release() { p.of.pool.Put(p) }

func newImages(spec model.Spec, o Options) *images {
	im := &images{spec: *spec.Preprocess.Image, datatype: spec.Inputs[0].Datatype, fetch: o.Fetch}
	depth, height, width := int64(im.spec.Depth()), int64(im.spec.Height), int64(im.spec.Width)
	im.shape, im.size = []int64{depth, height, width}, int(depth*height*width)
	if im.spec.Layout == model.NHWC {
		im.shape = []int64{height, width, depth}
	}
	im.pool.New = func() any {
		if im.datatype == onnx.FP32 {
			return &picture{of: im, pixels: make([]float32, im.size)}
		}
		return &picture{of: im, bytes: make([]byte, im.size*onnx.Size(im.datatype))}
	}
	return im
}

func (im *images) product(ctx context.Context, p product.Product) (Sample, error) {
	if len(p.Images) == 0 {
		return nil, nothingToRead("the product has no picture, and this classifier reads nothing else")
	}
	// What comes inline first: it costs nobody's network.
	inline := func(a, b product.Image) int { return min(len(b.Data), 1) - min(len(a.Data), 1) }
	var refusal error
	for _, i := range slices.SortedStableFunc(slices.Values(p.Images), inline) {
		s, err := im.image(ctx, i)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// What may pass is what is told, if anything is: another attempt may
		// then find the picture. Else what is wrong with the first one.
		if refusal == nil || problem.Status(refusal) < http.StatusInternalServerError && problem.Status(err) >= http.StatusInternalServerError {
			refusal = err
		}
	}
	return nil, refusal
}

// image reads one picture, wherever it is.
func (im *images) image(ctx context.Context, i product.Image) (Sample, error) {
	if len(i.Data) > 0 {
		return im.raw(i.Data)
	}
	data, inline, err := fetch.Inline(i.URL)
	switch {
	case err != nil:
		return nil, err
	case inline:
	case im.fetch == nil:
		return nil, problem.New(http.StatusUnprocessableEntity, "this classifier fetches no pictures by URL (FETCH=off); send the picture's bytes inline, in base64 as images[].data")
	default:
		if data, err = im.fetch(ctx, i.URL); err != nil {
			return nil, err
		}
	}
	return im.raw(data)
}

func (im *images) raw(data []byte) (Sample, error) {
	p := im.pool.Get().(*picture)
	var err error
	if p.pixels != nil {
		err = imaging.Tensor(p.pixels, data, im.spec)
	} else {
		err = imaging.Raw(p.bytes, data, im.spec, im.datatype)
	}
	if err != nil {
		p.Release()
		return nil, err
	}
	return p, nil
}

func (im *images) blank() Sample {
	p := im.pool.Get().(*picture)
	clear(p.pixels)
	clear(p.bytes)
	return p
}

func (*images) group(Sample) string { return "" }

func (im *images) tensors(batch []Sample, b *Buffers) []onnx.Tensor {
	first := batch[0].(*picture)
	t := onnx.Tensor{Shape: append([]int64{int64(len(batch))}, im.shape...)}
	switch {
	case first.pixels == nil:
		t.Datatype, t.Raw = im.datatype, first.bytes
		if len(batch) > 1 {
			b.bytes = b.bytes[:0]
			for _, s := range batch {
				b.bytes = append(b.bytes, s.(*picture).bytes...)
			}
			t.Raw = b.bytes
		}
	case len(batch) == 1:
		t.F32 = first.pixels
	default:
		b.floats = b.floats[:0]
		for _, s := range batch {
			b.floats = append(b.floats, s.(*picture).pixels...)
		}
		t.F32 = b.floats
	}
	return []onnx.Tensor{t}
}
