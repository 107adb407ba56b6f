package servable_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx/onnxtest"
	"aisle.dev/aisle/internal/servable"
)

// classifier is a graph of one input and one output.
func classifier(in string, elem int, shape []int64, out []int64) []byte {
	var g onnxtest.Graph
	g.Input(in, elem, shape...)
	g.Output("logits", onnxtest.Float, out...)
	g.Node("Identity", []string{in}, []string{"logits"}, nil)
	return g.Model()
}

const (
	text = `reads: [title]
preprocess: {kind: text/string}
inputs: [{name: text, datatype: BYTES, shape: [-1, 1]}]
outputs: [{name: logits, datatype: FP32, shape: [-1, 2]}]
activation: softmax
temperature: 1
`
	zipmap = `reads: [title]
preprocess: {kind: none}
inputs: [{name: x, datatype: FP32, shape: [-1, 2]}]
outputs: [{name: probability, kind: zipmap, datatype: FP32, shape: [-1, 2]}]
`
)

// write makes a package of a body of model.yaml, a graph and labels.
func write(t *testing.T, body string, graph []byte, labels string) string {
	t.Helper()
	dir := t.TempDir()
	pinned := func(name string, data []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("{file: %s, sha256: \"%x\"}\n", name, sha256.Sum256(data))
	}
	head := "apiVersion: aisle.dev/v1alpha1\nkind: Model\nname: m\nversion: \"1\"\nbatchSizes: [1]\n"
	head += "model: " + pinned("model.onnx", graph) + "labels: " + pinned("labels.txt", []byte(labels))
	pinned("model.yaml", []byte(head+body))
	return dir
}

func TestLoad(t *testing.T) {
	right := classifier("text", onnxtest.String, []int64{-1, 1}, []int64{-1, 2})
	keys := strings.Replace(zipmap, "reads: [title]\n", "", 1)
	var external onnxtest.Graph
	external.Input("text", onnxtest.String, -1, 1)
	external.Output("logits", onnxtest.Float, -1, 2)
	external.External("w", "labels.txt", 0, 4, 1) // whatever file: it is there
	external.Node("Identity", []string{"w"}, []string{"logits"}, nil)
	newer := onnxtest.Graph{Opset: 99}
	newer.Input("text", onnxtest.String, -1, 1)
	newer.Output("logits", onnxtest.Float, -1, 2)
	newer.Node("Identity", []string{"text"}, []string{"logits"}, nil)
	for _, tt := range []struct {
		name, body string
		graph      []byte
		says       string // empty: it loads
	}{
		{"as declared", text, right, ""},
		{"the graph leaves a dimension open", text, classifier("text", onnxtest.String, []int64{-1, -1}, []int64{-1, -1}), ""},
		{"an input of another name", text, classifier("texts", onnxtest.String, []int64{-1, 1}, []int64{-1, 2}), `input "text": the graph has none of that name, but "texts" (BYTES [-1 1])`},
		{"an input of another type", text, classifier("text", onnxtest.Float, []int64{-1, 1}, []int64{-1, 2}), `input "text" is declared as BYTES; in the graph it is FP32 [-1 1]`},
		{"a graph of one row", text, classifier("text", onnxtest.String, []int64{1, 1}, []int64{1, 2}), "export the graph with a first dimension that varies"},
		{"a graph of more labels", text, classifier("text", onnxtest.String, []int64{-1, 1}, []int64{-1, 3}), `output "logits" is declared as [-1 2]; in the graph it is [-1 3]`},
		{"an output of another name", strings.Replace(text, "logits", "scores", 1), right, `output "scores": the graph has none of that name`},
		{"a tensor declared as ZipMap", strings.Replace(text, "name: logits", "name: logits, kind: zipmap", 1), right, `output "logits" is declared as zipmap; in the graph it is FP32`},
		{"weights that are not pinned", text, external.Model(), "the graph reads weights from labels.txt, which is not pinned"},
		{"weights that are not read", "externalData: [{file: labels.txt, sha256: \"" + fmt.Sprintf("%x", sha256.Sum256([]byte("7\n9\n"))) + "\"}]\n" + text, right, "the graph does not read labels.txt"},
		{"a newer opset", text, newer.Model(), "operator set 99"},
		{"a ZipMap as declared", keys, onnxtest.ZipMap([]int64{7, 9}), ""},
		{"a ZipMap declared as tensor", strings.Replace(keys, "kind: zipmap, ", "", 1), onnxtest.ZipMap([]int64{7, 9}), "declare it with kind: zipmap, and shape [-1, 2]"},
		{"a ZipMap of other keys", keys, onnxtest.ZipMap([]string{"7", "Ties"}), `label 2 must be "Ties"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := servable.Load(write(t, tt.body, tt.graph, "7\n9\n"))
			switch {
			case tt.says == "" && (err != nil || p == nil):
				t.Error(err)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("%v, want a sentence with %q", err, tt.says)
			}
		})
	}
}

// TestBare declares what a graph without a package has.
func TestBare(t *testing.T) {
	load := func(graph []byte) (*model.Package, error) {
		path := filepath.Join(t.TempDir(), "My Graph_2.onnx")
		if err := os.WriteFile(path, graph, 0o600); err != nil {
			t.Fatal(err)
		}
		return servable.Load(path)
	}
	p, err := load(classifier("a", onnxtest.Float16, []int64{-1, 3}, []int64{-1, 3}))
	if err != nil || p.Spec.Name != "my-graph-2" || p.Spec.Inputs[0].Datatype != "FP16" || !slices.Equal(p.Spec.BatchSizes, []int{1}) {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = load(classifier("a", onnxtest.Float, nil, nil))
	if err != nil || !slices.Equal(p.Spec.BatchSizes, []int{1}) || len(p.Spec.Inputs[0].Shape) != 0 {
		t.Errorf("a scalar: %+v, %v", p, err)
	}
	p, err = load(onnxtest.ZipMap([]string{"a", "b"}))
	if err != nil || len(p.Spec.Outputs) != 2 || p.Spec.Outputs[1].Kind != model.ZipMap || !slices.Equal(p.Spec.Outputs[1].Shape, []int64{-1, 2}) {
		t.Errorf("a ZipMap: %+v, %v", p, err)
	}
	var sequence onnxtest.Graph
	sequence.Input("x", onnxtest.Float, -1)
	sequence.Maps("m", onnxtest.Int64)
	sequence.Node("Identity", []string{"x"}, []string{"m"}, nil)
	if _, err = load(sequence.Model()); err == nil {
		t.Error("a graph without an output that can be served was loaded")
	}
	for _, text := range []string{"", "no graph", strings.Repeat("\x00", 100)} {
		if _, err := load([]byte(text)); err == nil {
			t.Errorf("%q was loaded", text)
		}
	}
}
