package onnxgraph

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/ortlib"
)

func load(t *testing.T) {
	t.Helper()
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Skipf("ONNX Runtime is needed: %v", err)
	}
	if err := onnx.Init(lib); err != nil {
		t.Fatal(err)
	}
}

// halves is a graph that looks rows of a half-precision table up.
func halves(table []float32) Model {
	return Model{
		Name: "halves", Producer: "test", Metadata: [][2]string{{"why", "a test"}},
		Inputs:    []Value{{"at", Int32, []any{"n"}}},
		Outputs:   []Value{{"out", Float, []any{"n", 1}}},
		Constants: []Constant{{"table", Float16, []int64{int64(len(table)), 1}, table}},
		Nodes: []Node{
			{Op: "Gather", Inputs: []string{"table", "at"}, Outputs: []string{"rows"}, Attributes: []Attribute{{"axis", int64(0)}}},
			{Op: "Cast", Inputs: []string{"rows"}, Outputs: []string{"out"}, Attributes: []Attribute{{"to", int64(Float)}}},
		},
	}
}

func TestRuntimeReadsIt(t *testing.T) {
	load(t)
	inf := float32(math.Inf(1))
	for _, tc := range []struct {
		name     string
		in, want float32
	}{
		{"zero", 0, 0},
		{"one", 1, 1},
		{"negative", -2.5, -2.5},
		{"a third, rounded", 1.0 / 3, 0.333251953125},
		{"tie to even, down", 1 + 1.0/2048, 1},
		{"tie to even, up", 1 + 3.0/2048, 1 + 2.0/1024},
		{"carry into the exponent", 2 - 1.0/4096, 2},
		{"largest", 65504, 65504},
		{"above it", 65520, inf},
		{"huge", 1e10, inf},
		{"subnormal", 3 * 5.9604644775390625e-08, 3 * 5.9604644775390625e-08},
		{"least subnormal's half, tie to even", 2.98023223876953125e-08, 0},
		{"just above it", 2.99e-08, 5.9604644775390625e-08},
		{"tiny", 1e-30, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := run(t, halves([]float32{7, tc.in}), 1); got != tc.want {
				t.Errorf("%v came out as %v, want %v", tc.in, got, tc.want)
			}
		})
	}
}

func run(t *testing.T, m Model, at int32) float32 {
	t.Helper()
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := onnx.Open(path, onnx.Options{Inputs: []string{"at"}, Outputs: []string{"out"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := make([]onnx.Tensor, 1)
	if err := s.Run(t.Context(), []onnx.Tensor{{Shape: []int64{1}, I32: []int32{at}}}, out); err != nil {
		t.Fatal(err)
	}
	return out[0].F32[0]
}

func TestHalfIsNearest(t *testing.T) {
	back := func(h uint16) float64 {
		exp, man := int(h>>10&31), float64(h&1023)
		v := math.Ldexp(man, -24)
		if exp > 0 {
			v = math.Ldexp(1024+man, exp-25)
		}
		if h>>15 == 1 {
			v = -v
		}
		return v
	}
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float32Range(-65000, 65000).Draw(t, "f")
		h := half(f)
		gap := math.Abs(back(h) - float64(f))
		for _, other := range []uint16{h + 1, h - 1} {
			if other&0x7fff < 0x7c00 && math.Abs(back(other)-float64(f)) < gap {
				t.Fatalf("half(%v) = %v, but %v is nearer", f, back(h), back(other))
			}
		}
	})
}

func TestEncodeRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Model)
	}{
		{"an input that nothing gives", func(m *Model) { m.Nodes[1].Inputs[0] = "x" }},
		{"a node before what it reads", func(m *Model) { m.Nodes[0], m.Nodes[1] = m.Nodes[1], m.Nodes[0] }},
		{"an output that nothing gives", func(m *Model) { m.Outputs[0].Name = "x" }},
		{"a name used twice", func(m *Model) { m.Nodes[1].Outputs[0] = "table" }},
		{"a shape that does not fit the data", func(m *Model) { m.Constants[0].Shape[0]++ }},
		{"data of another type", func(m *Model) { m.Constants[0].Type = Int64 }},
		{"data of no type", func(m *Model) { m.Constants[0].Data = "x" }},
		{"an attribute of no type", func(m *Model) { m.Nodes[0].Attributes[0].Value = 1 }},
		{"a dimension of no type", func(m *Model) { m.Inputs[0].Dims[0] = 1.5 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := halves([]float32{1})
			tc.change(&m)
			if _, err := m.Encode(); err == nil {
				t.Error("Encode accepted it")
			}
		})
	}
}
