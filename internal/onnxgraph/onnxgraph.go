// Package onnxgraph writes small ONNX graphs: what a trainer in Go needs to
// hand its model over. It writes the protobuf of onnx.proto directly, so the
// same graph is always the same bytes.
//
// It checks what it can see (names, shapes against data) and knows nothing of
// operators: ONNX Runtime refuses a graph whose nodes do not fit. Non-goals:
// reading graphs, subgraphs, external data.
package onnxgraph

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Versions that a written model declares. ONNX Runtime 1.24 reads both.
const (
	IRVersion = 8
	Opset     = 17
)

// Type is an element type, with onnx.proto's TensorProto.DataType numbers.
type Type int32

// The element types.
const (
	Float   Type = 1
	Int32   Type = 6
	Int64   Type = 7
	Float16 Type = 10
)

// Value is a graph input or output. A dimension is a number (int) or the name
// of a free one (string).
type Value struct {
	Name string
	Type Type
	Dims []any
}

// Constant is an initializer. Data is []float32 (Float, or Float16, to which
// it is rounded), []int32 or []int64, of the shape's size.
type Constant struct {
	Name  string
	Type  Type
	Shape []int64
	Data  any
}

// Node is one operator. Attributes are int64, []int64 or float32.
type Node struct {
	Op              string
	Inputs, Outputs []string
	Attributes      []Attribute
}

// Attribute of a node.
type Attribute struct {
	Name  string
	Value any
}

// Model is a whole model.
type Model struct {
	Name, Producer  string
	Metadata        [][2]string // keys and values, in order
	Inputs, Outputs []Value
	Constants       []Constant
	Nodes           []Node // in topological order
}

// Encode writes the model as protobuf.
func (m Model) Encode() ([]byte, error) {
	g, err := m.graph()
	if err != nil {
		return nil, fmt.Errorf("write ONNX graph %s: %w", m.Name, err)
	}
	var b []byte
	b = number(b, 1, IRVersion)
	b = text(b, 2, m.Producer)
	b = message(b, 7, g)
	b = message(b, 8, number(nil, 2, Opset)) // the default domain has no name
	for _, kv := range m.Metadata {
		b = message(b, 14, text(text(nil, 1, kv[0]), 2, kv[1]))
	}
	return b, nil
}

func (m Model) graph() ([]byte, error) {
	known := map[string]bool{}
	define := func(name string) error {
		if name == "" || known[name] {
			return fmt.Errorf("the name %q is empty or defined twice", name)
		}
		known[name] = true
		return nil
	}
	for _, v := range m.Inputs {
		if err := define(v.Name); err != nil {
			return nil, err
		}
	}
	var b []byte
	for _, c := range m.Constants {
		if err := define(c.Name); err != nil {
			return nil, err
		}
	}
	for _, n := range m.Nodes {
		for _, in := range n.Inputs {
			if !known[in] {
				return nil, fmt.Errorf("%s reads %q, which nothing before it gives", n.Op, in)
			}
		}
		for _, out := range n.Outputs {
			if err := define(out); err != nil {
				return nil, err
			}
		}
		nb, err := n.encode()
		if err != nil {
			return nil, err
		}
		b = message(b, 1, nb)
	}
	b = text(b, 2, m.Name)
	for _, c := range m.Constants {
		cb, err := c.encode()
		if err != nil {
			return nil, err
		}
		b = message(b, 5, cb)
	}
	for _, v := range m.Inputs {
		vb, err := v.encode()
		if err != nil {
			return nil, err
		}
		b = message(b, 11, vb)
	}
	for _, v := range m.Outputs {
		if !known[v.Name] {
			return nil, fmt.Errorf("nothing gives the output %q", v.Name)
		}
		vb, err := v.encode()
		if err != nil {
			return nil, err
		}
		b = message(b, 12, vb)
	}
	return b, nil
}

func (n Node) encode() ([]byte, error) {
	var b []byte
	for _, in := range n.Inputs {
		b = text(b, 1, in)
	}
	for _, out := range n.Outputs {
		b = text(b, 2, out)
	}
	b = text(b, 4, n.Op)
	for _, a := range n.Attributes {
		ab := text(nil, 1, a.Name)
		switch v := a.Value.(type) {
		case float32:
			ab = protowire.AppendTag(ab, 2, protowire.Fixed32Type)
			ab = protowire.AppendFixed32(ab, math.Float32bits(v))
			ab = number(ab, 20, 1)
		case int64:
			ab = number(ab, 3, v)
			ab = number(ab, 20, 2)
		case []int64:
			for _, i := range v {
				ab = number(ab, 8, i)
			}
			ab = number(ab, 20, 7)
		default:
			return nil, fmt.Errorf("%s: attribute %s is a %T", n.Op, a.Name, a.Value)
		}
		b = message(b, 5, ab)
	}
	return b, nil
}

func (v Value) encode() ([]byte, error) {
	var shape []byte
	for _, d := range v.Dims {
		switch d := d.(type) {
		case int:
			shape = message(shape, 1, number(nil, 1, int64(d)))
		case string:
			shape = message(shape, 1, text(nil, 2, d))
		default:
			return nil, fmt.Errorf("%s: a dimension is a %T: want int or string", v.Name, d)
		}
	}
	tensor := message(number(nil, 1, int64(v.Type)), 2, shape)
	return message(text(nil, 1, v.Name), 2, message(nil, 1, tensor)), nil
}

func (c Constant) encode() ([]byte, error) {
	size := int64(1)
	var b []byte
	for _, d := range c.Shape {
		b = number(b, 1, d)
		size *= d
	}
	b = number(b, 2, int64(c.Type))
	b = text(b, 8, c.Name)
	var raw []byte
	n := 0
	switch data := c.Data.(type) {
	case []float32:
		n = len(data)
		for _, f := range data {
			switch c.Type {
			case Float:
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
			case Float16:
				raw = binary.LittleEndian.AppendUint16(raw, half(f))
			default:
				return nil, fmt.Errorf("constant %s: []float32 for type %d", c.Name, c.Type)
			}
		}
	case []int32:
		n = len(data)
		for _, i := range data {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(i))
		}
		if c.Type != Int32 {
			return nil, fmt.Errorf("constant %s: []int32 for type %d", c.Name, c.Type)
		}
	case []int64:
		n = len(data)
		for _, i := range data {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(i))
		}
		if c.Type != Int64 {
			return nil, fmt.Errorf("constant %s: []int64 for type %d", c.Name, c.Type)
		}
	default:
		return nil, fmt.Errorf("constant %s: data is a %T", c.Name, c.Data)
	}
	if int64(n) != size {
		return nil, fmt.Errorf("constant %s: %d elements for shape %v", c.Name, n, c.Shape)
	}
	return message(b, 9, raw), nil
}

// half rounds to the nearest IEEE 754 binary16, ties to even.
func half(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	exp, man := int(bits>>23&0xff)-127, bits&0x7fffff
	switch {
	case exp == 128 && man != 0:
		return sign | 0x7e00
	case exp > 15:
		return sign | 0x7c00
	case exp < -25:
		return sign
	case exp < -14: // subnormal
		return sign | uint16(even(man|0x800000, uint(-exp-1)))
	}
	return sign | uint16(even(uint32(exp+15)<<23|man, 13)) // a carry moves into the exponent, as it should
}

// even shifts v right by n, rounding to nearest, ties to even.
func even(v uint32, n uint) uint32 {
	q, rest, tie := v>>n, v&(1<<n-1), uint32(1)<<(n-1)
	if rest > tie || rest == tie && q&1 == 1 {
		q++
	}
	return q
}

func number(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

func text(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func message(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}
