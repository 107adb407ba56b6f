package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"aisle.dev/aisle/activator/engine/slots"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/ortlib"
)

func TestWithoutGPU(t *testing.T) {
	if len(slots.Detect(t.Context(), "")) > 0 {
		t.Skip("there is a GPU: make gpu-check")
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), &out, &errs); code != noGPU || !strings.Contains(errs.String(), "nothing was checked") || out.Len() > 0 {
		t.Errorf("exit code %d, %q, %q", code, &out, &errs)
	}
}

// All of the check, of the CPU against itself.
func TestCheck(t *testing.T) {
	t.Chdir("../..")
	if _, err := os.Stat(starter); err != nil {
		t.Skip("make build builds the classifier that this starts")
	}
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := check(t.Context(), &out, lib, onnx.CPU, effort{starts: 1, rate: time.Millisecond}); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	for _, want := range []string{"photo, batches of 1: outputs differ by 0;", "title with DEVICE=auto: ready on cpu", "a GPU that is not there: classifier: device cuda"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
}

func TestApart(t *testing.T) {
	a, b := []onnx.Tensor{{F32: []float32{1, 2}}}, []onnx.Tensor{{F32: []float32{1, 2.5}}}
	if most, err := apart(a, b); most != 0.5 || err != nil {
		t.Errorf("%g, %v", most, err)
	}
	nan := float32(0)
	nan /= nan
	for _, bad := range [][]float32{{1}, {1, nan}} {
		if _, err := apart(a, []onnx.Tensor{{F32: bad}}); err == nil {
			t.Errorf("%g is equal to %g", bad, a[0].F32)
		}
	}
}
