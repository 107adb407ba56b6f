package trial

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aisle.dev/aisle/internal/onnx/onnxtest"
	"aisle.dev/aisle/internal/ortlib"
)

// TestBareGraphs runs graphs of kinds that no shipped package has.
func TestBareGraphs(t *testing.T) {
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, graph := range map[string][]byte{
		"ZipMap of numbers": onnxtest.ZipMap([]int64{7, 9}),
		"ZipMap of texts":   onnxtest.ZipMap([]string{"Shirts", "Ties"}),
		"FP16":              onnxtest.Same(onnxtest.Float16, -1, 3),
		"texts":             onnxtest.Same(onnxtest.String, -1, -1),
		"a scalar":          onnxtest.Same(onnxtest.Int64),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "graph.onnx")
			if err := os.WriteFile(path, graph, 0o600); err != nil {
				t.Fatal(err)
			}
			s := Read(path)
			if len(s.Problems) > 0 {
				t.Fatal(s.Problems)
			}
			session, err := Open(s.Package, lib, "cpu", 1)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if problems := Batches(t.Context(), s.Package, session); len(problems) > 0 {
				t.Error(problems)
			}
			f, err := Bench(t.Context(), s.Package, Plan{Library: lib, Device: "cpu", Batches: []int{1}, Threads: []int{1}, For: time.Millisecond, Dim: 4, Progress: func(float64) {}})
			if err != nil || len(f.Points) != 1 || f.Points[0].Runs < 1 || f.Points[0].Rate <= 0 {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
}

func TestPin(t *testing.T) {
	const digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // of abc
	for _, tt := range []struct{ name, before, after, says string }{
		{"plain", "a: {file: f, sha256: 0} # kept\n", "a: {file: f, sha256: " + digest + "} # kept\n", ""},
		{"quoted", "é: [{sha256: \"1\", file: f}, {file: f, sha256: 'two'}]", "é: [{sha256: " + digest + ", file: f}, {file: f, sha256: " + digest + "}]", ""},
		{"right already", "a:\n  file: f\n  sha256: " + digest + "\n", "a:\n  file: f\n  sha256: " + digest + "\n", ""},
		{"nothing to replace", "a:\n  file: f\n  sha256:\n", "", "write 0 there"},
		{"no such file", "a: {file: g, sha256: 0}", "", "g"},
		{"outside", "a: {file: ../f, sha256: 0}", "", "escapes"},
		{"no YAML", "a: {", "", "model.yaml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "model.yaml")
			for name, text := range map[string]string{path: tt.before, filepath.Join(dir, "f"): "abc"} {
				if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Pin(dir)
			text, rerr := os.ReadFile(path)
			if rerr != nil {
				t.Fatal(rerr)
			}
			switch {
			case tt.says == "" && (err != nil || string(text) != tt.after):
				t.Errorf("%v, and the file is\n%s", err, text)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || string(text) != tt.before):
				t.Errorf("%v, want a sentence with %q, and the file as it was:\n%s", err, tt.says, text)
			}
		})
	}
}
