package onnx

import (
	"fmt"
	"math"
	"runtime"

	ort "github.com/yalue/onnxruntime_go"
)

// Tensor is a dense tensor, row-major, of one of the three element types;
// exactly one of the slices is set. Its memory belongs to the caller.
type Tensor struct {
	Shape []int64
	F32   []float32
	I32   []int32
	I64   []int64
}

// check returns the tensor's number of elements. A shape without elements is
// refused: there is nothing to run, and no address to give to C.
func (t Tensor) check() (int, error) {
	n := int64(1)
	for _, d := range t.Shape {
		if d < 1 || n > math.MaxInt32/d {
			return 0, fmt.Errorf("shape %v: want dimensions of at least 1, and fewer than 2^31 elements", t.Shape)
		}
		n *= d
	}
	set, have := 0, 0
	for _, l := range []int{len(t.F32), len(t.I32), len(t.I64)} {
		if l > 0 {
			set, have = set+1, l
		}
	}
	if set != 1 || int64(have) != n || len(t.Shape) == 0 {
		return 0, fmt.Errorf("shape %v wants %d elements of one type; there are %d in %d slices", t.Shape, n, have, set)
	}
	return have, nil
}

// value wraps t for C, which keeps the address of its elements until the
// value is destroyed: they stay pinned that long.
func (t Tensor) value(pin *runtime.Pinner) (ort.Value, error) {
	if _, err := t.check(); err != nil {
		return nil, err
	}
	switch {
	case t.F32 != nil:
		pin.Pin(&t.F32[0])
		return newValue(t.Shape, t.F32)
	case t.I32 != nil:
		pin.Pin(&t.I32[0])
		return newValue(t.Shape, t.I32)
	default:
		pin.Pin(&t.I64[0])
		return newValue(t.Shape, t.I64)
	}
}

// newValue keeps a nil *ort.Tensor from becoming a non-nil ort.Value.
func newValue[T float32 | int32 | int64](shape []int64, data []T) (ort.Value, error) {
	v, err := ort.NewTensor(ort.Shape(shape), data)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// take copies what the runtime allocated. (onnxruntime_go has already copied
// it into a slice of its own, to which C keeps a pointer until v is
// destroyed; the slice itself survives that.)
func take(v ort.Value) (Tensor, error) {
	t := Tensor{Shape: v.GetShape()}
	switch v := v.(type) {
	case *ort.Tensor[float32]:
		t.F32 = v.GetData()
	case *ort.Tensor[int32]:
		t.I32 = v.GetData()
	case *ort.Tensor[int64]:
		t.I64 = v.GetData()
	default:
		return Tensor{}, fmt.Errorf("an output is a %T; FP32, INT32 and INT64 tensors are read", v)
	}
	return t, nil
}
