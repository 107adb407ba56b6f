package imaging

import (
	"math"
	"sync"
)

// one is the fixed-point 1 of a tap's weight. The weights of one output add up
// to it exactly, so that a plain area keeps its level.
const one = 1 << 16

// taps are the weights of one axis: output i is the sum over k of
// source[lo[i]+k] * weights[i*n+k] / one.
type taps struct {
	n       int // weights of each output, padded with zeros
	lo      []int
	weights []uint64 // of 16 bits; as wide as what they are multiplied with
}

// axis is one direction of a plane: of a picture size pixels long, one sample
// for each sub pixels.
type axis struct{ size, sub int }

func (a axis) samples() int { return (a.size + a.sub - 1) / a.sub }

type tapsKey struct {
	axis
	out int
}

// tapsCache keeps what is needed again: pictures of a shop are of few sizes.
var tapsCache struct {
	sync.RWMutex
	m map[tapsKey]*taps // guarded by the lock; at most maxCachedTaps
}

const maxCachedTaps = 64

func tapsFor(a axis, out int) *taps {
	key := tapsKey{a, out}
	c := &tapsCache
	c.RLock()
	t := c.m[key]
	c.RUnlock()
	if t != nil {
		return t
	}
	t = newTaps(key)
	c.Lock()
	defer c.Unlock()
	if c.m == nil || len(c.m) >= maxCachedTaps {
		c.m = make(map[tapsKey]*taps, maxCachedTaps)
	}
	c.m[key] = t
	return t
}

func newTaps(key tapsKey) *taps {
	weights := make([]map[int]float64, key.out)
	lo := make([]int, key.out)
	n := 0
	for i := range weights {
		weights[i] = key.folded(key.triangle(i))
		first, last := key.samples(), 0
		for k := range weights[i] {
			first, last = min(first, k), max(last, k)
		}
		lo[i], n = first, max(n, last-first+1)
	}
	t := &taps{n: n, lo: lo, weights: make([]uint64, key.out*n)}
	for i, w := range weights {
		t.lo[i] = min(lo[i], key.samples()-n) // so that the padding stays inside the source
		// Rounding the running sum, not each weight, makes them add up.
		run, before := 0.0, 0.0
		for k := range n {
			run += w[t.lo[i]+k] * one
			next := math.Round(run)
			t.weights[i*n+k] = uint64(next - before)
			before = next
		}
	}
	return t
}

// triangle is output i's weights over the picture's pixels: a triangle as
// wide as two steps of the output grid when shrinking, and as two pixels when
// enlarging (Pillow's BILINEAR).
func (key tapsKey) triangle(i int) map[int]float64 {
	scale := float64(key.size) / float64(key.out)
	support := max(scale, 1)
	centre := (float64(i) + 0.5) * scale
	w, sum := map[int]float64{}, 0.0
	for k := max(0, int(centre-support-0.5)); k < min(key.size, int(centre+support+1.5)); k++ {
		if v := 1 - math.Abs((float64(k)+0.5-centre)/support); v > 0 {
			w[k] = v
			sum += v
		}
	}
	for k := range w {
		w[k] /= sum
	}
	return w
}

// folded turns weights over pixels into weights over samples. A decoder with
// "fancy upsampling" (libjpeg's and libwebp's default, so Pillow's) gives a
// pixel three quarters of the nearest chroma sample and a quarter of the next
// one; that and the resize are one linear filter.
func (key tapsKey) folded(pixels map[int]float64) map[int]float64 {
	if key.sub == 1 {
		return pixels
	}
	w := map[int]float64{}
	for k, v := range pixels {
		near := k / key.sub
		if key.sub != 2 { // fewer samples are repeated
			w[near] += v
			continue
		}
		next := min(max(near+2*(k%2)-1, 0), key.samples()-1)
		w[near] += 0.75 * v
		w[next] += 0.25 * v
	}
	return w
}
