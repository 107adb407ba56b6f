package preprocess

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"aisle.dev/aisle/internal/imaging"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// images reads a product's first picture.
type images struct {
	spec  model.Image
	fetch func(context.Context, string) ([]byte, error) // nil: inline pictures alone
	pool  sync.Pool                                     // of *picture
}

type picture struct {
	of     *images
	pixels []float32
}

func (p *picture) Release() { p.of.pool.Put(p) }

func newImages(spec model.Spec, o Options) (*images, error) {
	if in := spec.Inputs[0]; in.Datatype != "FP32" {
		return nil, fmt.Errorf("input %s is %s; a picture is FP32", in.Name, in.Datatype)
	}
	im := &images{spec: *spec.Preprocess.Image, fetch: o.Fetch}
	im.pool.New = func() any { return &picture{of: im, pixels: make([]float32, im.size())} }
	return im, nil
}

func (im *images) size() int { return 3 * im.spec.Width * im.spec.Height }

func (im *images) product(ctx context.Context, p product.Product) (Sample, error) {
	if len(p.Images) == 0 {
		return nil, nothingToRead("the product has no picture, and this classifier reads nothing else")
	}
	if i := slices.IndexFunc(p.Images, func(i product.Image) bool { return len(i.Data) > 0 }); i >= 0 {
		return im.raw(p.Images[i].Data)
	}
	if im.fetch == nil {
		return nil, problem.New(http.StatusUnprocessableEntity, "pictures by URL are not fetched; send the picture's bytes inline, in base64 as images[].data")
	}
	data, err := im.fetch(ctx, p.Images[0].URL)
	if err != nil {
		return nil, err
	}
	return im.raw(data)
}

func (im *images) raw(data []byte) (Sample, error) {
	p := im.pool.Get().(*picture)
	if err := imaging.Tensor(p.pixels, data, im.spec); err != nil {
		p.Release()
		return nil, err
	}
	return p, nil
}

func (im *images) blank() Sample {
	p := im.pool.Get().(*picture)
	clear(p.pixels)
	return p
}

func (*images) group(Sample) string { return "" }

func (im *images) tensors(batch []Sample, b *Buffers) []onnx.Tensor {
	n := im.size()
	data := batch[0].(*picture).pixels
	if len(batch) > 1 {
		b.floats = grow(b.floats, len(batch)*n)
		data = b.floats
		for i, s := range batch {
			copy(data[i*n:(i+1)*n], s.(*picture).pixels)
		}
	}
	return []onnx.Tensor{{Shape: []int64{int64(len(batch)), 3, int64(im.spec.Height), int64(im.spec.Width)}, F32: data}}
}
