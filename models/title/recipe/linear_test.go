package main

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/ortlib"
)

// Three labels, told apart by one feature each, among noise.
func trained(t *testing.T) (*Linear, func(i int, rnd *rand.Rand) (Bag, int)) {
	t.Helper()
	example := func(i int, rnd *rand.Rand) (Bag, int) {
		label := i % 3
		return Bag{[]int32{int32(label), 3 + rnd.Int32N(13)}, []float32{1, 0.5}}, label
	}
	m, losses := NewLinear(16, 3), []float64{}
	m.Train(Training{Epochs: 5, Rate: 1, Seed: 1}, 300, example, func(_ int, loss float64) { losses = append(losses, loss) })
	if len(losses) != 5 || losses[4] > losses[0]/2 {
		t.Fatalf("losses %v: want five, falling", losses)
	}
	return m, example
}

func TestTrain(t *testing.T) {
	m, example := trained(t)
	p, rnd := make([]float32, 3), rand.New(rand.NewPCG(9, 9))
	for i := range 30 {
		b, label := example(i, rnd)
		m.Probabilities(p, b)
		if p[label] < 0.8 {
			t.Errorf("example %d: probability %.3f of its label", i, p[label])
		}
	}
	again, _ := trained(t)
	for i := range m.Table {
		if m.Table[i] != again.Table[i] {
			t.Fatal("training twice gives two models")
		}
	}
}

func TestAverageIsTheMeanOfLogits(t *testing.T) {
	a, _ := trained(t)
	b := NewLinear(16, 3)
	m := average([]*Linear{a, b})
	for i := range m.Table {
		if m.Table[i] != a.Table[i]/2 {
			t.Fatalf("row %d: %v, want half of %v", i, m.Table[i], a.Table[i])
		}
	}
}

// The graph in ONNX Runtime says what the trainer's own arithmetic says, for
// batches padded with id 0 of weight 0 too.
func TestGraph(t *testing.T) {
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Skipf("ONNX Runtime is needed: %v", err)
	}
	if err := onnx.Init(lib); err != nil {
		t.Fatal(err)
	}
	m, _ := trained(t)
	data, err := m.graph("test").Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := onnx.Open(path, onnx.Options{Inputs: []string{"ids", "weights"}, Outputs: []string{"probabilities"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := make([]onnx.Tensor, 1)
	err = s.Run(t.Context(), []onnx.Tensor{
		{Shape: []int64{2, 3}, I32: []int32{2, 5, 7, 1, 0, 0}},
		{Shape: []int64{2, 3}, F32: []float32{1, 0.5, 0.25, 1, 0, 0}},
	}, out)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float32, 3)
	for k, b := range []Bag{{[]int32{2, 5, 7}, []float32{1, 0.5, 0.25}}, {[]int32{1}, []float32{1}}} {
		m.Probabilities(want, b)
		for c, w := range want {
			if got := out[0].F32[3*k+c]; math.Abs(float64(got-w)) > 2e-3 { // the table is rounded to half precision
				t.Errorf("product %d, label %d: %v, want %v", k, c, got, w)
			}
		}
	}
}
