package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"

	"github.com/x448/float16"
	ort "github.com/yalue/onnxruntime_go"
)

// element is a datatype as ONNX, the runtime and Go have it.
type element struct {
	onnx int64                     // TensorProto.DataType
	ort  ort.TensorElementDataType // of a tensor over raw bytes
	size int                       // bytes; 0 for strings
	// scalar wraps one element, and raw reads a value of the type back; nil
	// where onnxruntime_go has no Go type for it.
	scalar func(raw []byte) (ort.Value, error)
	raw    func(ort.Value) (raw []byte, ok bool)
}

// elements are the datatypes by name. Nothing writes it.
var elements = map[string]element{
	FP32:   typed[float32](1, ort.TensorElementDataTypeFloat, 4),
	UINT8:  typed[uint8](2, ort.TensorElementDataTypeUint8, 1),
	INT8:   typed[int8](3, ort.TensorElementDataTypeInt8, 1),
	UINT16: typed[uint16](4, ort.TensorElementDataTypeUint16, 2),
	INT16:  typed[int16](5, ort.TensorElementDataTypeInt16, 2),
	INT32:  typed[int32](6, ort.TensorElementDataTypeInt32, 4),
	INT64:  typed[int64](7, ort.TensorElementDataTypeInt64, 8),
	BYTES:  {onnx: 8, ort: ort.TensorElementDataTypeString},
	BOOL:   typed[bool](9, ort.TensorElementDataTypeBool, 1),
	FP16:   {onnx: 10, ort: ort.TensorElementDataTypeFloat16, size: 2},
	FP64:   typed[float64](11, ort.TensorElementDataTypeDouble, 8),
	UINT32: typed[uint32](12, ort.TensorElementDataTypeUint32, 4),
	UINT64: typed[uint64](13, ort.TensorElementDataTypeUint64, 8),
	BF16:   {onnx: 16, ort: ort.TensorElementDataTypeBFloat16, size: 2},
}

func typed[T ort.TensorData](onnx int64, of ort.TensorElementDataType, size int) element {
	return element{onnx, of, size,
		func(raw []byte) (ort.Value, error) {
			var x T
			if _, err := binary.Decode(raw, binary.LittleEndian, &x); err != nil {
				return nil, err
			}
			v, err := ort.NewScalar(x)
			if err != nil {
				return nil, err // and not a nil pointer in v
			}
			return v, nil
		},
		func(v ort.Value) ([]byte, bool) {
			var of any
			switch v := v.(type) {
			case *ort.Tensor[T]:
				of = v.GetData()
			case *ort.Scalar[T]:
				of = v.GetData()
			default:
				return nil, false
			}
			raw, err := binary.Append([]byte{}, binary.LittleEndian, of)
			return raw, err == nil
		},
	}
}

// datatypeOf names the datatype of onnx.proto's number; empty for those that
// the Open Inference Protocol has no name for.
func datatypeOf(onnx int64) string {
	for name, e := range elements {
		if e.onnx == onnx {
			return name
		}
	}
	return ""
}

