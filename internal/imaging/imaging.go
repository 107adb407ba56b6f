// Package imaging turns an encoded picture into a classifier's tensor:
// decoded, turned upright, put over white, resized by an antialiased triangle
// filter, normalised and laid out as the model's spec says.
//
// JPEG (baseline, progressive, grey, CMYK), PNG, GIF (its first frame), still WebP
// and BMP are read, of 8 or 16 bits a channel.
//
// There are two ways to the same tensor. Built with the tag turbo, a JPEG goes
// through libjpeg-turbo in one call (turbo.c), which decodes bit for bit as
// Pillow does; the tensor is within one level of Pillow's BILINEAR. What that
// declines (CMYK, whatever it finds fault with) and everything else, and all
// of it without the tag, is decoded in Go: there a JPEG's luma and chroma
// planes are resized apart and turned into RGB at the target's size, which is
// several times less work than the other order, and Go's decoder differs from
// libjpeg-turbo's by some levels. What is refused, and in which words, is
// always Go's verdict, so that it does not depend on the build.
//
// Guarantees, since pictures come from strangers: size is checked on the
// header before anything is allocated; pictures that are decoded at the same
// time use at most 384 MiB together; a decoder that panics is an
// error; every error is a *problem.Error of status 415 or 422 that says what
// is wrong.
//
// Non-goals: fetching, colour profiles, animations.
package imaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	"golang.org/x/image/bmp"
	"golang.org/x/image/webp"
	"golang.org/x/sync/semaphore"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/problem"
)

// Tensor decodes data and writes it to dst, in the layout that spec says. It
// may be called from many goroutines; where their pictures together would need
// too much memory, some wait.
func Tensor(dst []float32, data []byte, spec model.Image) error {
	if want := spec.Depth() * spec.Width * spec.Height; len(dst) != want {
		return fmt.Errorf("imaging: %d numbers for a tensor of %d", len(dst), want)
	}
	h, err := readHeader(data)
	if err != nil {
		return err
	}
	l := newLayout(h, spec)
	if turbo(dst, data, h, l) {
		return nil
	}
	weight := h.memory()
	// Waiting is not cancellable: those before us are decoding, not waiting
	// for anything.
	_ = decoding.Acquire(context.Background(), weight)
	defer decoding.Release(weight)
	if weight > large {
		// Else the collector would let the garbage of one large picture stand
		// while the next one is decoded.
		defer debug.FreeOSMemory()
	}
	return decodeTo(dst, data, h, l)
}

func decodeTo(dst []float32, data []byte, h header, l layout) error {
	img, err := decode(h, data)
	if err != nil {
		return err
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	s.tensor(dst, img, h, l)
	return nil
}

// budget bounds the memory of the pictures that are being decoded: hundreds
// of ordinary ones at once, or one of the largest. A picture that alone needs
// more is refused.
const (
	budget = 384 << 20
	large  = 32 << 20
)

var decoding = semaphore.NewWeighted(budget)

// memory is about what decoding needs at most, from what the decoders
// allocate for each pixel.
func (h header) memory() int64 {
	perPixel := int64(16) // RGBA of 16 bits, a second pass of interlaced rows, and planes
	if h.format == "jpeg" {
		perPixel = 4
		if h.progressive {
			perPixel = 16 // 32-bit coefficients too
		}
		if !h.ycc {
			perPixel += 12 // a fourth channel, then RGBA or CMYK, then planes
		}
	}
	return perPixel*int64(h.width)*int64(h.height) + 64<<10
}

type codec struct {
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

var codecs = map[string]codec{
	"jpeg": {jpeg.DecodeConfig, jpeg.Decode},
	"png":  {png.DecodeConfig, png.Decode},
	"gif":  {gif.DecodeConfig, gif.Decode},
	"webp": {webp.DecodeConfig, webp.Decode},
	"bmp":  {bmp.DecodeConfig, bmp.Decode},
}

// decode runs the format's decoder. The recover is around the decoders alone,
// not around our own code.
func decode(h header, data []byte) (img image.Image, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = broken(h.format, fmt.Errorf("%v", r))
		}
	}()
	img, err = codecs[h.format].decode(bytes.NewReader(data))
	if err != nil {
		return nil, broken(h.format, err)
	}
	if b := img.Bounds(); b.Empty() || b.Dx() > h.width || b.Dy() > h.height {
		return nil, problem.New(http.StatusUnprocessableEntity, "the %s picture is %dx%d, but its header says %dx%d", names[h.format], b.Dx(), b.Dy(), h.width, h.height)
	}
	return img, nil
}

func broken(format string, err error) error {
	// Not all decoders wrap the reader's error.
	if msg := err.Error(); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.HasSuffix(msg, "unexpected EOF") || strings.HasSuffix(msg, "short Huffman data") {
		return problem.New(http.StatusUnprocessableEntity, "the %s picture is truncated", names[format])
	}
	return problem.New(http.StatusUnprocessableEntity, "the %s picture cannot be decoded: %.200s", names[format], err)
}

// scratch is the memory of one call, kept between calls.
type scratch struct {
	rows   []uint64  // one pair of vertically resized rows
	planes []byte    // R, G and B of pictures that are not planar
	floats []float32 // the resized planes
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// floats are the tensors of [Raw] before they are rounded.
var floats = sync.Pool{New: func() any { return new([]float32) }}

// release gives s back, unless a huge picture made it huge.
func (s *scratch) release() {
	if cap(s.planes) <= 4<<20 {
		scratches.Put(s)
	}
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// tensor resizes and normalises img into dst.
func (s *scratch) tensor(dst []float32, img image.Image, h header, l layout) {
	n := l.x.n * l.y.n
	s.floats = grow(s.floats, 3*n)
	resized := [3][]float32{s.floats[:n], s.floats[n : 2*n], s.floats[2*n:]}
	planes, colour := s.split(img, h)
	for i, p := range planes {
		s.resize(resized[i], p, l.x, l.y)
	}
	l.place(dst, colour.levels(resized))
}
