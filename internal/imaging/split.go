package imaging

import (
	"image"
	"image/color"
)

// split gives img's planes: its own memory where it is planar, else R, G and
// B over white in s's.
func (s *scratch) split(img image.Image, h header) ([]plane, colour) {
	b := img.Bounds()
	switch m := img.(type) {
	case *image.YCbCr:
		return splitYCC(m, h)
	case *image.Gray:
		return []plane{full(m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride, b.Dx(), b.Dy())}, grey
	}

	// A GIF's frame may be smaller than its canvas, which then is white.
	w, ht := h.width, h.height
	n := w * ht
	s.planes = grow(s.planes, 3*n)
	out := s.planes
	if b.Dx() < w || b.Dy() < ht {
		for i := range out {
			out[i] = 255
		}
		b = b.Intersect(image.Rect(0, 0, w, ht))
	}
	o := overWhite{r: out[:n], g: out[n : 2*n], b: out[2*n:], w: w}
	o.draw(img, b)
	return []plane{full(o.r, w, w, ht), full(o.g, w, w, ht), full(o.b, w, w, ht)}, rgb
}

func full(pix []byte, stride, w, h int) plane {
	return plane{pix: pix, stride: stride, x: axis{w, 1}, y: axis{h, 1}}
}

func splitYCC(m *image.YCbCr, h header) ([]plane, colour) {
	b := m.Bounds()
	w, ht := b.Dx(), b.Dy()
	dx, dy := 1, 1
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		dx = 2
	case image.YCbCrSubsampleRatio420:
		dx, dy = 2, 2
	case image.YCbCrSubsampleRatio440:
		dy = 2
	case image.YCbCrSubsampleRatio411:
		dx = 4
	case image.YCbCrSubsampleRatio410:
		dx, dy = 4, 2
	}
	chroma := func(pix []byte) plane {
		return plane{pix: pix[m.COffset(b.Min.X, b.Min.Y):], stride: m.CStride, x: axis{w, dx}, y: axis{ht, dy}}
	}
	c := ycc
	if h.limited {
		c = yccLimited
	}
	return []plane{full(m.Y[m.YOffset(b.Min.X, b.Min.Y):], m.YStride, w, ht), chroma(m.Cb), chroma(m.Cr)}, c
}

// overWhite is a canvas w wide that pixels are laid over.
type overWhite struct {
	r, g, b []byte
	w       int
}

// set takes colours that are not multiplied by alpha.
func (o *overWhite) set(i int, r, g, b, a uint32) {
	if a != 255 {
		white := (255 - a) * 255
		r, g, b = (r*a+white+127)/255, (g*a+white+127)/255, (b*a+white+127)/255
	}
	o.r[i], o.g[i], o.b[i] = byte(r), byte(g), byte(b)
}

// each calls f for every pixel of b with its place on the canvas and the
// offset of its bytes, of which a pixel has size.
func (o *overWhite) each(b image.Rectangle, offset func(x, y int) int, size int, f func(i, p int)) {
	for y := b.Min.Y; y < b.Max.Y; y++ {
		p := offset(b.Min.X, y)
		for i := y*o.w + b.Min.X; i < y*o.w+b.Max.X; i, p = i+1, p+size {
			f(i, p)
		}
	}
}

// draw lays the part b of img over the canvas, at its own place.
func (o *overWhite) draw(img image.Image, b image.Rectangle) {
	switch m := img.(type) {
	case *image.NRGBA:
		o.each(b, m.PixOffset, 4, func(i, p int) {
			c := m.Pix[p : p+4 : p+4]
			o.set(i, uint32(c[0]), uint32(c[1]), uint32(c[2]), uint32(c[3]))
		})
	case *image.RGBA: // multiplied by alpha already
		o.each(b, m.PixOffset, 4, func(i, p int) {
			c := m.Pix[p : p+4 : p+4]
			white := 255 - uint32(c[3])
			o.set(i, min(255, uint32(c[0])+white), min(255, uint32(c[1])+white), min(255, uint32(c[2])+white), 255)
		})
	case *image.Paletted:
		palette := straight(m.Palette)
		o.each(b, m.PixOffset, 1, func(i, p int) {
			c := &palette[m.Pix[p]]
			o.set(i, uint32(c.R), uint32(c.G), uint32(c.B), uint32(c.A))
		})
	case *image.CMYK:
		mix := func(c, k byte) uint32 { return ((255-uint32(c))*(255-uint32(k)) + 127) / 255 }
		o.each(b, m.PixOffset, 4, func(i, p int) {
			c := m.Pix[p : p+4 : p+4]
			o.set(i, mix(c[0], c[3]), mix(c[1], c[3]), mix(c[2], c[3]), 255)
		})
	case *image.NYCbCrA: // a lossy WebP with alpha
		for y := b.Min.Y; y < b.Max.Y; y++ {
			for x := b.Min.X; x < b.Max.X; x++ {
				at := m.COffset(x, y)
				red, green, blue := limitedToRGB(m.Y[m.YOffset(x, y)], m.Cb[at], m.Cr[at])
				o.set(y*o.w+x, red, green, blue, uint32(m.A[m.AOffset(x, y)]))
			}
		}
	default: // 16 bits a channel
		for y := b.Min.Y; y < b.Max.Y; y++ {
			for x := b.Min.X; x < b.Max.X; x++ {
				c := color.NRGBA64Model.Convert(img.At(x, y)).(color.NRGBA64)
				o.set(y*o.w+x, uint32(c.R>>8), uint32(c.G>>8), uint32(c.B>>8), uint32(c.A>>8))
			}
		}
	}
}

// straight is the palette, not multiplied by alpha, for every index that a
// byte can hold: an index past a short palette is transparent.
func straight(p color.Palette) (out [256]color.NRGBA) {
	for i, c := range p[:min(len(p), 256)] {
		out[i] = color.NRGBAModel.Convert(c).(color.NRGBA)
	}
	return out
}

func limitedToRGB(y, cb, cr byte) (r, g, b uint32) {
	const k = 255.0 / 224
	l := (float32(y) - 16) * (255.0 / 219)
	u, v := float32(cb)-128, float32(cr)-128
	level := func(f float32) uint32 { return uint32(clamp(f) + 0.5) }
	return level(l + 1.402*k*v), level(l - 0.344136*k*u - 0.714136*k*v), level(l + 1.772*k*u)
}
