// Package model reads model packages: a folder with model.yaml, the ONNX
// graph, its labels and a card.
//
// A package is encapsulated: model.yaml says which fields of a product the
// model reads, how they become tensors, and how the graph's output becomes
// calibrated probabilities, so that adding a classifier touches no code. Its
// [Package.Digest] names its content; two packages with the same digest
// answer alike. This package reads and checks; it runs nothing.
package model

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/internal/product"
)

// APIVersion and Kind open every model.yaml.
const (
	APIVersion = "aisle.dev/v1alpha1"
	Kind       = "Model"
)

// Spec is the content of a model.yaml.
type Spec struct {
	APIVersion  string `json:"apiVersion"`
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`

	Model  File `json:"model"`  // the ONNX graph
	Labels File `json:"labels"` // one label a line, in the order of the output

	// Reads lists the product's fields that the model reads: title,
	// description, brand, attributes.NAME, images. Text fields are joined in
	// this order.
	Reads []string `json:"reads"`

	Preprocess Preprocess `json:"preprocess"`
	Inputs     []Tensor   `json:"inputs"`  // in the order in which the preprocessing gives them
	Outputs    []Tensor   `json:"outputs"` // exactly one: [batch, labels]

	// Activation of the output: "softmax" for logits, "none" for a graph that
	// ends in probabilities.
	Activation string `json:"activation"`
	// Temperature T > 0 calibrates: p becomes p^(1/T), renormalised (logits
	// are divided by T). Fitted on validation.
	Temperature float64 `json:"temperature"`

	// BatchSizes are the batch sizes that are warmed, ascending, the first 1;
	// the last is the largest batch formed.
	BatchSizes []int `json:"batchSizes"`

	Provenance Provenance         `json:"provenance"`
	Metrics    map[string]float64 `json:"metrics,omitempty"` // measured on the test split
}

// File names a file of the package and pins its content.
type File struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

// Tensor describes a graph input or output. Shape has -1 for what varies.
type Tensor struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"` // as in the Open Inference Protocol: FP32, INT32, INT64
	Shape    []int64 `json:"shape"`
}

// Preprocess says how a product becomes tensors. Exactly the field that Kind
// names is set.
type Preprocess struct {
	Kind         string         `json:"kind"` // "text/hashed-ngrams" or "image"
	HashedNgrams *ngrams.Config `json:"hashedNgrams,omitempty"`
	Image        *Image         `json:"image,omitempty"`
}

// Image is the preprocessing of a picture into one FP32 tensor [1, 3, height,
// width]: decoded to RGB, transparency over white, resized without keeping
// the aspect by an antialiased triangle filter, scaled to [0, 1], minus Mean,
// over Std (per channel, R G B).
type Image struct {
	Width  int        `json:"width"`
	Height int        `json:"height"`
	Mean   [3]float32 `json:"mean"`
	Std    [3]float32 `json:"std"`
}

// Provenance says what a model was made of and by what.
type Provenance struct {
	Recipe    string            `json:"recipe"`    // path of the recipe in the repository
	Data      string            `json:"data"`      // name of the training data
	DataFiles string            `json:"dataFiles"` // sha256 over the training data's files
	Split     string            `json:"split"`     // the split rule's name
	Versions  map[string]string `json:"versions,omitempty"`
}

// Package is a model package that has been read and checked.
type Package struct {
	Spec   Spec
	Dir    string
	Labels []string
	Graph  string // path of the ONNX file
	Digest string // "sha256:..." over model.yaml, which pins the other files
}

// isName reports whether s is a DNS label (RFC 1123). A regular expression would
// be compiled at every cold start.
func isName(s string) bool {
	return len(s) >= 1 && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Load reads the package in dir and checks it: strict YAML, the files'
// digests, and that the parts fit each other. The graph is read once, for its
// digest; use [Package.Graph] to open it.
func Load(dir string) (*Package, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "model.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read model package %s: %w", dir, err)
	}
	p := &Package{Dir: dir}
	if err := yaml.UnmarshalStrict(raw, &p.Spec); err != nil {
		return nil, fmt.Errorf("model package %s: model.yaml: %w", dir, err)
	}
	if err := p.Spec.validate(); err != nil {
		return nil, fmt.Errorf("model package %s: model.yaml: %w", dir, err)
	}
	labels, err := p.Spec.Labels.read(dir)
	if err != nil {
		return nil, fmt.Errorf("model package %s: %w", dir, err)
	}
	p.Labels = strings.Split(strings.TrimRight(string(labels), "\n"), "\n")
	if want := p.Spec.Outputs[0].Shape[1]; int64(len(p.Labels)) != want {
		return nil, fmt.Errorf("model package %s: %d labels, but output %s has %d", dir, len(p.Labels), p.Spec.Outputs[0].Name, want)
	}
	seen := make(map[string]int, len(p.Labels))
	for i, l := range p.Labels {
		if l == "" || l != strings.TrimSpace(l) {
			return nil, fmt.Errorf("model package %s: label %d is %q: want a name without space around it on each line", dir, i+1, l)
		}
		if first, twice := seen[l]; twice {
			return nil, fmt.Errorf("model package %s: labels %d and %d are both %q", dir, first, i+1, l)
		}
		seen[l] = i + 1
	}
	if _, err := p.Spec.Model.read(dir); err != nil {
		return nil, fmt.Errorf("model package %s: %w", dir, err)
	}
	p.Graph = filepath.Join(dir, p.Spec.Model.File)
	sum := sha256.Sum256(raw)
	p.Digest = "sha256:" + hex.EncodeToString(sum[:])
	return p, nil
}

