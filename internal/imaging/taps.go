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
	lo      []int32
	weights []uint64  // of 16 bits; as wide as what they are multiplied with
	floats  []float32 // the same over one
}

// axis is one direction of a plane: of a picture size pixels long, one sample
// for each sub pixels.
type axis struct{ size, sub int }

func (a axis) samples() int { return (a.size + a.sub - 1) / a.sub }

type tapsKey struct {
	axis
	out window
}

// tapsCache keeps what is needed again: pictures of a shop are of few sizes.
var tapsCache struct {
	sync.RWMutex
	m map[tapsKey]*taps // guarded by the lock; at most maxCachedTaps
}

const maxCachedTaps = 64

func tapsFor(a axis, out window) *taps {
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
	outputs := make([]triangle, key.out.n)
	n := 0
	for i := range outputs {
		outputs[i] = key.triangle(key.out.from + i)
		lo, hi := key.span(outputs[i])
		n = max(n, hi-lo+1)
	}
	t := &taps{n: n, lo: make([]int32, key.out.n), weights: make([]uint64, key.out.n*n), floats: make([]float32, key.out.n*n)}
	samples := make([]float64, n)
	for i, o := range outputs {
		lo, _ := key.span(o)
		lo = min(lo, key.samples()-n) // so that the padding stays inside the source
		clear(samples)
		for k, v := range o.weights {
			near, next := key.samplesOf(o.first + k)
			samples[near-lo] += 0.75 * v
			samples[next-lo] += 0.25 * v
		}
		t.lo[i] = int32(lo)
		// Rounding the running sum, not each weight, makes them add up.
		run, before := 0.0, 0.0
		for k, v := range samples {
			run += v * one
			next := math.Round(run)
			t.weights[i*n+k] = uint64(next - before)
			t.floats[i*n+k] = float32((next - before) / one)
			before = next
		}
	}
	return t
}

// triangle is one output's weights over the picture's pixels, from first on.
type triangle struct {
	first   int
	weights []float64
}

// triangle of output i is as wide as two steps of the output grid when
// shrinking, and as two pixels when enlarging (Pillow's BILINEAR).
func (key tapsKey) triangle(i int) (t triangle) {
	scale := float64(key.size) / float64(key.out.size)
	support := max(scale, 1)
	centre := (float64(i) + 0.5) * scale
	sum := 0.0
	for k := max(0, int(centre-support-0.5)); k < min(key.size, int(centre+support+1.5)); k++ {
		v := 1 - math.Abs((float64(k)+0.5-centre)/support)
		if v <= 0 {
			continue
		}
		if len(t.weights) == 0 {
			t.first = k
		}
		t.weights = append(t.weights, v)
		sum += v
	}
	for k := range t.weights {
		t.weights[k] /= sum
	}
	return t
}

// samplesOf gives the samples that a pixel is made of. A decoder with "fancy
// upsampling" (libjpeg's and libwebp's default, so Pillow's) gives it three
// quarters of the nearest chroma sample and a quarter of the next one; that
// and the resize are one linear filter. Fewer samples than one for two pixels
// are repeated.
func (a axis) samplesOf(pixel int) (near, next int) {
	near = pixel / a.sub
	if a.sub != 2 {
		return near, near
	}
	return near, min(max(near+2*(pixel%2)-1, 0), a.samples()-1)
}

// span is the first and the last sample of a triangle's pixels.
func (a axis) span(t triangle) (lo, hi int) {
	near, next := a.samplesOf(t.first)
	lo = min(near, next)
	near, next = a.samplesOf(t.first + len(t.weights) - 1)
	return lo, max(near, next)
}
