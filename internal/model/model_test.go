package model

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const valid = `apiVersion: aisle.dev/v1alpha1
kind: Model
name: photo
version: 1.0.0
model: {file: model.onnx, sha256: GRAPH}
labels: {file: labels.txt, sha256: LABELS}
reads: [images]
preprocess:
  kind: image
  image: {width: 96, height: 96, mean: [0.5, 0.5, 0.5], std: [0.3, 0.3, 0.3]}
inputs: [{name: image, datatype: FP32, shape: [-1, 3, 96, 96]}]
outputs: [{name: logits, datatype: FP32, shape: [-1, 2]}]
activation: softmax
temperature: 1.2
batchSizes: [1, 8]
provenance: {recipe: r, data: d, dataFiles: x, split: s}
`

// write makes a package of the given model.yaml, a graph and two labels, with
// the digests filled in.
func write(t *testing.T, yaml string) string { return writeLabels(t, yaml, "Shirts\nTies\n") }

func writeLabels(t *testing.T, yaml, labels string) string {
	t.Helper()
	dir := t.TempDir()
	graph := "not a graph: nothing here runs it"
	yaml = strings.NewReplacer("GRAPH", fmt.Sprintf("%x", sha256.Sum256([]byte(graph))), "LABELS", fmt.Sprintf("%x", sha256.Sum256([]byte(labels)))).Replace(yaml)
	for name, data := range map[string]string{"model.yaml": yaml, "model.onnx": graph, "labels.txt": labels} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoad(t *testing.T) {
	dir := write(t, valid)
	p, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if p.Spec.Name != "photo" || len(p.Labels) != 2 || p.Labels[1] != "Ties" || p.Graph != filepath.Join(dir, "model.onnx") {
		t.Errorf("%+v", p)
	}
	again, err := Load(write(t, valid))
	if err != nil || again.Digest != p.Digest || len(p.Digest) != len("sha256:")+64 {
		t.Errorf("digest %s, then %s (%v): the same bytes must have the same digest", p.Digest, again.Digest, err)
	}
	other, err := Load(write(t, strings.Replace(valid, "1.2", "1.3", 1)))
	if err != nil || other.Digest == p.Digest {
		t.Errorf("another temperature, the same digest (%v)", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct{ name, from, to, says string }{
		{"unknown field", "activation:", "activations:", "activations"},
		{"other kind", "kind: Model", "kind: Composition", "Composition"},
		{"name", "name: photo", "name: Photo!", "DNS label"},
		{"no version", "version: 1.0.0", "version: ''", "version"},
		{"reads nothing", "reads: [images]", "reads: []", "reads: it is empty"},
		{"reads the unknown", "reads: [images]", "reads: [images, price]", `"price"`},
		{"temperature", "temperature: 1.2", "temperature: 0", "temperature"},
		{"activation", "activation: softmax", "activation: relu", "relu"},
		{"batch sizes", "batchSizes: [1, 8]", "batchSizes: [8, 1]", "batchSizes"},
		{"preprocess", "kind: image\n", "kind: audio\n", "audio"},
		{"size", "width: 96", "width: 9600", "9600"},
		{"std", "std: [0.3,", "std: [0,", "std"},
		{"labels do not fit", "shape: [-1, 2]", "shape: [-1, 3]", "2 labels"},
		{"changed graph", "sha256: GRAPH", "sha256: " + strings.Repeat("0a", 32), "pins"},
		{"a file outside", "file: labels.txt", "file: ../labels.txt", "labels.txt"},
		{"missing file", "file: model.onnx", "file: graph.onnx", "graph.onnx"},
		{"ngrams without text", "kind: image\n  image: {width: 96, height: 96, mean: [0.5, 0.5, 0.5], std: [0.3, 0.3, 0.3]}", "kind: text/hashed-ngrams", "hashedNgrams"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.Replace(valid, tt.from, tt.to, 1)
			if changed == valid {
				t.Fatalf("%q is not in the valid file", tt.from)
			}
			if _, err := Load(write(t, changed)); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want a sentence with %q", err, tt.says)
			}
		})
	}
	for labels, says := range map[string]string{"Shirts\nShirts\n": `labels 1 and 2 are both "Shirts"`, "Shirts\r\nTies\r\n": `label 1 is "Shirts\r"`, "Shirts\n": "1 labels", "\nTies\n": `label 1 is ""`} {
		if _, err := Load(writeLabels(t, valid, labels)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("labels %q: %v, want a sentence with %q", labels, err, says)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("an absent folder was accepted")
	}
}