func (f File) read(dir string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	data, err := root.ReadFile(f.File)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != f.SHA256 {
		return nil, fmt.Errorf("%s has sha256 %x, but model.yaml pins %s", f.File, sum, f.SHA256)
	}
	return data, nil
}

func (s Spec) validate() error {
	switch {
	case s.APIVersion != APIVersion || s.Kind != Kind:
		return fmt.Errorf("apiVersion %q, kind %q: want %q, %q", s.APIVersion, s.Kind, APIVersion, Kind)
	case !isName(s.Name):
		return fmt.Errorf("name %q is not a DNS label", s.Name)
	case s.Version == "":
		return fmt.Errorf("version is missing")
	case len(s.Reads) == 0:
		return fmt.Errorf("reads is empty: which fields of a product does the model read?")
	case len(s.Outputs) != 1 || len(s.Outputs[0].Shape) != 2:
		return fmt.Errorf("outputs: want one of shape [batch, labels]")
	case s.Activation != "softmax" && s.Activation != "none":
		return fmt.Errorf("activation %q: want softmax or none", s.Activation)
	case !(s.Temperature > 0) || math.IsInf(s.Temperature, 0):
		return fmt.Errorf("temperature %v: want a number above 0", s.Temperature)
	case len(s.BatchSizes) == 0 || s.BatchSizes[0] != 1 || !slices.IsSorted(s.BatchSizes) || slices.Max(s.BatchSizes) > 1024:
		return fmt.Errorf("batchSizes %v: want ascending sizes that begin with 1, at most 1024", s.BatchSizes)
	}
	images := slices.Contains(s.Reads, "images")
	for _, f := range s.Reads {
		if !product.IsField(f) {
			return fmt.Errorf("reads: unknown field %q; want title, description, brand, images or attributes.NAME", f)
		}
	}
	switch s.Preprocess.Kind {
	case "text/hashed-ngrams":
		if s.Preprocess.HashedNgrams == nil || s.Preprocess.Image != nil || images {
			return fmt.Errorf("preprocess %s: wants hashedNgrams, no image, and text fields in reads", s.Preprocess.Kind)
		}
		if len(s.Inputs) != 2 {
			return fmt.Errorf("preprocess %s gives 2 tensors, inputs names %d", s.Preprocess.Kind, len(s.Inputs))
		}
		return s.Preprocess.HashedNgrams.Validate()
	case "image":
		im := s.Preprocess.Image
		if im == nil || s.Preprocess.HashedNgrams != nil || !images || len(s.Reads) != 1 {
			return fmt.Errorf("preprocess image: wants image, no hashedNgrams, and reads: [images]")
		}
		if len(s.Inputs) != 1 {
			return fmt.Errorf("preprocess image gives 1 tensor, inputs names %d", len(s.Inputs))
		}
		if im.Width < 1 || im.Height < 1 || im.Width > 1024 || im.Height > 1024 {
			return fmt.Errorf("preprocess image: size %dx%d: want 1 to 1024 each way", im.Width, im.Height)
		}
		for _, v := range im.Std {
			if !(v > 0) {
				return fmt.Errorf("preprocess image: std %v: want numbers above 0", im.Std)
			}
		}
		return nil
	}
	return fmt.Errorf("preprocess kind %q: want text/hashed-ngrams or image", s.Preprocess.Kind)
}

// Check is an error unless the package has the digest: whoever deploys a model
// names what it must be.
func (p *Package) Check(digest string) error {
	if p.Digest != digest {
		return fmt.Errorf("model package %s has the digest %s; the manifest wants %q", p.Dir, p.Digest, digest)
	}
	return nil
}
