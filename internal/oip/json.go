package oip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"aisle.dev/aisle/internal/onnx"
)

// document is a request's JSON. A tensor's data stays text until its shape
// and datatype are known, which may come behind it.
type document struct {
	ID         string     `json:"id"`
	Parameters parameters `json:"parameters"`
	Inputs     []struct {
		Name       string         `json:"name"`
		Datatype   string         `json:"datatype"`
		Shape      []int64        `json:"shape"`
		Parameters parameters     `json:"parameters"`
		Data       jsontext.Value `json:"data"`
	} `json:"inputs"`
	Outputs []struct {
		Name       string     `json:"name"`
		Parameters parameters `json:"parameters"`
	} `json:"outputs"`
}

type parameters map[string]jsontext.Value

func decodeDocument(data []byte) (document, error) {
	var d document
	err := jsonv2.Unmarshal(data, &d)
	if err == nil {
		return d, nil
	}
	if e, ok := errors.AsType[*jsonv2.SemanticError](err); ok {
		return d, refuse("the request's JSON has at %.80q a %s where none belongs", e.JSONPointer, kindName(e.JSONKind))
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return d, refuse("the request is not JSON from byte %d on, at %.80q: %.200s (NaN and infinity cannot be written in JSON; the binary extension takes them)", e.ByteOffset, e.JSONPointer, e.Err)
	}
	return d, refuse("the request is not JSON: %.200s", err)
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "bool"
	case '"':
		return "string"
	case '0':
		return "number" // also one that is no whole number, or too large
	case '[':
		return "list"
	}
	return "object"
}

// values are the parameters as a Request has them; null is no value.
func (p parameters) values() (map[string]any, error) {
	out := make(map[string]any, len(p))
	for k, v := range p {
		switch v.Kind() {
		case 'n':
		case 't', 'f':
			out[k] = v.Kind() == 't'
		case '"':
			s, err := jsontext.AppendUnquote(nil, v)
			if err != nil {
				return nil, refuse("parameter %.80q: %s", k, err)
			}
			out[k] = string(s)
		case '0':
			if i, err := strconv.ParseInt(string(v), 10, 64); err == nil {
				out[k] = i
			} else if u, err := strconv.ParseUint(string(v), 10, 64); err == nil {
				out[k] = u
			} else if f, err := strconv.ParseFloat(string(v), 64); err == nil {
				out[k] = f
			} else {
				return nil, refuse("parameter %.80q is %.40s, which is too large", k, v)
			}
		default:
			return nil, refuse("parameter %.80q is a %s; want a bool, a number or a string", k, kindName(v.Kind()))
		}
	}
	return out, nil
}

