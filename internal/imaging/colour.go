package imaging

// colour says what a picture's planes are.
type colour int

const (
	rgb colour = iota
	grey
	ycc        // JFIF: all levels are used
	yccLimited // BT.601 as video has it: Y in 16-235, Cb and Cr in 16-240
)

// levels turns the resized planes into levels of R, G and B, in place.
func (c colour) levels(planes [3][]float32) [3][]float32 {
	switch c {
	case rgb:
		return planes
	case grey:
		copy(planes[1], planes[0])
		copy(planes[2], planes[0])
		return planes
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
	p0 := planes[0]
	p1, p2 := planes[1][:len(p0)], planes[2][:len(p0)]
	for i, y := range p0 {
		y = (y - yOff) * yMul
		cb, cr := p1[i]-128, p2[i]-128
		p0[i] = clamp(y + rCr*cr)
		p1[i] = clamp(y + gCb*cb + gCr*cr)
		p2[i] = clamp(y + bCb*cb)
	}
	return planes
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
