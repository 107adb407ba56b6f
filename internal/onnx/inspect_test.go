package onnx_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/onnx/onnxtest"
)

func TestInspect(t *testing.T) {
	got, err := onnx.Inspect(write(t, onnxtest.Bag([][]float32{{1, 2, 3}}, onnxtest.Int32)))
	if err != nil {
		t.Fatal(err)
	}
	want := onnx.Info{
		IRVersion: 8,
		Opsets:    map[string]int64{"": 17, "ai.onnx.ml": 1},
		Inputs: []onnx.Port{
			{Name: "ids", Kind: onnx.KindTensor, Datatype: onnx.INT32, Shape: []int64{-1, -1}},
			{Name: "weights", Kind: onnx.KindTensor, Datatype: onnx.FP32, Shape: []int64{-1, -1}},
		},
		Outputs: []onnx.Port{{Name: "logits", Kind: onnx.KindTensor, Datatype: onnx.FP32, Shape: []int64{-1, 3}}},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(onnx.Port{}), cmpopts.IgnoreFields(onnx.Info{}, "Bytes")); d != "" {
		t.Error(d)
	}
	if err := got.Supported(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"title", "photo"} {
		got, err := onnx.Inspect(filepath.Join("..", "..", "models", name, "model.onnx"))
		if err != nil || len(got.Outputs) != 1 || got.Outputs[0].Shape[1] != 30 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// An input with a default need not be given.
func TestInspectDefaults(t *testing.T) {
	var g onnxtest.Graph
	g.Input("x", onnxtest.Float, -1, 1)
	g.Input("w", onnxtest.Float, 1, 1)
	g.Floats("w", []float32{2}, 1, 1)
	g.Output("y", onnxtest.Float, -1, 1)
	g.Node("MatMul", []string{"x", "w"}, []string{"y"}, nil)
	info, err := onnx.Inspect(write(t, g.Model()))
	if err != nil || len(info.Inputs) != 1 || info.Inputs[0].Name != "x" {
		t.Errorf("%+v, %v", info.Inputs, err)
	}
}

func external(file string, offset, length int64) []byte {
	var g onnxtest.Graph
	g.Input("x", onnxtest.Float, -1, 1)
	g.Output("y", onnxtest.Float, -1, 1)
	g.External("w", file, offset, length, 1, 1)
	g.Node("MatMul", []string{"x", "w"}, []string{"y"}, nil)
	return g.Model()
}

func TestInspectExternal(t *testing.T) {
	path := write(t, external("data/w.bin", 4, 4))
	dir := filepath.Join(filepath.Dir(path), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "w.bin"), make([]byte, 8), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := onnx.Inspect(path)
	if err != nil || !slices.Equal(info.External, []string{"data/w.bin"}) {
		t.Errorf("%+v, %v", info, err)
	}
}

// What is wrong with a file is said in words, by Inspect and by Open alike.
func TestBadGraphs(t *testing.T) {
	load(t)
	good := onnxtest.Linear(weights)
	none := onnxtest.Graph{}
	none.Input("x", onnxtest.Float, 1)
	outside := filepath.Join(t.TempDir(), "w.bin")
	if err := os.WriteFile(outside, make([]byte, 8), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		graph []byte
		want  string
	}{
		"empty":                  {nil, "no ONNX file"},
		"text":                   {[]byte("not a graph"), "no ONNX file"},
		"zeros":                  {make([]byte, 100), "no ONNX file"},
		"of git lfs":             {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "git lfs pull"},
		"cut off in its weights": {good[:len(good)-70], "truncated"},
		"cut off at its end":     {good[:len(good)-1], "truncated"},
		"no outputs":             {none.Model(), "no outputs"},
		"data missing":           {external("w.bin", 0, 4), "not beside it"},
		"data cut off":           {external("short.bin", 0, 400), "it is cut off"},
		"data by an absolute path": {
			external(outside, 0, 4), "not in the graph's folder"},
		"data above":              {external("../w.bin", 0, 4), "not in the graph's folder"},
		"data by a link":          {external("link.bin", 0, 4), "escapes"},
		"data in memory":          {external("*/_ORT_MEM_ADDR_/*", 1<<40, 4), "not beside it"},
		"data's offset overflows": {external("short.bin", 1<<62, 1<<62), "no place in a file"},
		"data's offset negative":  {external("short.bin", -1, 4), "no place in a file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, tt.graph)
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), "short.bin"), make([]byte, 8), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(filepath.Dir(path), "link.bin")); err != nil {
				t.Fatal(err)
			}
			_, err := onnx.Inspect(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Inspect: %v; want %q", err, tt.want)
			}
			if _, err := onnx.Open(path, onnx.Options{Inputs: []string{"x"}, Outputs: []string{"y"}}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open: %v; want %q", err, tt.want)
			}
		})
	}
}

// The versions that are said to be read are those that the runtime reads, and
// the next ones are not.
func TestNewerVersions(t *testing.T) {
	load(t)
	for name, tt := range map[string]struct {
		opset, ir int64
		want      string
	}{
		"the newest":    {25, 13, ""},
		"a newer opset": {26, 13, "operator set 26 of ai.onnx"},
		"a newer IR":    {25, 14, "IR version 14"},
	} {
		t.Run(name, func(t *testing.T) {
			g := onnxtest.Graph{Opset: tt.opset, IRVersion: tt.ir}
			g.Input("x", onnxtest.Float, 1)
			g.Output("y", onnxtest.Float, 1)
			g.Node("Identity", []string{"x"}, []string{"y"}, nil)
			path := write(t, g.Model())
			info, err := onnx.Inspect(path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := onnx.Open(path, onnx.Options{Inputs: []string{"x"}, Outputs: []string{"y"}})
			if err == nil {
				s.Close()
			}
			for by, err := range map[string]error{"Supported": info.Supported(), "Open": err} {
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: %v; want %q", by, err, tt.want)
				}
			}
		})
	}
}

// FuzzInspect: any file gives a graph or an error, and a graph's ports are
// bounded by what is in the file.
func FuzzInspect(f *testing.F) {
	for _, seed := range [][]byte{
		onnxtest.Linear(weights), onnxtest.Bag(weights, onnxtest.Int64), onnxtest.Same(onnxtest.String),
		onnxtest.ZipMap([]int64{1, 2}), onnxtest.ZipMap([]string{"a", "b"}), external("w.bin", 0, 4), external("../w", -1, 4),
	} {
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), "fuzz.onnx")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := onnx.Inspect(path)
		if err != nil {
			return
		}
		if len(info.Outputs) == 0 || info.IRVersion == 0 || len(info.Inputs)+len(info.Outputs) > len(data) {
			t.Errorf("%+v of %d bytes", info, len(data))
		}
		for _, p := range slices.Concat(info.Inputs, info.Outputs) {
			if (p.Kind == onnx.KindZipMap) != (len(p.Keys) > 0) || len(p.Shape) > len(data) {
				t.Errorf("%+v", p)
			}
		}
		_ = info.Supported()
	})
}