// fromJSON reads a tensor's data, flat or nested as its shape says.
func fromJSON(datatype string, shape []int64, data jsontext.Value) (onnx.Tensor, error) {
	t := onnx.Tensor{Datatype: datatype, Shape: shape}
	n, err := count(shape)
	if err != nil {
		return t, err
	}
	if n > len(data)/2 { // an element takes a character and a separator
		return t, fmt.Errorf("its shape %v wants %d elements, and its data has fewer", shape, n)
	}
	switch datatype {
	case onnx.FP32:
		t.F32 = make([]float32, 0, n)
		err = elements(data, shape, n, func(s []byte) error {
			v, err := parseFloat32(s)
			t.F32 = append(t.F32, v)
			return err
		})
	case onnx.FP64:
		t.Raw = make([]byte, 0, 8*n)
		err = elements(data, shape, n, func(s []byte) error {
			v, err := strconv.ParseFloat(string(s), 64)
			t.Raw = binary.LittleEndian.AppendUint64(t.Raw, math.Float64bits(v))
			return err
		})
	case onnx.INT32:
		t.I32 = make([]int32, 0, n)
		err = elements(data, shape, n, func(s []byte) error {
			v, err := strconv.ParseInt(string(s), 10, 32)
			t.I32 = append(t.I32, int32(v))
			return err
		})
	case onnx.INT64:
		t.I64 = make([]int64, 0, n)
		err = elements(data, shape, n, func(s []byte) error {
			v, err := strconv.ParseInt(string(s), 10, 64)
			t.I64 = append(t.I64, v)
			return err
		})
	case onnx.INT8, onnx.INT16:
		size := onnx.Size(datatype)
		t.Raw = make([]byte, 0, size*n)
		err = elements(data, shape, n, func(s []byte) error {
			v, err := strconv.ParseInt(string(s), 10, 8*size)
			t.Raw = appendInteger(t.Raw, uint64(v), size)
			return err
		})
	case onnx.UINT8, onnx.UINT16, onnx.UINT32, onnx.UINT64:
		size := onnx.Size(datatype)
		t.Raw = make([]byte, 0, size*n)
		err = elements(data, shape, n, func(s []byte) error {
			v, err := strconv.ParseUint(string(s), 10, 8*size)
			t.Raw = appendInteger(t.Raw, v, size)
			return err
		})
	case onnx.BOOL:
		t.Raw = make([]byte, 0, n)
		err = elements(data, shape, n, func(s []byte) error {
			switch string(s) {
			case "true":
				t.Raw = append(t.Raw, 1)
			case "false":
				t.Raw = append(t.Raw, 0)
			default:
				return errors.New("want true or false")
			}
			return nil
		})
	case onnx.BYTES:
		t.Strings = make([]string, 0, n)
		err = elements(data, shape, n, func(s []byte) error {
			if s[0] != '"' {
				return errors.New("want a string")
			}
			v, err := jsontext.AppendUnquote(nil, s)
			t.Strings = append(t.Strings, string(v))
			return err
		})
	case onnx.FP16, onnx.BF16:
		return t, fmt.Errorf("its datatype %s cannot be sent as JSON: send it in the binary extension, with binary_data_size", datatype)
	default:
		return t, fmt.Errorf("its datatype %.20q is not one of the protocol's", datatype)
	}
	return t, err
}

// powers are the powers of ten that a float64 holds exactly.
var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// parseFloat32 is strconv.ParseFloat(s, 32). Most numbers are digits with a
// point, and need one division of two numbers that a float64 holds exactly:
// its quotient is rounded once to a float64 and again to a float32, which is
// the same as once unless the float64 lies halfway between two float32s. A
// picture's tensor is read in two thirds of the time.
func parseFloat32(s []byte) (float32, error) {
	var digits uint64
	fraction, point, negative := 0, false, s[0] == '-'
	for i, c := range s {
		switch {
		case '0' <= c && c <= '9':
			if digits = 10*digits + uint64(c-'0'); point {
				fraction++
			}
			if digits < 1<<53 && fraction < len(powers) {
				continue
			}
		case c == '.' && !point && i > 0:
			point = true
			continue
		case c == '-' && i == 0:
			continue
		}
		v, err := strconv.ParseFloat(string(s), 32)
		return float32(v), err
	}
	v := float64(digits) / powers[fraction]
	const below = 1<<29 - 1 // the bits of a float64 that a float32 has not
	if math.Float64bits(v)&below == 1<<28 {
		v, err := strconv.ParseFloat(string(s), 32)
		return float32(v), err
	}
	if negative {
		v = -v
	}
	return float32(v), nil
}

// appendInteger appends the low bytes of v, the lowest first.
func appendInteger(b []byte, v uint64, size int) []byte {
	for range size {
		b = append(b, byte(v))
		v >>= 8
	}
	return b
}

