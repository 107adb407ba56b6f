package imaging

import "aisle.dev/aisle/internal/model"

// colour says what a picture's planes are.
type colour int

const (
	rgb colour = iota
	grey
	ycc        // JFIF: all levels are used
	yccLimited // BT.601 as video has it: Y in 16-235, Cb and Cr in 16-240
)

// finish turns the resized planes at out, each of n levels, into normalised
// R, G and B, in place.
func (c colour) finish(out []float32, n int, spec model.Image) {
	var mul, add [3]float32
	for i := range 3 {
		mul[i], add[i] = 1/(255*spec.Std[i]), -spec.Mean[i]/spec.Std[i]
	}
	p0, p1, p2 := out[:n:n], out[n:2*n:2*n], out[2*n:3*n:3*n]
	switch c {
	case grey:
		for i, v := range p0 {
			p1[i], p2[i] = v*mul[1]+add[1], v*mul[2]+add[2]
			p0[i] = v*mul[0] + add[0]
		}
		return
	case rgb:
		for i, p := range [][]float32{p0, p1, p2} {
			m, a := mul[i], add[i]
			for j, v := range p {
				p[j] = v*m + a
			}
		}
		return
	}
	// ITU-T T.871 (JFIF), section 7; and the same stretched to the limited
	// range.
	yMul, yOff := float32(1), float32(0)
	rCr, gCb, gCr, bCb := float32(1.402), float32(-0.344136), float32(-0.714136), float32(1.772)
	if c == yccLimited {
		yMul, yOff = 255.0/219, 16
		const k = 255.0 / 224
		rCr, gCb, gCr, bCb = rCr*k, gCb*k, gCr*k, bCb*k
	}
	p1, p2 = p1[:len(p0)], p2[:len(p0)]
	for i, y := range p0 {
		y = (y - yOff) * yMul
		cb, cr := p1[i]-128, p2[i]-128
		p0[i] = clamp(y+rCr*cr)*mul[0] + add[0]
		p1[i] = clamp(y+gCb*cb+gCr*cr)*mul[1] + add[1]
		p2[i] = clamp(y+bCb*cb)*mul[2] + add[2]
	}
}

func clamp(v float32) float32 {
	if v < 0 {
		return 0
	}
	if v > 255 {
		return 255
	}
	return v
}
