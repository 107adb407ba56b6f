package onnx_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/onnx/onnxtest"
)

// Each datatype goes in and comes out again: a tensor, one without elements,
// one whose number of rows varies, and a scalar.
func TestDatatypes(t *testing.T) {
	elems := map[string]int{
		onnx.BOOL: onnxtest.Bool, onnx.UINT8: onnxtest.Uint8, onnx.UINT16: onnxtest.Uint16, onnx.UINT32: onnxtest.Uint32, onnx.UINT64: onnxtest.Uint64,
		onnx.INT8: onnxtest.Int8, onnx.INT16: onnxtest.Int16, onnx.INT32: onnxtest.Int32, onnx.INT64: onnxtest.Int64,
		onnx.FP16: onnxtest.Float16, onnx.BF16: onnxtest.BFloat16, onnx.FP32: onnxtest.Float, onnx.FP64: onnxtest.Double, onnx.BYTES: onnxtest.String,
	}
	// Two elements of each, as bytes; the halves are 1.5 and the smallest subnormal.
	raw := map[string][]byte{
		onnx.BOOL: {1, 0}, onnx.UINT8: {1, 255}, onnx.INT8: {1, 255},
		onnx.UINT16: {1, 2, 255, 255}, onnx.INT16: {1, 2, 255, 255}, onnx.FP16: {0, 0x3e, 1, 0}, onnx.BF16: {0xc0, 0x3f, 1, 0},
		onnx.UINT32: {1, 2, 3, 4, 5, 6, 7, 255}, onnx.INT32: {1, 2, 3, 4, 5, 6, 7, 255}, onnx.FP32: {0, 0, 0xc0, 0x3f, 1, 0, 0, 0},
		onnx.UINT64: {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255}, onnx.INT64: {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255},
		onnx.FP64: {0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 1, 0, 0, 0, 0, 0, 0, 0},
	}
	for datatype, elem := range elems {
		t.Run(datatype, func(t *testing.T) {
			size := onnx.Size(datatype)
			if got := len(raw[datatype]); got != 2*size {
				t.Fatalf("%d bytes an element, and %d of two", size, got)
			}
			tensor := func(n int, shape ...int64) onnx.Tensor {
				if datatype == onnx.BYTES {
					return onnx.Tensor{Datatype: datatype, Shape: shape, Strings: []string{"größe", ""}[:n]}
				}
				return onnx.Tensor{Datatype: datatype, Shape: shape, Raw: raw[datatype][:n*size]}
			}
			s := open(t, onnxtest.Same(elem, -1, 2), []string{"x"}, "y")
			for name, in := range map[string]onnx.Tensor{"one row": tensor(2, 1, 2), "no rows": tensor(0, 0, 2)} {
				out := []onnx.Tensor{{}}
				if err := s.Run(t.Context(), []onnx.Tensor{in}, out); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if d := cmp.Diff(plain(in), plain(out[0])); d != "" {
					t.Errorf("%s: %s", name, d)
				}
			}

			s = open(t, onnxtest.Same(elem), []string{"x"}, "y")
			in, out := tensor(1), []onnx.Tensor{{}}
			in.Shape = []int64{}
			err := s.Run(t.Context(), []onnx.Tensor{in}, out)
			if datatype == onnx.BYTES || datatype == onnx.FP16 || datatype == onnx.BF16 {
				if err == nil || !strings.Contains(err.Error(), "cannot be given to the runtime") {
					t.Errorf("a scalar: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("a scalar: %v", err)
			}
			if d := cmp.Diff(plain(in), plain(out[0])); d != "" {
				t.Errorf("a scalar: %s", d)
			}
		})
	}
}

// plain is a tensor in one of the forms that it may have.
func plain(t onnx.Tensor) onnx.Tensor {
	p := onnx.Tensor{Datatype: t.Type(), Shape: t.Shape, Strings: t.Strings, Raw: t.Raw}
	for _, v := range t.F32 {
		p.Raw = le(p.Raw, uint64(math.Float32bits(v)), 4)
	}
	for _, v := range t.I32 {
		p.Raw = le(p.Raw, uint64(uint32(v)), 4)
	}
	for _, v := range t.I64 {
		p.Raw = le(p.Raw, uint64(v), 8)
	}
	if len(p.Raw) == 0 {
		p.Raw = nil
	}
	if len(p.Strings) == 0 {
		p.Strings = nil
	}
	return p
}

func le(b []byte, v uint64, n int) []byte {
	for i := range n {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}

// Scalars that are the graph's own come out, of each kind.
func TestScalarOutputs(t *testing.T) {
	for name, tt := range map[string]struct {
		elem int
		want onnx.Tensor
	}{
		"FP32":  {onnxtest.Float, onnx.Tensor{Shape: []int64{}, F32: []float32{7}}},
		"FP16":  {onnxtest.Float16, onnx.Tensor{Datatype: onnx.FP16, Shape: []int64{}, Raw: []byte{0, 0x47}}},
		"BYTES": {onnxtest.String, onnx.Tensor{Shape: []int64{}, Strings: []string{"7"}}},
	} {
		var g onnxtest.Graph
		g.Input("x", onnxtest.Float, 1, 2)
		g.Output("y", tt.elem)
		g.Node("ReduceSum", []string{"x"}, []string{"sum"}, map[string]any{"keepdims": int64(0)})
		g.Node("Cast", []string{"sum"}, []string{"y"}, map[string]any{"to": int64(tt.elem)})
		s := open(t, g.Model(), []string{"x"}, "y")
		out := []onnx.Tensor{{}}
		if err := s.Run(t.Context(), []onnx.Tensor{{Shape: []int64{1, 2}, F32: []float32{3, 4}}}, out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(tt.want, out[0]); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestZipMap(t *testing.T) {
	load(t)
	for name, tt := range map[string]struct {
		keys any
		want []string
		of   string
	}{
		"integers": {[]int64{30, -10, 20}, []string{"30", "-10", "20"}, onnx.INT64},
		"strings":  {[]string{"shoes", "", "bags"}, []string{"shoes", "", "bags"}, onnx.BYTES},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, onnxtest.ZipMap(tt.keys))
			info, err := onnx.Inspect(path)
			if err != nil {
				t.Fatal(err)
			}
			if p := info.Outputs[1]; p.Kind != onnx.KindZipMap || p.KeyType != tt.of || !slices.Equal(p.Keys, tt.want) || !slices.Equal(p.Shape, []int64{-1, 3}) {
				t.Errorf("%+v", p)
			}
			s, err := onnx.Open(path, onnx.Options{Inputs: []string{"x"}, Outputs: []string{"probability", "label"}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if !slices.Equal(s.Keys(0), tt.want) || s.Keys(1) != nil {
				t.Errorf("keys %q and %q", s.Keys(0), s.Keys(1))
			}
			out := make([]onnx.Tensor, 2)
			if err := s.Run(t.Context(), []onnx.Tensor{{Shape: []int64{2, 3}, F32: []float32{0, 20, 0, 0, 0, 20}}}, out); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]int64{1, 2}, out[1].I64); d != "" {
				t.Error(d)
			}
			for i, p := range out[0].F32 {
				if want := float32([]int{0, 1, 0, 0, 0, 1}[i]); math.Abs(float64(p-want)) > 1e-6 || !slices.Equal(out[0].Shape, []int64{2, 3}) {
					t.Errorf("probabilities %v", out[0])
				}
			}
		})
	}
}

// A graph that is read into memory still finds its external data.
func TestExternalDataOfAnAdaptedGraph(t *testing.T) {
	load(t)
	var g onnxtest.Graph
	g.Input("x", onnxtest.Float, -1, 2)
	g.Output("y", onnxtest.Float16, -1, 2)
	g.External("w", "weights.bin", 4, 16, 2, 2)
	g.Node("MatMul", []string{"x", "w"}, []string{"xw"}, nil)
	g.Node("Cast", []string{"xw"}, []string{"y"}, map[string]any{"to": int64(onnxtest.Float16)})
	path := write(t, g.Model())
	data := make([]byte, 4)
	for _, v := range []float32{1, 0, 0, 1} {
		data = le(data, uint64(math.Float32bits(v)), 4)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "weights.bin"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := onnx.Open(path, onnx.Options{Inputs: []string{"x"}, Outputs: []string{"y"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := []onnx.Tensor{{}}
	if err := s.Run(t.Context(), []onnx.Tensor{{Shape: []int64{1, 2}, F32: []float32{1, 2}}}, out); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(onnx.Tensor{Datatype: onnx.FP16, Shape: []int64{1, 2}, Raw: []byte{0, 0x3c, 0, 0x40}}, out[0]); d != "" {
		t.Error(d)
	}
}

func TestStringsAreWhole(t *testing.T) {
	s := open(t, onnxtest.Same(onnxtest.String, -1), []string{"x"}, "y")
	err := s.Run(t.Context(), []onnx.Tensor{{Shape: []int64{1}, Strings: []string{"a\x00b"}}}, []onnx.Tensor{{}})
	if err == nil || !strings.Contains(err.Error(), "zero byte") {
		t.Error(err)
	}
	b := open(t, onnxtest.Same(onnxtest.Bool, -1), []string{"x"}, "y")
	err = b.Run(t.Context(), []onnx.Tensor{{Datatype: onnx.BOOL, Shape: []int64{1}, Raw: []byte{2}}}, []onnx.Tensor{{}})
	if err == nil || !strings.Contains(err.Error(), "want 0 or 1") {
		t.Error(err)
	}
}
