// Package imaging turns an encoded picture into a classifier's tensor:
// decoded, turned upright, put over white, resized by an antialiased triangle
// filter, normalised.
//
// JPEG (baseline, progressive, grey, CMYK), PNG, GIF (its first frame), WebP
// and BMP are read. The resize is within a level or so of Pillow's BILINEAR
// (a test compares them); a JPEG's luma and chroma planes are resized apart
// and turned into RGB at the target's size, which is several times less work
// than the other order.
//
// Guarantees, since pictures come from strangers: size is checked on the
// header before anything is allocated; pictures that are decoded at the same
// time use at most 384 MiB together; a decoder that panics is an
// error; every error is a *problem.Error of status 415 or 422 that says what
// is wrong.
//
// Non-goals: fetching, colour profiles, animations, keeping the aspect.
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

// Tensor decodes data and writes it to dst as [3][Height][Width] (R, G, B),
// normalised as spec says. It may be called from many goroutines; where their
// pictures together would need too much memory, some wait.
func Tensor(dst []float32, data []byte, spec model.Image) error {
	if len(dst) != 3*spec.Width*spec.Height {
		return fmt.Errorf("imaging: %d numbers for a tensor of 3x%dx%d", len(dst), spec.Height, spec.Width)
	}
	h, err := readHeader(data)
	if err != nil {
		return err
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
	return decodeTo(dst, data, h, spec)
}

func decodeTo(dst []float32, data []byte, h header, spec model.Image) error {
	img, err := decode(h, data)
	if err != nil {
		return err
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	s.tensor(dst, img, h, spec)
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
	floats []float32 // a resized picture that is still lying on its side
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

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
func (s *scratch) tensor(dst []float32, img image.Image, h header, spec model.Image) {
	w, ht := spec.Width, spec.Height
	out := dst
	if h.orientation.turned() {
		w, ht = ht, w
	}
	if h.orientation > 1 {
		s.floats = grow(s.floats, len(dst))
		out = s.floats
	}
	n := w * ht
	planes, colour := s.split(img, h)
	for i, p := range planes {
		s.resize(out[i*n:(i+1)*n], p, w, ht)
	}
	colour.finish(out, n, spec)
	if h.orientation > 1 {
		for c := range 3 {
			h.orientation.upright(dst[c*n:(c+1)*n], out[c*n:(c+1)*n], w, ht)
		}
	}
}
