package onnx

import (
	"fmt"
	"math"
)

// Datatypes of [Tensor], by their names in the Open Inference Protocol.
const (
	BOOL   = "BOOL"
	UINT8  = "UINT8"
	UINT16 = "UINT16"
	UINT32 = "UINT32"
	UINT64 = "UINT64"
	INT8   = "INT8"
	INT16  = "INT16"
	INT32  = "INT32"
	INT64  = "INT64"
	FP16   = "FP16"
	BF16   = "BF16"
	FP32   = "FP32"
	FP64   = "FP64"
	BYTES  = "BYTES" // strings
)

// Tensor is a dense tensor, row-major. Exactly one of its slices is set; its
// memory belongs to the caller. A tensor without dimensions is a scalar.
type Tensor struct {
	Datatype string // may be empty with F32 (FP32), I32 (INT32), I64 (INT64) and Strings (BYTES)
	Shape    []int64
	F32      []float32
	I32      []int32
	I64      []int64
	Strings  []string
	Raw      []byte // little-endian elements of Datatype, any but BYTES; a BOOL is one byte, 0 or 1
}

// Type is the tensor's datatype, also where that is implied; empty if there is
// none.
func (t Tensor) Type() string {
	switch {
	case t.Datatype != "":
		return t.Datatype
	case t.F32 != nil:
		return FP32
	case t.I32 != nil:
		return INT32
	case t.I64 != nil:
		return INT64
	case t.Strings != nil:
		return BYTES
	}
	return ""
}

// Size is the number of bytes of an element in [Tensor.Raw]: 0 for BYTES, and
// for what is no datatype.
func Size(datatype string) int {
	return elements[datatype].size
}

// isZero reports whether t is the zero Tensor.
func (t Tensor) isZero() bool {
	return t.Type() == "" && t.Shape == nil && t.Raw == nil
}

// check returns the tensor's number of elements.
func (t Tensor) check() (int, error) {
	n, empty := int64(1), false
	for _, d := range t.Shape {
		if d < 0 || d > math.MaxInt32 {
			return 0, fmt.Errorf("shape %v: want dimensions of at least 0, and fewer than 2^31 elements", t.Shape)
		}
		if d == 0 {
			empty = true
			continue
		}
		if n > math.MaxInt32/d {
			return 0, fmt.Errorf("shape %v: want dimensions of at least 0, and fewer than 2^31 elements", t.Shape)
		}
		n *= d
	}
	if empty {
		n = 0
	}
	datatype := t.Type()
	e, known := elements[datatype]
	if !known {
		return 0, fmt.Errorf("shape %v: %q is no datatype (want elements of one type, as the Open Inference Protocol names them)", t.Shape, datatype)
	}
	set, have, of := 0, int64(0), datatype
	for _, s := range []struct {
		of  string
		len int
		set bool
	}{
		{FP32, len(t.F32), t.F32 != nil},
		{INT32, len(t.I32), t.I32 != nil},
		{INT64, len(t.I64), t.I64 != nil},
		{BYTES, len(t.Strings), t.Strings != nil},
	} {
		if s.set {
			set, have, of = set+1, int64(s.len), s.of
		}
	}
	if t.Raw != nil {
		set++
		if e.size == 0 || len(t.Raw)%e.size != 0 {
			return 0, fmt.Errorf("shape %v: %d raw bytes are no elements of %s", t.Shape, len(t.Raw), datatype)
		}
		have = int64(len(t.Raw) / e.size)
	}
	if set > 1 || have != n || of != datatype {
		return 0, fmt.Errorf("shape %v wants %d elements of one type, %s; there are %d of %s in %d slices", t.Shape, n, datatype, have, of, set)
	}
	return int(n), nil
}
