package oip

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"slices"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
)

// maxRank bounds a shape: ONNX graphs stay far below it.
const maxRank = 32

// count returns how many elements the shape has. Each of its dimensions, and
// their product, is less than 2^31.
func count(shape []int64) (int, error) {
	if len(shape) > maxRank {
		return 0, fmt.Errorf("its shape has %d dimensions; want at most %d", len(shape), maxRank)
	}
	n := int64(1)
	for _, d := range shape {
		if d < 0 || d > math.MaxInt32 {
			return 0, fmt.Errorf("its shape is %v; want dimensions from 0 to 2^31-1", shape)
		}
		if d > 0 && n > math.MaxInt32/d { // also where another dimension is 0
			return 0, fmt.Errorf("its shape is %v; want fewer than 2^31 elements", shape)
		}
		n *= max(d, 1)
	}
	if slices.Contains(shape, 0) {
		return 0, nil
	}
	return int(n), nil
}

// known reports whether the protocol has the datatype.
func known(datatype string) bool { return datatype == onnx.BYTES || onnx.Size(datatype) > 0 }

// fromBinary reads a tensor of the binary extension: little-endian elements,
// or strings behind their length in four bytes. The tensor shares no memory
// with data, which may begin at an odd address; a copy takes some 10 µs for
// 100 KB, and gives the message free.
func fromBinary(datatype string, shape []int64, data []byte) (onnx.Tensor, error) {
	t := onnx.Tensor{Datatype: datatype, Shape: shape}
	n, err := count(shape)
	if err != nil {
		return t, err
	}
	if datatype == onnx.BYTES {
		t.Strings, err = stringsOf(data, n)
		return t, err
	}
	size := onnx.Size(datatype)
	if size == 0 {
		return t, fmt.Errorf("its datatype %.20q is not one of the protocol's", datatype)
	}
	if len(data) != n*size {
		return t, fmt.Errorf("its shape %v of %s wants %d bytes; there are %d", shape, datatype, n*size, len(data))
	}
	switch datatype {
	case onnx.FP32:
		t.F32 = make([]float32, n)
		for i := range t.F32 {
			t.F32[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case onnx.INT32:
		t.I32 = make([]int32, n)
		for i := range t.I32 {
			t.I32[i] = int32(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case onnx.INT64:
		t.I64 = make([]int64, n)
		for i := range t.I64 {
			t.I64[i] = int64(binary.LittleEndian.Uint64(data[8*i:]))
		}
	case onnx.BOOL:
		if i := slices.IndexFunc(data, func(b byte) bool { return b > 1 }); i >= 0 {
			return t, fmt.Errorf("its byte %d is %d; a BOOL is 0 or 1", i, data[i])
		}
		fallthrough
	default:
		t.Raw = make([]byte, len(data)) // not nil, also where there is nothing
		copy(t.Raw, data)
	}
	return t, nil
}

// stringsOf reads n strings, each behind its length.
func stringsOf(data []byte, n int) ([]string, error) {
	if n > len(data)/4 {
		return nil, fmt.Errorf("its %d BYTES elements want 4 bytes of length each; there are %d bytes in all", n, len(data))
	}
	out := make([]string, n)
	for i := range out {
		if len(data) < 4 {
			return nil, fmt.Errorf("its data ends before element %d of %d", i, n)
		}
		l := binary.LittleEndian.Uint32(data)
		if uint64(l) > uint64(len(data)-4) {
			return nil, fmt.Errorf("its element %d says that it has %d bytes; %d are left", i, l, len(data)-4)
		}
		out[i] = string(data[4 : 4+l])
		data = data[4+l:]
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%d bytes are left behind its %d elements", len(data), n)
	}
	return out, nil
}

// appendBinary is fromBinary's other way.
func appendBinary(b []byte, t onnx.Tensor) []byte {
	switch {
	case t.F32 != nil:
		b = slices.Grow(b, 4*len(t.F32))
		for _, v := range t.F32 {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	case t.I32 != nil:
		b = slices.Grow(b, 4*len(t.I32))
		for _, v := range t.I32 {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
	case t.I64 != nil:
		b = slices.Grow(b, 8*len(t.I64))
		for _, v := range t.I64 {
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		}
	case t.Strings != nil:
		for _, s := range t.Strings {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
			b = append(b, s...)
		}
	default:
		b = append(b, t.Raw...)
	}
	return b
}

// binarySize is how many bytes appendBinary appends.
func binarySize(t onnx.Tensor) int {
	if t.Strings == nil {
		return 4*len(t.F32) + 4*len(t.I32) + 8*len(t.I64) + len(t.Raw)
	}
	n := 4 * len(t.Strings)
	for _, s := range t.Strings {
		n += len(s)
	}
	return n
}

// input is one tensor as it came.
type input struct {
	name   string
	tensor onnx.Tensor // of the datatype and shape that the request says
}

// arrange puts the inputs into the declared order, and checks each against
// its declaration.
func arrange(inputs []input, declared []Port) ([]onnx.Tensor, error) {
	out := make([]onnx.Tensor, len(declared))
	given := make([]bool, len(declared))
	for _, in := range inputs {
		i := slices.IndexFunc(declared, func(p Port) bool { return p.Name == in.name })
		if i < 0 {
			return nil, refuse("input %.80q is none of this model's: it takes %s", in.name, list(declared))
		}
		if given[i] {
			return nil, refuse("input %q is given twice", in.name)
		}
		p, t := declared[i], in.tensor
		if t.Datatype != p.Datatype {
			return nil, refuse("input %q is of %.20q; the model takes %s", in.name, t.Datatype, p.Datatype)
		}
		if !fits(t.Shape, p.Shape) {
			return nil, refuse("input %q has the shape %v; the model takes %v, where -1 stands for any number", in.name, t.Shape, p.Shape)
		}
		out[i], given[i] = t, true
	}
	if i := slices.Index(given, false); i >= 0 {
		return nil, refuse("input %q is missing: the model takes %s", declared[i].Name, list(declared))
	}
	return out, nil
}

func fits(shape, declared []int64) bool {
	return slices.EqualFunc(shape, declared, func(d, want int64) bool { return want < 0 || d == want })
}

// list names the ports, the first few of them.
func list(ports []Port) string {
	const most = 16
	b := []byte{}
	for i, p := range ports {
		if i == most {
			return fmt.Sprintf("%s and %d more", b, len(ports)-most)
		}
		if i > 0 {
			b = append(b, ", "...)
		}
		b = fmt.Appendf(b, "%s %s%v", p.Name, p.Datatype, p.Shape)
	}
	return string(b)
}

// refuse is a 400: the request is at fault.
func refuse(format string, args ...any) error {
	return problem.New(http.StatusBadRequest, format, args...)
}
