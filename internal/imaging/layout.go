package imaging

import (
	"math"

	"aisle.dev/aisle/internal/model"
)

// window is a part of a resized row or column: n pixels from from on, of size.
type window struct{ size, from, n int }

// layout is the way from a picture as it is stored to a tensor: what of it is
// resized to which size, where a pixel's numbers go, and how a level becomes a
// number. Turning the picture upright, the order of the channels and that of
// the tensor's axes are all in it, so that each number is written once.
type layout struct {
	x, y       window // of the picture as it is stored
	at, dx, dy int    // the numbers of its pixel (x, y) are at + x*dx + y*dy and ...
	colours    [3]number
	grey       bool // colours[0] alone is written, with the luma
}

// number is where the number of a pixel's R, G or B is, from the pixel's first
// on, and what it is: level*mul + add.
type number struct {
	at       int
	mul, add float32
}

// newLayout says how the picture with the header h becomes the tensor of spec.
func newLayout(h header, spec model.Image) layout {
	l := layout{grey: spec.Channels == model.Grey}
	l.x, l.y = window{spec.Width, 0, spec.Width}, window{spec.Height, 0, spec.Height}
	if spec.Resize == model.Crop {
		w, ht := h.width, h.height
		if h.orientation.turned() {
			w, ht = ht, w
		}
		l.x, l.y = crop(w, ht, spec)
	}
	l.dx, l.dy = 1, spec.Width
	if h.orientation.turned() {
		l.x, l.y, l.dx, l.dy = l.y, l.x, l.dy, l.dx
	}
	mirror := func(w *window, step *int) {
		w.from = w.size - w.n - w.from
		l.at += (w.n - 1) * *step
		*step = -*step
	}
	switch h.orientation {
	case 2, 3, 7, 8:
		mirror(&l.x, &l.dx)
	}
	switch h.orientation {
	case 3, 4, 6, 7:
		mirror(&l.y, &l.dy)
	}

	pixel, channel := 1, spec.Width*spec.Height
	if spec.Layout == model.NHWC {
		pixel, channel = spec.Depth(), 1
	}
	l.at, l.dx, l.dy = l.at*pixel, l.dx*pixel, l.dy*pixel
	scale := float32(1. / 255)
	if spec.Scale != nil {
		scale = *spec.Scale
	}
	for c := range l.colours { // c is the tensor's channel
		n := number{at: c * channel, mul: scale / spec.Std[c], add: -spec.Mean[c] / spec.Std[c]}
		if spec.Channels == model.BGR {
			l.colours[2-c] = n
		} else {
			l.colours[c] = n
		}
	}
	return l
}

// crop resizes w x h so that it covers the tensor's size over the ratio, and
// takes the middle: what torchvision's Resize and CenterCrop do, with their
// rounding.
func crop(w, h int, spec model.Image) (x, y window) {
	ratio := spec.CropRatio
	if ratio == 0 {
		ratio = 1
	}
	x.n, y.n = spec.Width, spec.Height
	x.size, y.size = int(float64(x.n)/ratio), int(float64(y.n)/ratio)
	if w*y.size >= h*x.size {
		x.size = y.size * w / h
	} else {
		y.size = x.size * h / w
	}
	x.from = int(math.RoundToEven(float64(x.size-x.n) / 2))
	y.from = int(math.RoundToEven(float64(y.size-y.n) / 2))
	return x, y
}

// Rec. 601, as in JPEG and in Pillow's conversion to L.
const lumaR, lumaG, lumaB = 0.299, 0.587, 0.114

// place writes the resized planes of R, G and B, in levels, to dst. It may
// change them.
func (l layout) place(dst []float32, planes [3][]float32) {
	colours := planes[:]
	if l.grey {
		r, g, b := planes[0], planes[1], planes[2]
		for i := range r {
			r[i] = lumaR*r[i] + lumaG*g[i] + lumaB*b[i]
		}
		colours = planes[:1]
	}
	for c, plane := range colours {
		n := l.colours[c]
		for y := range l.y.n {
			to := l.at + n.at + y*l.dy
			for _, v := range plane[y*l.x.n : (y+1)*l.x.n] {
				dst[to] = v*n.mul + n.add
				to += l.dx
			}
		}
	}
}
