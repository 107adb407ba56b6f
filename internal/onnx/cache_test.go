package onnx_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/onnx/onnxtest"
)

// run opens the photo model's graph with a cache and runs it on a ramp.
func run(t *testing.T, path string, o onnx.Options) []float32 {
	t.Helper()
	info, err := onnx.Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	o.Inputs, o.Outputs = []string{info.Inputs[0].Name}, []string{info.Outputs[0].Name}
	s, err := onnx.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := onnx.Tensor{Shape: append([]int64{1}, info.Inputs[0].Shape[1:]...)}
	n := int64(1)
	for _, d := range in.Shape {
		n *= d
	}
	for i := range n {
		in.F32 = append(in.F32, float32(i%251)/251)
	}
	out := []onnx.Tensor{{}}
	if err := s.Run(t.Context(), []onnx.Tensor{in}, out); err != nil {
		t.Fatal(err)
	}
	return out[0].F32
}

func digest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(b))
}

// A cached graph answers as the graph does; a damaged one is made anew, and
// another digest's is not taken.
func TestCache(t *testing.T) {
	load(t)
	path, dir := filepath.Join("..", "..", "models", "photo", "model.onnx"), filepath.Join(t.TempDir(), "cache")
	want := run(t, path, onnx.Options{})
	o := onnx.Options{CacheDir: dir, Digest: digest(t, path)}
	one := func() string {
		t.Helper()
		files, err := os.ReadDir(dir)
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v: want one file", files, err)
		}
		return filepath.Join(dir, files[0].Name())
	}
	for _, when := range []string{"written", "read"} {
		if d := cmp.Diff(want, run(t, path, o)); d != "" {
			t.Errorf("when it is %s: %s", when, d)
		}
		one()
	}

	// Where the cache is read, the graph's own file is not.
	whole, err := os.ReadFile(one())
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{"empty": nil, "cut off": whole[:len(whole)/2], "another byte": append(append([]byte{}, whole[:len(whole)-9]...), make([]byte, 9)...)} {
		if err := os.WriteFile(one(), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, run(t, path, o)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		// The runtime writes the same graph in another order each time.
		if got, err := os.ReadFile(one()); err != nil || len(got) != len(whole) {
			t.Errorf("%s: the file was not made anew: %d bytes, %v", name, len(got), err)
		}
	}

	// A file that is not the one of the digest is not cached under it.
	other := write(t, onnxtest.Linear(weights))
	o.Digest = digest(t, path)[:70] + "0"
	if got := run(t, other, o); len(got) != 2 {
		t.Errorf("another graph answers %v", got)
	}
	one()
}

func TestCacheIsBounded(t *testing.T) {
	load(t)
	dir := t.TempDir()
	for i := range 40 {
		path := write(t, onnxtest.Linear([][]float32{{float32(i)}}))
		run(t, path, onnx.Options{CacheDir: dir, Digest: digest(t, path)})
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 32 {
		t.Errorf("%d files, %v; want 32", len(files), err)
	}
}

// A folder that cannot be written to costs the cache, not the start.
func TestCacheNowhere(t *testing.T) {
	load(t)
	path := write(t, onnxtest.Linear(weights))
	if got := run(t, path, onnx.Options{CacheDir: path, Digest: digest(t, path)}); len(got) != 2 {
		t.Errorf("%v", got)
	}
}
