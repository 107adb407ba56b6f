package classify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/oip"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
)

// tensorsOnly is a package of one input x [-1, -1] and two outputs.
func tensorsOnly(sizes ...int) *model.Package {
	varies := []int64{-1, -1}
	return &model.Package{Digest: "sha256:0", Spec: model.Spec{
		Name: "raw", Version: "1", Preprocess: model.Preprocess{Kind: model.None}, BatchSizes: sizes,
		Inputs: []model.Tensor{{Name: "x", Datatype: "FP32", Shape: varies}},
		Outputs: []model.Output{{Tensor: model.Tensor{Name: "y", Datatype: "FP32", Shape: varies}},
			{Tensor: model.Tensor{Name: "names", Datatype: "BYTES", Shape: []int64{-1}}}},
	}}
}

// echo is a Session whose runs take a millisecond. It gives x as y, and a text
// for each row; it fails on a batch with 13 in it, and gives one row too few
// for a batch with 17 in it.
type echo struct {
	mu   sync.Mutex
	runs []string // shapes of x; guarded by mu
}

func (*echo) Device() string    { return onnx.CPU }
func (*echo) Keys(int) []string { return nil }

func (e *echo) Run(ctx context.Context, in, out []onnx.Tensor) error {
	x := in[0]
	e.mu.Lock()
	e.runs = append(e.runs, fmt.Sprint(x.Shape))
	e.mu.Unlock()
	time.Sleep(time.Millisecond)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if slices.Contains(x.F32, 13) {
		return errors.New("the graph does not like 13")
	}
	names := make([]string, x.Shape[0])
	for i := range names {
		names[i] = fmt.Sprint(x.F32[i*int(x.Shape[1])])
	}
	if slices.Contains(x.F32, 17) {
		names = names[1:]
	}
	out[0], out[1] = x, onnx.Tensor{Shape: []int64{int64(len(names))}, Strings: names}
	return nil
}

// served runs f in a bubble, on a classifier of one worker.
func served(t *testing.T, pkg *model.Package, f func(t *testing.T, c *Classifier, e *echo)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ready := make(chan struct{})
		c, err := New(Options{Package: pkg, Workers: 1, Queue: 8, OnReady: func(string) { close(ready) }})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.models()[0].Ready(); problem.Status(err) != 503 {
			t.Errorf("ready before it runs: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		e := &echo{}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Run(ctx, e); err != nil {
				t.Error(err)
			}
		})
		<-ready
		f(t, c, e)
		stop()
		wg.Wait()
	})
}

func rows(shape []int64, x ...float32) oip.Request {
	return oip.Request{Inputs: []onnx.Tensor{{Shape: shape, F32: x}}, Outputs: []int{1, 0}}
}

// Tensors that come while a run is on are run together, as far as they have
// the same shape; one that the graph fails on fails none of its batch.
func TestInfer(t *testing.T) {
	served(t, tensorsOnly(1, 4), func(t *testing.T, c *Classifier, e *echo) {
		m := c.models()[0]
		type asked struct {
			r      oip.Request
			want   string // names, or an error
			status int
		}
		all := []asked{
			{rows([]int64{1, 1}, 1), "1", 0}, // runs while the others come
			{rows([]int64{1, 1}, 2), "2", 0},
			{rows([]int64{2, 1}, 3, 4), "3 4", 0},
			{rows([]int64{1, 1}, 13), "does not like 13", 422},
			{rows([]int64{1, 2}, 5, 6), "5", 0},                  // another shape
			{rows([]int64{5, 1}, 1, 2, 3, 4, 5), "1 2 3 4 5", 0}, // more than a batch
			{rows([]int64{1, 3}, 17, 0, 0), "", 0},               // alone nobody asks for its rows
		}
		var wg sync.WaitGroup
		for i, a := range all {
			wg.Go(func() {
				out, err := m.Infer(t.Context(), a.r)
				if a.status != 0 {
					if problem.Status(err) != a.status || !strings.Contains(err.Error(), a.want) {
						t.Errorf("%d: %v, %v; want a %d with %q", i, out, err, a.status, a.want)
					}
					return
				}
				if err != nil || strings.Join(out[0].Strings, " ") != a.want || !slices.Equal(out[1].F32, a.r.Inputs[0].F32) || !slices.Equal(out[1].Shape, a.r.Inputs[0].Shape) {
					t.Errorf("%d: %+v, %v; want %s", i, out, err, a.want)
				}
			})
			synctest.Wait() // it is queued
		}
		wg.Wait()
		want := []string{"[1 1]", "[4 1]", "[1 1]", "[2 1]", "[1 1]", "[1 2]", "[5 1]", "[1 3]"}
		if d := cmp.Diff(want, e.runs); d != "" {
			t.Errorf("runs (-want +got)\n%s", d)
		}
	})
}

