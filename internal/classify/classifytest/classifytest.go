// Package classifytest makes small model packages for tests: real graphs with
// weights that mean something, written by code, so that a test needs no
// trained model and knows what the answer must be.
package classifytest

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/internal/onnx/onnxtest"
)

// Title writes a package that reads title and attributes.usage, with the
// labels Shirts, Watches and Shoes: the label whose words (shirt, tee; watch,
// clock; shoe, sneaker) are in the title is the likeliest.
func Title(t testing.TB) string {
	t.Helper()
	config := ngrams.Config{Buckets: 4096, Words: [2]int{1, 1}, MaxTokens: 64, AttributeWeight: 0.5}
	table := make([][]float32, config.Buckets)
	for i := range table {
		table[i] = make([]float32, 3)
	}
	for label, words := range [][]string{{"shirt", "tee"}, {"watch", "clock"}, {"shoe", "sneaker"}} {
		for _, w := range words {
			ids, _ := config.Features([]ngrams.Field{{Name: "title", Text: w}})
			for _, id := range ids {
				table[id][label] = 8
			}
		}
	}
	spec := base("title", []string{"Shirts", "Watches", "Shoes"})
	spec.Reads = []string{"title", "attributes.usage"}
	spec.Preprocess = model.Preprocess{Kind: "text/hashed-ngrams", HashedNgrams: &config}
	spec.Inputs = []model.Tensor{{Name: "ids", Datatype: "INT32", Shape: []int64{-1, -1}}, {Name: "weights", Datatype: "FP32", Shape: []int64{-1, -1}}}
	return Write(t, spec, onnxtest.Bag(table, onnxtest.Int32), []string{"Shirts", "Watches", "Shoes"})
}

// Photo writes a package that reads images, of 8x8, with the labels Red,
// Green and Blue: the channel with the highest mean is the likeliest.
func Photo(t testing.TB) string {
	t.Helper()
	spec := base("photo", []string{"Red", "Green", "Blue"})
	spec.Reads = []string{"images"}
	spec.Preprocess = model.Preprocess{Kind: "image", Image: &model.Image{Width: 8, Height: 8, Std: [3]float32{1, 1, 1}}}
	spec.Inputs = []model.Tensor{{Name: "image", Datatype: "FP32", Shape: []int64{-1, 3, 8, 8}}}
	return Write(t, spec, onnxtest.Colour([][]float32{{9, 0, 0}, {0, 9, 0}, {0, 0, 9}}), []string{"Red", "Green", "Blue"})
}

// Tensors writes a package without preprocessing: y = x, of [batch, 1].
func Tensors(t testing.TB) string {
	t.Helper()
	spec := base("tensors", []string{"y"})
	spec.Preprocess = model.Preprocess{Kind: model.None}
	spec.Activation, spec.Temperature, spec.Reads = "", 0, nil
	spec.Inputs = []model.Tensor{{Name: "x", Datatype: "FP32", Shape: []int64{-1, 1}}}
	spec.Outputs[0].Tensor = model.Tensor{Name: "y", Datatype: "FP32", Shape: []int64{-1, 1}}
	return Write(t, spec, onnxtest.Linear([][]float32{{1}}), []string{"y"})
}

func base(name string, labels []string) model.Spec {
	return model.Spec{
		APIVersion: model.APIVersion, Kind: model.Kind, Name: name, Version: "1.0.0", Description: "a test's model",
		Outputs:    []model.Output{{Tensor: model.Tensor{Name: "logits", Datatype: "FP32", Shape: []int64{-1, int64(len(labels))}}}},
		Activation: "softmax", Temperature: 1, BatchSizes: []int{1, 4},
		Provenance: model.Provenance{Recipe: "none", Data: "none", DataFiles: "none", Split: "none"},
	}
}

// Write writes a package of the given spec, with its digests filled in, and
// returns its folder.
func Write(t testing.TB, spec model.Spec, graph []byte, labels []string) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, data []byte) model.File {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		return model.File{File: name, SHA256: hex.EncodeToString(sum[:])}
	}
	spec.Model = put("model.onnx", graph)
	spec.Labels = put("labels.txt", []byte(strings.Join(labels, "\n")+"\n"))
	raw, err := yaml.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	put("model.yaml", raw)
	return dir
}
