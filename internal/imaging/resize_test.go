package imaging

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// reference is upsampling and the triangle filter by their definitions, in
// float64, one after the other.
func reference(p plane, w, h int) []float64 {
	pixel := func(x, y int) float64 { // with libjpeg's fancy upsampling
		sum := 0.0
		for _, v := range upsample(p.y, y) {
			for _, u := range upsample(p.x, x) {
				sum += v.weight * u.weight * float64(p.pix[v.at*p.stride+u.at])
			}
		}
		return sum
	}
	full := make([]float64, p.x.size*p.y.size)
	for i := range full {
		full[i] = pixel(i%p.x.size, i/p.x.size)
	}
	triangle := func(size, out, i int) []float64 {
		scale := float64(size) / float64(out)
		weights, sum := make([]float64, size), 0.0
		for k := range weights {
			weights[k] = max(0, 1-math.Abs(float64(k)+0.5-(float64(i)+0.5)*scale)/max(scale, 1))
			sum += weights[k]
		}
		for k := range weights {
			weights[k] /= sum
		}
		return weights
	}
	out := make([]float64, w*h)
	for y := range h {
		wy := triangle(p.y.size, h, y)
		for x := range w {
			wx := triangle(p.x.size, w, x)
			for sy, a := range wy {
				if a == 0 {
					continue
				}
				for sx, b := range wx {
					out[y*w+x] += a * b * full[sy*p.x.size+sx]
				}
			}
		}
	}
	return out
}

type sample struct {
	at     int
	weight float64
}

func upsample(a axis, i int) []sample {
	if a.sub != 2 {
		return []sample{{i / a.sub, 1}}
	}
	next := i/2 - 1
	if i%2 == 1 {
		next = i/2 + 1
	}
	return []sample{{i / 2, 0.75}, {min(max(next, 0), a.samples()-1), 0.25}}
}

func TestResizeIsATriangleFilter(t *testing.T) {
	var s scratch
	rapid.Check(t, func(t *rapid.T) {
		sub := rapid.SampledFrom([]int{1, 2, 4})
		p := plane{
			x: axis{rapid.IntRange(1, 40).Draw(t, "source width"), sub.Draw(t, "pixels a sample, across")},
			y: axis{rapid.IntRange(1, 40).Draw(t, "source height"), sub.Draw(t, "pixels a sample, down")},
		}
		p.stride = p.w() + rapid.IntRange(0, 9).Draw(t, "padding")
		n := p.stride*(p.y.samples()-1) + p.w()
		p.pix = rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "pixels")
		w, h := rapid.IntRange(1, 30).Draw(t, "width"), rapid.IntRange(1, 30).Draw(t, "height")
		got := make([]float32, w*h)
		s.resize(got, p, window{w, 0, w}, window{h, 0, h})
		for i, want := range reference(p, w, h) {
			if d := math.Abs(float64(got[i]) - want); d > 0.05 {
				t.Fatalf("%v x %v to %dx%d: pixel %d is %v, want %v", p.x, p.y, w, h, i, got[i], want)
			}
		}
	})
}

func TestTapsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 5000).Draw(t, "size")
		sub := rapid.SampledFrom([]int{1, 2, 4}).Draw(t, "pixels a sample")
		out := rapid.IntRange(1, 300).Draw(t, "out")
		tp := newTaps(tapsKey{axis{size, sub}, window{out, 0, out}})
		for i, lo := range tp.lo {
			sum := uint64(0)
			for _, w := range tp.weights[i*tp.n : (i+1)*tp.n] {
				sum += w
			}
			if sum != one || lo < 0 || int(lo)+tp.n > (axis{size, sub}).samples() {
				t.Fatalf("output %d: weights add up to %d from %d on, of %d", i, sum, lo, size)
			}
		}
	})
}

func TestTapsCacheIsBounded(t *testing.T) {
	for i := range 10 * maxCachedTaps {
		tapsFor(axis{100 + i, 1}, window{50, 0, 50})
	}
	tapsCache.RLock()
	defer tapsCache.RUnlock()
	if n := len(tapsCache.m); n > maxCachedTaps {
		t.Errorf("%d kept", n)
	}
}