// value wraps t for C, which keeps the address of its elements until the
// value is destroyed: they stay pinned that long. (A scalar, and strings, are
// copied.)
func (t Tensor) value(pin *runtime.Pinner) (ort.Value, error) {
	n, err := t.check()
	if err != nil {
		return nil, err
	}
	datatype := t.Type()
	e := elements[datatype]
	switch {
	case len(t.Shape) == 0 && e.scalar == nil:
		return nil, fmt.Errorf("a scalar of %s cannot be given to the runtime: give it a shape of [1], or export the graph with another type", datatype)
	case len(t.Shape) == 0:
		return e.scalar(t.littleEndian())
	case datatype == BYTES:
		return t.strings()
	case n > 0 && t.F32 != nil:
		pin.Pin(&t.F32[0])
		return newValue(t.Shape, t.F32)
	case n > 0 && t.I32 != nil:
		pin.Pin(&t.I32[0])
		return newValue(t.Shape, t.I32)
	case n > 0 && t.I64 != nil:
		pin.Pin(&t.I64[0])
		return newValue(t.Shape, t.I64)
	}
	raw := t.Raw
	if n == 0 {
		raw = make([]byte, 1) // onnxruntime_go wants an address, also of nothing
	}
	if datatype == BOOL {
		for _, b := range raw {
			if b > 1 {
				return nil, fmt.Errorf("a BOOL is the byte %d: want 0 or 1", b)
			}
		}
	}
	pin.Pin(&raw[0])
	v, err := ort.NewCustomDataTensor(ort.Shape(t.Shape), raw, e.ort)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// newValue keeps a nil *ort.Tensor from becoming a non-nil ort.Value.
func newValue[T float32 | int32 | int64](shape []int64, data []T) (ort.Value, error) {
	v, err := ort.NewTensor(ort.Shape(shape), data)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (t Tensor) strings() (ort.Value, error) {
	for i, s := range t.Strings {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, fmt.Errorf("string %d holds a zero byte, which ends a string in ONNX Runtime's interface", i)
		}
	}
	v, err := ort.NewStringTensor(ort.Shape(t.Shape))
	if err != nil {
		return nil, err
	}
	if err := v.SetContents(t.Strings); err != nil {
		_ = v.Destroy()
		return nil, err
	}
	return v, nil
}

// littleEndian gives the elements of any tensor but strings as Raw does.
func (t Tensor) littleEndian() []byte {
	var of any
	switch {
	case t.F32 != nil:
		of = t.F32
	case t.I32 != nil:
		of = t.I32
	case t.I64 != nil:
		of = t.I64
	default:
		return t.Raw
	}
	raw, _ := binary.Append([]byte{}, binary.LittleEndian, of) // cannot fail for these
	return raw
}

// take copies what the runtime allocated for a port. (onnxruntime_go has
// already copied it into a slice of its own, to which C keeps a pointer until
// v is destroyed; the slice itself survives that.)
func take(v ort.Value, p Port) (Tensor, error) {
	t := Tensor{Shape: append([]int64{}, v.GetShape()...)}
	switch v := v.(type) {
	case *ort.StringTensor:
		if len(t.Shape) == 0 { // of which GetContents makes no elements
			s, err := v.GetElement(0)
			t.Strings = []string{s}
			return t, err
		}
		var err error
		t.Strings, err = v.GetContents()
		return t, err
	case *ort.Tensor[float32]:
		t.F32 = v.GetData()
		return t.narrow(p.Datatype), nil
	case *ort.Scalar[float32]:
		t.F32 = []float32{v.GetData()}
		return t.narrow(p.Datatype), nil
	case *ort.Tensor[int32]:
		t.I32 = v.GetData()
		return t, nil
	case *ort.Tensor[int64]:
		t.I64 = v.GetData()
		return t, nil
	}
	for name, e := range elements {
		if e.raw == nil {
			continue
		}
		if raw, ok := e.raw(v); ok {
			t.Datatype, t.Raw = name, raw
			return t, nil
		}
	}
	return Tensor{}, fmt.Errorf("it is a %T, which is no tensor of a known type", v)
}

// narrow undoes the widening of FP16 and BF16, and leaves what else there is.
func (t Tensor) narrow(datatype string) Tensor {
	if datatype != FP16 && datatype != BF16 {
		return t
	}
	raw := make([]byte, 0, 2*len(t.F32))
	for _, f := range t.F32 {
		if datatype == FP16 {
			raw = binary.LittleEndian.AppendUint16(raw, float16.Fromfloat32(f).Bits())
			continue
		}
		raw = binary.LittleEndian.AppendUint16(raw, bfloat16(f))
	}
	return Tensor{Datatype: datatype, Shape: t.Shape, Raw: raw}
}

// bfloat16 is the upper half of f, rounded to nearest, ties to even.
func bfloat16(f float32) uint16 {
	bits := math.Float32bits(f)
	if f != f {
		return uint16(bits>>16) | 0x40 // stays a NaN
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// destroy frees v. A failed run leaves nil pointers in values.
func destroy(v ort.Value) {
	if v == nil || reflect.ValueOf(v).IsNil() {
		return
	}
	_ = v.Destroy() // cannot fail for tensors and scalars
}
