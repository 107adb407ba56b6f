// Package onnxtest writes small ONNX graphs for tests, with real operators
// and real weights, so that tests need neither Python nor a trained model.
//
// Non-goal: anything that a test does not need; it is no exporter.
package onnxtest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Element types of ONNX's TensorProto.
const (
	Float    = 1
	Uint8    = 2
	Int8     = 3
	Uint16   = 4
	Int16    = 5
	Int32    = 6
	Int64    = 7
	String   = 8
	Bool     = 9
	Float16  = 10
	Double   = 11
	Uint32   = 12
	Uint64   = 13
	BFloat16 = 16
)

// Graph is an ONNX graph under construction. Its methods add to it; Model
// gives the file's bytes.
type Graph struct {
	// Opset and IRVersion are the model's versions; 0 means 17 and 8.
	Opset, IRVersion int64

	nodes, inits, inputs, outputs [][]byte
}

// Input declares an input. A dimension of -1 varies.
func (g *Graph) Input(name string, elem int, shape ...int64) {
	g.inputs = append(g.inputs, value(name, elem, shape))
}

// External adds a constant tensor of FP32 whose data is in another file.
func (g *Graph) External(name, file string, offset, length int64, shape ...int64) {
	var b []byte
	for _, d := range shape {
		b = number(b, 1, d)
	}
	b = text(number(b, 2, Float), 8, name)
	for _, kv := range [][2]string{{"location", file}, {"offset", fmt.Sprint(offset)}, {"length", fmt.Sprint(length)}} {
		b = bytesField(b, 13, text(text(nil, 1, kv[0]), 2, kv[1]))
	}
	g.inits = append(g.inits, number(b, 14, 1))
}

// Maps declares an output of one map a row, from keys of a type to FP32.
func (g *Graph) Maps(name string, key int) {
	float := bytesField(nil, 1, number(nil, 1, Float))
	rows := bytesField(nil, 1, bytesField(nil, 5, bytesField(number(nil, 1, int64(key)), 2, float)))
	g.outputs = append(g.outputs, bytesField(text(nil, 1, name), 2, bytesField(nil, 4, rows)))
}

// Output declares an output.
func (g *Graph) Output(name string, elem int, shape ...int64) {
	g.outputs = append(g.outputs, value(name, elem, shape))
}

