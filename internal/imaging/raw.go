package imaging

import (
	"encoding/binary"
	"fmt"
	"math"

	"aisle.dev/aisle/internal/model"
)

// Raw is [Tensor] for graphs that take other numbers than FP32: datatype is
// FP16 or UINT8, dst its elements, little-endian. Levels of UINT8 are rounded
// and not normalised.
func Raw(dst []byte, data []byte, spec model.Image, datatype string) error {
	n := spec.Depth() * spec.Width * spec.Height
	size := map[string]int{"FP16": 2, "UINT8": 1}[datatype]
	if size == 0 || len(dst) != n*size {
		return fmt.Errorf("imaging: %d bytes for a tensor of %d %s; FP16 and UINT8 are written", len(dst), n, datatype)
	}
	if datatype == "UINT8" {
		spec.Scale, spec.Mean, spec.Std = new(float32(1)), [3]float32{}, [3]float32{1, 1, 1}
	}
	buf := floats.Get().(*[]float32)
	defer floats.Put(buf)
	*buf = grow(*buf, n)
	if err := Tensor(*buf, data, spec); err != nil {
		return err
	}
	if datatype == "UINT8" {
		for i, v := range *buf {
			dst[i] = byte(clamp(v) + 0.5)
		}
		return nil
	}
	for i, v := range *buf {
		binary.LittleEndian.PutUint16(dst[2*i:], half(v))
	}
	return nil
}

// half rounds to the nearest number of IEEE 754's binary16, to even in the
// middle; what is too large for one becomes infinite.
func half(v float32) uint16 {
	b := math.Float32bits(v)
	sign, b := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 // not a number
	case b >= 0x477ff000: // 65520, which is nearer to the power of two than to the last number
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: a subnormal, in steps of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(b))*(1<<24)))
	}
	// The exponent is biased by 127 there and by 15 here; 13 bits of the
	// fraction go, and may carry into the exponent.
	return sign | uint16((b-(127-15)<<23+0xfff+b>>13&1)>>13)
}
