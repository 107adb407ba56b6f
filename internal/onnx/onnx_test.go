package onnx_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/onnx/onnxtest"
	"aisle.dev/aisle/internal/ortlib"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func load(t testing.TB) {
	t.Helper()
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := onnx.Init(lib); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, graph []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, graph, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, graph []byte, inputs []string, output string) *onnx.Session {
	t.Helper()
	load(t)
	s, err := onnx.Open(write(t, graph), onnx.Options{Inputs: inputs, Outputs: []string{output}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var weights = [][]float32{{1, 10}, {2, 20}, {3, 30}}

func TestRun(t *testing.T) {
	s := open(t, onnxtest.Linear(weights), []string{"x"}, "y")
	if s.Device() != onnx.CPU {
		t.Errorf("device %q", s.Device())
	}
	in := onnx.Tensor{Shape: []int64{2, 3}, F32: []float32{1, 0, 1, 0, 2, 0}}
	want := []float32{4, 40, 4, 40}
	for name, out := range map[string]onnx.Tensor{
		"memory of the caller":  {Shape: []int64{2, 2}, F32: make([]float32, 4)},
		"memory of the runtime": {},
	} {
		t.Run(name, func(t *testing.T) {
			outs := []onnx.Tensor{out}
			if err := s.Run(t.Context(), []onnx.Tensor{in}, outs); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(onnx.Tensor{Shape: []int64{2, 2}, F32: want}, outs[0]); d != "" {
				t.Error(d)
			}
		})
	}
}

// The batch and the number of n-grams vary, and ids come as either integer
// type.
func TestDynamicShapesAndIntegers(t *testing.T) {
	table := [][]float32{{0, 0}, {1, 0}, {0, 1}, {5, 5}}
	for _, elem := range []int{onnxtest.Int32, onnxtest.Int64} {
		s := open(t, onnxtest.Bag(table, elem), []string{"ids", "weights"}, "logits")
		for _, tt := range []struct {
			shape   []int64
			ids     []int64
			weights []float32
			want    []float32
		}{
			{[]int64{1, 1}, []int64{3}, []float32{1}, []float32{5, 5}},
			{[]int64{1, 3}, []int64{1, 2, 3}, []float32{1, 2, 0.2}, []float32{2, 3}},
			{[]int64{2, 2}, []int64{1, 1, 2, 0}, []float32{1, 1, 4, 9}, []float32{2, 0, 0, 4}},
		} {
			ids := onnx.Tensor{Shape: tt.shape, I64: tt.ids}
			if elem == onnxtest.Int32 {
				ids = onnx.Tensor{Shape: tt.shape, I32: make([]int32, len(tt.ids))}
				for i, v := range tt.ids {
					ids.I32[i] = int32(v)
				}
			}
			out := []onnx.Tensor{{}}
			if err := s.Run(t.Context(), []onnx.Tensor{ids, {Shape: tt.shape, F32: tt.weights}}, out); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, out[0].F32); d != "" {
				t.Errorf("shape %v, type %d: %s", tt.shape, elem, d)
			}
		}
	}
}

func TestRunErrors(t *testing.T) {
	s := open(t, onnxtest.Linear(weights), []string{"x"}, "y")
	good := onnx.Tensor{Shape: []int64{1, 3}, F32: []float32{1, 2, 3}}
	tests := []struct {
		name    string
		in, out []onnx.Tensor
		want    string
	}{
		{"no input", nil, []onnx.Tensor{{}}, "0 inputs and 1 outputs given"},
		{"two outputs", []onnx.Tensor{good}, make([]onnx.Tensor, 2), "1 inputs and 2 outputs given"},
		{"too few elements", []onnx.Tensor{{Shape: []int64{2, 3}, F32: good.F32}}, []onnx.Tensor{{}}, "wants 6 elements"},
		{"no elements of no type", []onnx.Tensor{{Shape: []int64{0, 3}}}, []onnx.Tensor{{}}, "is no datatype"},
		{"product overflows", []onnx.Tensor{{Shape: []int64{1 << 40, 1 << 40}, F32: good.F32}}, []onnx.Tensor{{}}, "fewer than 2^31"},
		{"two types", []onnx.Tensor{{Shape: []int64{1, 3}, F32: good.F32, I32: []int32{1, 2, 3}}}, []onnx.Tensor{{}}, "of one type"},
		{"scalar", []onnx.Tensor{{F32: []float32{1}}}, []onnx.Tensor{{}}, "Invalid rank"},
		{"another type than the graph's", []onnx.Tensor{{Shape: []int64{1, 3}, I32: []int32{1, 2, 3}}}, []onnx.Tensor{{}}, "run graph"},
		{"another shape than the graph's", []onnx.Tensor{{Shape: []int64{1, 2}, F32: good.F32[:2]}}, []onnx.Tensor{{}}, "run graph"},
		{"output too small", []onnx.Tensor{good}, []onnx.Tensor{{Shape: []int64{1, 1}, F32: make([]float32, 1)}}, "run graph"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Run(t.Context(), tt.in, tt.out)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := s.Run(t.Context(), []onnx.Tensor{good}, []onnx.Tensor{{}}); err != nil {
		t.Errorf("after the errors: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	load(t)
	good := write(t, onnxtest.Linear(weights))
	broken := write(t, []byte("not a graph"))
	tests := []struct {
		name string
		path string
		o    onnx.Options
		want string
	}{
		{"absent", good + "x", onnx.Options{Inputs: []string{"x"}, Outputs: []string{"y"}}, "no such file"},
		{"broken", broken, onnx.Options{Inputs: []string{"x"}, Outputs: []string{"y"}}, "it is no ONNX file"},
		{"no names", good, onnx.Options{}, "name the graph's inputs"},
		{"no such input", good, onnx.Options{Inputs: []string{"X"}, Outputs: []string{"y"}}, `no input "X"; its own are ["x"]`},
		{"no such output", good, onnx.Options{Inputs: []string{"x"}, Outputs: []string{"z"}}, `no output "z"; its own are ["y"]`},
		{"device", good, onnx.Options{Inputs: []string{"x"}, Outputs: []string{"y"}, Device: "tpu"}, `device "tpu": want cpu, cuda or auto`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := onnx.Open(tt.path, tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v; want %q", s, err, tt.want)
			}
		})
	}
}

// Without a GPU, cuda is refused with a reason and auto falls back.
func TestDevices(t *testing.T) {
	load(t)
	path := write(t, onnxtest.Linear(weights))
	o := onnx.Options{Inputs: []string{"x"}, Outputs: []string{"y"}, Device: onnx.CUDA}
	s, err := onnx.Open(path, o)
	if err == nil {
		s.Close()
		t.Skip("this machine's ONNX Runtime has CUDA")
	}
	if msg := err.Error(); !strings.Contains(msg, "device cuda was asked for and is not usable: this build of ONNX Runtime is for CPUs alone") || strings.Contains(msg, "\n") {
		t.Errorf("not one line that says why: %q", msg)
	}
	o.Device = onnx.Auto
	s, err = onnx.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Device() != onnx.CPU || s.Fallback() == nil {
		t.Errorf("auto gave %q: %v", s.Device(), s.Fallback())
	}
}

func TestInit(t *testing.T) {
	load(t)
	load(t) // idempotent
	if err := onnx.Init("/somewhere/else.so"); err == nil || !strings.Contains(err.Error(), "cannot load") {
		t.Errorf("a second library: %v", err)
	}
	if v := onnx.Version(); !strings.HasPrefix(v, "1.") {
		t.Errorf("version %q", v)
	}
}

func TestLibrary(t *testing.T) {
	dir := t.TempDir()
	exe, beside := filepath.Join(dir, "classifier"), filepath.Join(dir, onnx.LibraryName)
	if _, err := onnx.Library("", exe); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("nothing beside the executable: %v", err)
	}
	if err := os.WriteFile(beside, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := onnx.Library("", exe); err != nil || got != beside {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := onnx.Library(filepath.Join(dir, "absent"), exe); err == nil || !strings.Contains(err.Error(), "ONNXRUNTIME_LIB") {
		t.Errorf("named and absent: %v", err)
	}
}

func TestCancel(t *testing.T) {
	s := open(t, onnxtest.Deep(512, 4000), []string{"x"}, "y")
	in := []onnx.Tensor{{Shape: []int64{256, 512}, F32: make([]float32, 256*512)}}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := s.Run(ctx, in, []onnx.Tensor{{}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
	if took := time.Since(begin); took > 2*time.Second { // all of it takes some 10 s
		t.Errorf("stopping took %s", took)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ended, in, []onnx.Tensor{{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// Runs, cancelled runs and Close at once: each run is either right or says
// why it did not happen.
func TestConcurrentRunAndClose(t *testing.T) {
	load(t)
	path := write(t, onnxtest.Linear(weights))
	for range 20 {
		s, err := onnx.Open(path, onnx.Options{Inputs: []string{"x"}, Outputs: []string{"y"}})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		started := make(chan struct{}, 8)
		for g := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					ctx, cancel := context.WithCancel(t.Context())
					if g%2 == 0 {
						go cancel()
					}
					out := []onnx.Tensor{{Shape: []int64{1, 2}, F32: make([]float32, 2)}}
					err := s.Run(ctx, []onnx.Tensor{{Shape: []int64{1, 3}, F32: []float32{float32(g), 0, 0}}}, out)
					cancel()
					switch {
					case errors.Is(err, onnx.ErrClosed):
						return
					case errors.Is(err, context.Canceled):
					case err != nil:
						t.Error(err)
						return
					case out[0].F32[1] != float32(10*g):
						t.Errorf("got %v", out[0].F32)
						return
					}
					if i == 3 {
						started <- struct{}{}
					}
				}
			})
		}
		for range 8 {
			<-started
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
	}
}

func TestCloseWaitsForRun(t *testing.T) {
	s := open(t, onnxtest.Deep(512, 2000), []string{"x"}, "y")
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	running := make(chan struct{})
	go func() {
		close(running)
		ran <- s.Run(ctx, []onnx.Tensor{{Shape: []int64{128, 512}, F32: make([]float32, 128*512)}}, []onnx.Tensor{{}})
	}()
	<-running
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	cancel()
	if err := <-ran; err == nil || !errors.Is(err, context.Canceled) && !errors.Is(err, onnx.ErrClosed) {
		t.Errorf("the run: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}

// residentKB is the process's memory, C's share included.
func residentKB(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc")
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb
}

// Neither runs nor sessions leak C memory: each round would leave at least
// 200 MB behind if its tensors, or its sessions, were not freed.
func TestMemoryIsGivenBack(t *testing.T) {
	load(t)
	path := write(t, onnxtest.Deep(256, 3))
	round := func() {
		for range 40 {
			s, err := onnx.Open(path, onnx.Options{Inputs: []string{"x"}, Outputs: []string{"y"}})
			if err != nil {
				t.Fatal(err)
			}
			in := []onnx.Tensor{{Shape: []int64{1024, 256}, F32: make([]float32, 1024*256)}}
			for range 5 {
				if err := s.Run(t.Context(), in, []onnx.Tensor{{}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
	}
	round()
	before := residentKB(t)
	for range 2 {
		round()
	}
	if grown := residentKB(t) - before; grown > 100<<10 {
		t.Errorf("two more rounds left %d MB behind", grown>>10)
	}
}

// BenchmarkRun is the cost of a run apart from the graph's own work: two
// tensors of a few numbers, one cancellable context.
func BenchmarkRun(b *testing.B) {
	s := open(b, onnxtest.Linear(weights), []string{"x"}, "y")
	in := []onnx.Tensor{{Shape: []int64{1, 3}, F32: []float32{1, 2, 3}}}
	out := []onnx.Tensor{{Shape: []int64{1, 2}, F32: make([]float32, 2)}}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Run(ctx, in, out); err != nil {
			b.Fatal(err)
		}
	}
}