// A graph that gives fewer rows than it was given is no graph of rows: its
// batch is run one by one.
func TestInferRowsThatAreNone(t *testing.T) {
	served(t, tensorsOnly(1, 4), func(t *testing.T, c *Classifier, e *echo) {
		m := c.models()[0]
		var wg sync.WaitGroup
		for _, x := range []float32{1, 2, 17} {
			wg.Go(func() {
				if _, err := m.Infer(t.Context(), rows([]int64{1, 1}, x)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if d := cmp.Diff([]string{"[1 1]", "[2 1]", "[1 1]", "[1 1]"}, e.runs); d != "" {
			t.Error(d)
		}
	})
}

// Requests that a busy core is about to queue are in the batch of the first of
// them, though no worker was at work.
func TestInferOnItsWay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	served(t, tensorsOnly(1, 8), func(t *testing.T, c *Classifier, e *echo) {
		const rounds, at = 20, 6
		for range rounds {
			var wg sync.WaitGroup
			for range at {
				wg.Go(func() {
					if _, err := c.models()[0].Infer(t.Context(), rows([]int64{1, 1}, 1)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		// The first alone and the rest behind it would be two runs a round; now
		// and then the scheduler looks at a worker sooner.
		if len(e.runs) > rounds*3/2 {
			t.Errorf("%d runs for %d times %d requests: %v", len(e.runs), rounds, at, e.runs)
		}
	})
}

// Without batch sizes the first dimension may mean anything: nothing is mixed.
func TestInferAlone(t *testing.T) {
	served(t, tensorsOnly(1), func(t *testing.T, c *Classifier, e *echo) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := c.models()[0].Infer(t.Context(), rows([]int64{1, 1}, 1)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if len(e.runs) != 3 {
			t.Errorf("runs %v", e.runs)
		}
	})
}

// A caller whose deadline passes while it waits is told so, and never run.
func TestInferDeadline(t *testing.T) {
	served(t, tensorsOnly(1), func(t *testing.T, c *Classifier, e *echo) {
		m := c.models()[0]
		first := make(chan error, 1)
		go func() {
			_, err := m.Infer(t.Context(), rows([]int64{1, 1}, 1))
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Microsecond)
		defer cancel()
		if _, err := m.Infer(ctx, rows([]int64{1, 1}, 2)); problem.Status(err) != 504 {
			t.Errorf("got %v", err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(e.runs) != 1 || c.queue.len() != 0 {
			t.Errorf("runs %v, %d wait", e.runs, c.queue.len())
		}
	})
}

func TestDescriptions(t *testing.T) {
	pkg, err := model.Load(classifytest.Title(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Package: pkg})
	if err != nil {
		t.Fatal(err)
	}
	models := c.models()
	got := []oip.Description{models[0].Describe(), models[1].Describe()}
	varies := []int64{-1, -1}
	parameters := map[string]string{"digest": pkg.Digest}
	want := []oip.Description{
		{Name: "title", Versions: []string{"1.0.0"}, Platform: "onnx_onnxv1", Parameters: parameters,
			Inputs:  []oip.Port{{Name: "ids", Datatype: "INT32", Shape: varies}, {Name: "weights", Datatype: "FP32", Shape: varies}},
			Outputs: []oip.Port{{Name: "logits", Datatype: "FP32", Shape: []int64{-1, 3}}}},
		{Name: "title-products", Versions: []string{"1.0.0"}, Platform: "onnx_onnxv1", Parameters: parameters,
			Inputs:  []oip.Port{{Name: "product", Datatype: "BYTES", Shape: []int64{-1}}},
			Outputs: []oip.Port{{Name: "label", Datatype: "BYTES", Shape: varies}, {Name: "probability", Datatype: "FP32", Shape: varies}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	raw, err := New(Options{Package: tensorsOnly(1)})
	if err != nil || len(raw.models()) != 1 {
		t.Errorf("without preprocessing: %d models, %v", len(raw.models()), err)
	}
}

func TestTopParameter(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want int
	}{{int64(3), 3}, {uint64(1), 1}, {"2", 2}, {float64(4), 4}, {int64(0), 0}, {-1.5, 0}, {"many", 0}, {true, 0}} {
		got, err := topParameter(map[string]any{"top": tt.v})
		if got != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%v: %d, %v", tt.v, got, err)
		}
	}
	if n, err := topParameter(nil); n != defaultTop || err != nil {
		t.Errorf("not given: %d, %v", n, err)
	}
}
