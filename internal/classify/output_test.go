package classify

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
)

func of(activation string, temperature float64, labels ...string) *decoder {
	return &decoder{labels: labels, activation: activation, temperature: temperature}
}

func TestProbabilities(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	tests := []struct {
		name       string
		activation string
		t          float64
		in         []float32
		want       []float64
		err        string
	}{
		{name: "equal", activation: "softmax", t: 1, in: []float32{7, 7}, want: []float64{0.5, 0.5}},
		{name: "softmax", activation: "softmax", t: 1, in: []float32{0, float32(math.Log(3))}, want: []float64{0.25, 0.75}},
		{name: "temperature", activation: "softmax", t: 2, in: []float32{0, float32(math.Log(9))}, want: []float64{0.25, 0.75}},
		{name: "huge", activation: "softmax", t: 1, in: []float32{3e38, 3e38}, want: []float64{0.5, 0.5}},
		{name: "far apart", activation: "softmax", t: 1, in: []float32{3e38, -3e38}, want: []float64{1, 0}},
		{name: "tiny temperature", activation: "softmax", t: 1e-300, in: []float32{1, 0}, want: []float64{1, 0}},
		{name: "sigmoid, equal", activation: "sigmoid", t: 1, in: []float32{-3, -3}, want: []float64{0.5, 0.5}},
		{name: "sigmoid", activation: "sigmoid", t: 1, in: []float32{float32(math.Log(3)), 0}, want: []float64{0.6, 0.4}}, // 0.75 and 0.5
		{name: "sigmoid, temperature", activation: "sigmoid", t: 2, in: []float32{2 * float32(math.Log(3)), 0}, want: []float64{0.6, 0.4}},
		{name: "sigmoid, all unlikely", activation: "sigmoid", t: 1, in: []float32{-3e38, -3e38}, want: []float64{0.5, 0.5}},
		{name: "sigmoid, impossible label", activation: "sigmoid", t: 1, in: []float32{5, -inf}, want: []float64{1, 0}},
		{name: "sigmoid, NaN", activation: "sigmoid", t: 1, in: []float32{0, nan}, err: `label "b" is not a finite number`},
		{name: "impossible label", activation: "softmax", t: 1, in: []float32{0, -inf}, want: []float64{1, 0}},
		{name: "probabilities", activation: "none", t: 1, in: []float32{0.25, 0.75}, want: []float64{0.25, 0.75}},
		{name: "probabilities, temperature", activation: "none", t: 2, in: []float32{0.1, 0.9}, want: []float64{0.25, 0.75}},
		{name: "certain", activation: "none", t: 3, in: []float32{0, 1}, want: []float64{0, 1}},
		{name: "NaN", activation: "softmax", t: 1, in: []float32{0, nan}, err: `label "b" is not a finite number`},
		{name: "infinite", activation: "softmax", t: 1, in: []float32{inf, 0}, err: `label "a" is not a finite number`},
		{name: "NaN probability", activation: "none", t: 1, in: []float32{nan, 1}, err: "not a finite number"},
		{name: "negative probability", activation: "none", t: 1, in: []float32{-0.5, 1}, err: "no probability"},
		{name: "probability of 2", activation: "none", t: 1, in: []float32{2, 1}, err: "no probability"},
		{name: "nothing likely", activation: "none", t: 1, in: []float32{0, 0}, err: "no label any probability"},
		{name: "nothing possible", activation: "softmax", t: 1, in: []float32{-inf, -inf}, err: "no label any probability"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := of(tt.activation, tt.t, "a", "b").probabilities(tt.in)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || problem.Status(err) != 500 {
					t.Errorf("got %v, %v; want a 500 with %q", got, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if math.Abs(got[i]-tt.want[i]) > 1e-6 {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			}
		})
	}
}

func TestProbabilitiesProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Float32Range(-1e30, 1e30), 1, 50).Draw(t, "logits")
		c := of("softmax", rapid.Float64Range(1e-3, 1e3).Draw(t, "temperature"), make([]string, len(in))...)
		p, err := c.probabilities(in)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i := range p {
			sum += p[i]
			if !(p[i] >= 0 && p[i] <= 1) {
				t.Fatalf("probability %v", p[i])
			}
			for j := range p {
				if in[i] > in[j] && p[i] < p[j] {
					t.Fatalf("calibration changed the order of %v and %v", in[i], in[j])
				}
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("they add up to %v", sum)
		}
	})
}

func TestBest(t *testing.T) {
	c := of("softmax", 1, "a", "b", "c", "d")
	p := []float64{0.2, 0.3, 0.3, 0.2}
	for n, want := range map[int]string{1: "b", 2: "bc", 3: "bca", 0: "bcad", 9: "bcad"} {
		var got []string
		for _, x := range c.best(p, n) {
			got = append(got, x.Label)
		}
		if s := strings.Join(got, ""); s != want {
			t.Errorf("best %d: %s, want %s", n, s, want)
		}
	}
	if !slices.Equal(p, []float64{0.2, 0.3, 0.3, 0.2}) {
		t.Error("best changed its input")
	}
}

// A zipmap's columns are the package's labels, in whatever order its keys are.
func TestZipMap(t *testing.T) {
	for _, tt := range []struct {
		name         string
		labels, keys []string
		want         []float32
		err          string
	}{
		{"by name", []string{"a", "b", "c"}, []string{"b", "c", "a"}, []float32{3, 1, 2}, ""},
		{"by position", []string{"a", "b", "c"}, []string{"0", "1", "2"}, []float32{1, 2, 3}, ""},
		{"by position, as text is sorted", []string{"a", "b", "c"}, []string{"0", "2", "1"}, []float32{1, 3, 2}, ""},
		{"numbers that are names", []string{"2", "1", "0"}, []string{"0", "1", "2"}, []float32{3, 2, 1}, ""},
		{"others", []string{"a", "b", "c"}, []string{"a", "b", "x"}, nil, "write the keys into its labels file"},
		{"too few", []string{"a", "b", "c"}, []string{"a", "b"}, nil, "the package has 3 labels"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := of("none", 1, tt.labels...)
			d.keys = tt.labels
			if err := d.learn(tt.keys); err != nil || tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if got := d.scores(onnx.Tensor{Shape: []int64{2, 3}, F32: []float32{1, 2, 3, 1, 2, 3}}, 2); !slices.Equal(got, append(tt.want, tt.want...)) {
				t.Errorf("%v, want twice %v", got, tt.want)
			}
		})
	}
}