// elements gives add each element of data, which is valid JSON, in row-major
// order. The elements are nested as the shape says, or in one flat list of n.
func elements(data jsontext.Value, shape []int64, n int, add func([]byte) error) error {
	if data.Kind() != '[' {
		return errors.New("its data is not a list")
	}
	dims := []int64{int64(n)}
	if nested(data) {
		dims = shape
	}
	var seen [maxRank + 1]int64 // of each list that is open, the outermost at 1
	depth, at := 0, 0
	for i := 0; i < len(data); {
		switch c := data[i]; c {
		case ' ', '\t', '\r', '\n', ',':
			i++
		case '[':
			if depth == len(dims) || depth > 0 && seen[depth] == dims[depth-1] {
				return disagree(shape)
			}
			seen[depth]++
			depth++
			seen[depth] = 0
			i++
		case ']':
			if seen[depth] != dims[depth-1] {
				return disagree(shape)
			}
			depth--
			i++
		default:
			if depth != len(dims) || seen[depth] == dims[depth-1] {
				return disagree(shape)
			}
			end := i + tokenLength(data[i:])
			if err := add(data[i:end]); err != nil {
				if e, ok := errors.AsType[*strconv.NumError](err); ok {
					err = e.Err
				}
				return fmt.Errorf("its element %d is %.40s: %w", at, data[i:end], err)
			}
			seen[depth]++
			at++
			i = end
		}
	}
	return nil
}

func disagree(shape []int64) error {
	return fmt.Errorf("its data does not have the shape %v: want as many elements, in one flat list or nested as the shape says", shape)
}

// nested reports whether the list's first element is a list.
func nested(data jsontext.Value) bool {
	for _, c := range data[1:] {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c == '['
		}
	}
	return false
}

// tokenLength is the length of the string, number, name or object that valid
// JSON begins with.
func tokenLength(s []byte) int {
	if s[0] == '"' {
		for i := 1; ; i++ {
			switch s[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
	}
	for i, c := range s {
		switch c {
		case ',', ']', ' ', '\t', '\r', '\n':
			return i
		}
	}
	return len(s)
}

// appendJSON appends a tensor's elements as a flat list.
func appendJSON(b []byte, t onnx.Tensor) ([]byte, error) {
	datatype := t.Type()
	b = append(b, '[')
	start := len(b)
	var err error
	next := func() {
		if len(b) > start {
			b = append(b, ',')
		}
	}
	float := func(v float64, bits, at int) {
		next()
		if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
			err = fmt.Errorf("its element %d is %v, which JSON cannot write", at, v)
			return
		}
		b = strconv.AppendFloat(b, v, 'g', -1, bits)
	}
	switch datatype {
	case onnx.FP32:
		for i, v := range t.F32 {
			float(float64(v), 32, i)
		}
		for i := 0; i+4 <= len(t.Raw); i += 4 {
			float(float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Raw[i:]))), 32, i/4)
		}
	case onnx.FP64:
		for i := 0; i+8 <= len(t.Raw); i += 8 {
			float(math.Float64frombits(binary.LittleEndian.Uint64(t.Raw[i:])), 64, i/8)
		}
	case onnx.BYTES:
		for i, s := range t.Strings {
			next()
			if !utf8.ValidString(s) {
				err = fmt.Errorf("its element %d is not UTF-8, which JSON cannot write", i)
				break
			}
			b, _ = jsontext.AppendQuote(b, s) // its only error is about UTF-8
		}
	case onnx.FP16, onnx.BF16:
		err = fmt.Errorf("its datatype %s cannot be written as JSON", datatype)
	case onnx.BOOL:
		for _, v := range t.Raw {
			next()
			b = strconv.AppendBool(b, v != 0)
		}
	default:
		for _, v := range t.I32 {
			next()
			b = strconv.AppendInt(b, int64(v), 10)
		}
		for _, v := range t.I64 {
			next()
			b = strconv.AppendInt(b, v, 10)
		}
		if len(t.Raw) > 0 {
			size := onnx.Size(datatype)
			shift := 64 - 8*size
			for raw := range slices.Chunk(t.Raw, size) {
				next()
				var word [8]byte
				copy(word[:], raw)
				v := binary.LittleEndian.Uint64(word[:])
				if strings.HasPrefix(datatype, "U") {
					b = strconv.AppendUint(b, v, 10)
				} else {
					b = strconv.AppendInt(b, int64(v<<shift)>>shift, 10)
				}
			}
		}
	}
	return append(b, ']'), err
}