// Floats adds a constant tensor.
func (g *Graph) Floats(name string, data []float32, shape ...int64) {
	raw := make([]byte, 0, 4*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	g.init(name, Float, raw, shape)
}

// Ints adds a constant tensor of INT64.
func (g *Graph) Ints(name string, data []int64, shape ...int64) {
	raw := make([]byte, 0, 8*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	g.init(name, Int64, raw, shape)
}

func (g *Graph) init(name string, elem int, raw []byte, shape []int64) {
	var b []byte
	for _, d := range shape {
		b = number(b, 1, d)
	}
	b = number(b, 2, int64(elem))
	b = text(b, 8, name)
	g.inits = append(g.inits, bytesField(b, 9, raw))
}

// Node adds an operator, of ONNX's or, if it is a ZipMap, of its ML domain.
// Attributes are int64, []int64 or []string.
func (g *Graph) Node(op string, inputs, outputs []string, attrs map[string]any) {
	var b []byte
	for _, s := range inputs {
		b = text(b, 1, s)
	}
	for _, s := range outputs {
		b = text(b, 2, s)
	}
	b = text(b, 3, fmt.Sprintf("%s_%d", op, len(g.nodes)))
	b = text(b, 4, op)
	if op == "ZipMap" {
		b = text(b, 7, ml)
	}
	for name, v := range attrs {
		a := text(nil, 1, name)
		switch v := v.(type) {
		case int64:
			a = number(number(a, 3, v), 20, 2)
		case []int64:
			for _, n := range v {
				a = number(a, 8, n)
			}
			a = number(a, 20, 7)
		case []string:
			for _, s := range v {
				a = text(a, 9, s)
			}
			a = number(a, 20, 8)
		default:
			panic(fmt.Sprintf("attribute %s is a %T", name, v))
		}
		b = bytesField(b, 5, a)
	}
	g.nodes = append(g.nodes, b)
}

const ml = "ai.onnx.ml"

// Model is the graph as an ONNX file.
func (g *Graph) Model() []byte {
	var graph []byte
	for _, n := range g.nodes {
		graph = bytesField(graph, 1, n)
	}
	graph = text(graph, 2, "test")
	for _, n := range g.inits {
		graph = bytesField(graph, 5, n)
	}
	for _, n := range g.inputs {
		graph = bytesField(graph, 11, n)
	}
	for _, n := range g.outputs {
		graph = bytesField(graph, 12, n)
	}
	b := number(nil, 1, cmp.Or(g.IRVersion, 8))
	b = bytesField(b, 7, graph)
	b = bytesField(b, 8, number(text(nil, 1, ml), 2, 1))
	return bytesField(b, 8, number(nil, 2, cmp.Or(g.Opset, 17)))
}

// Same is a graph of one input x and one output y that is equal to it.
func Same(elem int, shape ...int64) []byte {
	var g Graph
	g.Input("x", elem, shape...)
	g.Output("y", elem, shape...)
	g.Node("Identity", []string{"x"}, []string{"y"}, nil)
	return g.Model()
}

// ZipMap is a classifier's graph as skl2onnx ends it: input x [batch,
// len(keys)], output label (the column of the largest) and output probability
// (a map a row). Keys are []int64 or []string.
func ZipMap(keys any) []byte {
	var g Graph
	name, n, key := "classlabels_int64s", 0, Int64
	switch keys := keys.(type) {
	case []int64:
		n = len(keys)
	case []string:
		name, n, key = "classlabels_strings", len(keys), String
	}
	g.Input("x", Float, -1, int64(n))
	g.Output("label", Int64, -1)
	g.Maps("probability", key)
	g.Node("ArgMax", []string{"x"}, []string{"label"}, map[string]any{"axis": int64(1), "keepdims": int64(0)})
	g.Node("Softmax", []string{"x"}, []string{"probabilities"}, nil)
	g.Node("ZipMap", []string{"probabilities"}, []string{"probability"}, map[string]any{name: keys})
	return g.Model()
}

// Linear is a graph of one FP32 input x [batch, rows(w)] and one output y
// [batch, columns(w)]: y = x·w.
func Linear(w [][]float32) []byte {
	var g Graph
	rows, cols := int64(len(w)), int64(len(w[0]))
	g.Input("x", Float, -1, rows)
	g.Output("y", Float, -1, cols)
	g.Floats("w", flat(w), rows, cols)
	g.Node("MatMul", []string{"x", "w"}, []string{"y"}, nil)
	return g.Model()
}

// Deep is [Linear] with the same square matrix applied depth times: a graph
// that takes as long as a test wants, in many nodes.
func Deep(size, depth int) []byte {
	var g Graph
	g.Input("x", Float, -1, int64(size))
	g.Output("y", Float, -1, int64(size))
	g.Floats("w", make([]float32, size*size), int64(size), int64(size))
	from := "x"
	for i := range depth {
		to := fmt.Sprintf("h%d", i)
		if i == depth-1 {
			to = "y"
		}
		g.Node("MatMul", []string{from, "w"}, []string{to}, nil)
		from = to
	}
	return g.Model()
}

// Bag is a text classifier's graph: inputs ids [batch, n] (of type elem) and
// weights [batch, n], output logits [batch, columns(table)]: the weighted sum
// of the table's rows that ids name.
func Bag(table [][]float32, elem int) []byte {
	var g Graph
	rows, cols := int64(len(table)), int64(len(table[0]))
	g.Input("ids", elem, -1, -1)
	g.Input("weights", Float, -1, -1)
	g.Output("logits", Float, -1, cols)
	g.Floats("table", flat(table), rows, cols)
	g.Ints("two", []int64{2}, 1)
	g.Ints("one", []int64{1}, 1)
	g.Node("Gather", []string{"table", "ids"}, []string{"rows"}, map[string]any{"axis": int64(0)})
	g.Node("Unsqueeze", []string{"weights", "two"}, []string{"w"}, nil)
	g.Node("Mul", []string{"rows", "w"}, []string{"weighted"}, nil)
	g.Node("ReduceSum", []string{"weighted", "one"}, []string{"logits"}, map[string]any{"keepdims": int64(0)})
	return g.Model()
}

// Colour is a picture classifier's graph: input image [batch, 3, h, w],
// output logits [batch, columns(w)]: the mean of each channel, times w.
func Colour(w [][]float32) []byte {
	var g Graph
	cols := int64(len(w[0]))
	g.Input("image", Float, -1, 3, -1, -1)
	g.Output("logits", Float, -1, cols)
	g.Floats("w", flat(w), 3, cols)
	g.Node("GlobalAveragePool", []string{"image"}, []string{"mean"}, nil)
	g.Node("Flatten", []string{"mean"}, []string{"flat"}, map[string]any{"axis": int64(1)})
	g.Node("MatMul", []string{"flat", "w"}, []string{"logits"}, nil)
	return g.Model()
}

func flat(m [][]float32) []float32 {
	var f []float32
	for _, row := range m {
		f = append(f, row...)
	}
	return f
}

func value(name string, elem int, shape []int64) []byte {
	var dims []byte
	for i, d := range shape {
		if d < 0 {
			dims = bytesField(dims, 1, text(nil, 2, fmt.Sprintf("%s_%d", name, i)))
		} else {
			dims = bytesField(dims, 1, number(nil, 1, d))
		}
	}
	tensor := bytesField(number(nil, 1, int64(elem)), 2, dims)
	return bytesField(text(nil, 1, name), 2, bytesField(nil, 1, tensor))
}

func number(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

func text(b []byte, field protowire.Number, s string) []byte { return bytesField(b, field, []byte(s)) }

func bytesField(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}
