package imaging

import "encoding/binary"

// plane is one channel of 8 bits.
type plane struct {
	pix    []byte
	stride int
	x, y   axis
}

func (p plane) w() int { return p.x.samples() }

// resize writes p, resized to the windows cols and rows, to dst, in levels of [0, 255].
//
// Down first, then across, two output rows at a time. Numbers are kept in the
// two 32-bit halves of 64-bit words, so that one multiplication serves two
// pixels: the sums cannot carry over, since weights add up to 2^16 and values
// have 8 bits (16 in the second pass).
func (s *scratch) resize(dst []float32, p plane, cols, rows window) {
	down, across := tapsFor(p.y, rows), tapsFor(p.x, cols)
	w, h := cols.n, rows.n
	s.rows = grow(s.rows, p.w())
	for y := 0; y < h; y += 2 {
		p.down(s.rows, down, y, 0)
		if y+1 < h {
			p.down(s.rows, down, y+1, 32)
			pairAcross(dst[y*w:(y+1)*w], dst[(y+1)*w:(y+2)*w], s.rows, across)
		} else {
			pairAcross(dst[y*w:(y+1)*w], dst[y*w:(y+1)*w], s.rows, across)
		}
	}
}

// down computes row y of the vertically resized plane, with 8 fractional
// bits, into the half of each word of row that shift names. The lower half
// (shift 0) comes first and overwrites the word.
func (p plane) down(row []uint64, t *taps, y int, shift uint) {
	const even = 0x000000ff_000000ff // bytes 0 and 4 of a word
	weights := t.weights[y*t.n : (y+1)*t.n]
	top := int(t.lo[y]) * p.stride
	x, w := 0, p.w()
	for ; x+8 <= w; x += 8 {
		var a, b, c, d uint64 // pixels 0 and 4, 1 and 5, 2 and 6, 3 and 7
		at := top + x
		for _, f := range weights {
			v := binary.LittleEndian.Uint64(p.pix[at : at+8])
			a += (v & even) * f
			b += (v >> 8 & even) * f
			c += (v >> 16 & even) * f
			d += (v >> 24 & even) * f
			at += p.stride
		}
		r := row[x : x+8 : x+8]
		if shift == 0 {
			r[0], r[4] = low(a), low(a>>32)
			r[1], r[5] = low(b), low(b>>32)
			r[2], r[6] = low(c), low(c>>32)
			r[3], r[7] = low(d), low(d>>32)
		} else {
			r[0] |= low(a) << 32
			r[1] |= low(b) << 32
			r[2] |= low(c) << 32
			r[3] |= low(d) << 32
			r[4] |= low(a>>32) << 32
			r[5] |= low(b>>32) << 32
			r[6] |= low(c>>32) << 32
			r[7] |= low(d>>32) << 32
		}
	}
	for ; x < w; x++ {
		var a uint64
		at := top + x
		for _, f := range weights {
			a += uint64(p.pix[at]) * f
			at += p.stride
		}
		if shift == 0 {
			row[x] = low(a)
		} else {
			row[x] |= low(a) << 32
		}
	}
}

// low rounds a sum of 16 fractional bits to 8.
func low(v uint64) uint64 { return (v&0xffffffff + 0x80) >> 8 }

// pairAcross resizes the two rows in row's halves horizontally.
func pairAcross(lower, upper []float32, row []uint64, t *taps) {
	const scale = 1.0 / (1 << 24)
	weights := t.weights
	upper = upper[:len(lower)]
	for x := range lower {
		lo := int(t.lo[x])
		src := row[lo : lo+t.n]
		w := weights[x*t.n:][:len(src)]
		var sum uint64
		if len(src) >= 4 { // most of what shrinking a photo takes
			sum = src[0]*w[0] + src[1]*w[1] + src[2]*w[2] + src[3]*w[3]
			src, w = src[4:], w[4:]
		}
		for k, v := range src {
			sum += v * w[k]
		}
		upper[x] = float32(sum>>32) * scale
		lower[x] = float32(sum&0xffffffff) * scale
	}
}
