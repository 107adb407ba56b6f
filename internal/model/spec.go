package model

import (
	"fmt"
	"strings"
	"time"

	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/internal/product"
)

// APIVersion and Kind open every model.yaml.
const (
	APIVersion = "aisle.dev/v1alpha1"
	Kind       = "Model"
)

// Values of [Preprocess.Kind].
const (
	HashedNgrams = "text/hashed-ngrams" // ids and weights of hashed n-grams
	TextString   = "text/string"        // the text itself, as graphs of skl2onnx take it
	WordPiece    = "text/wordpiece"     // token ids of a transformer's tokenizer
	Picture      = "image"              // pixels
	None         = "none"               // nothing: the graph's own tensors are served
)

// Values of [Spec.Activation].
const (
	Softmax  = "softmax" // the graph ends in logits, of which one is right
	Sigmoid  = "sigmoid" // the graph ends in logits, each of its own question
	Identity = "none"    // the graph ends in probabilities
)

// Values of [Output.Kind].
const (
	Dense  = "tensor"
	ZipMap = "zipmap" // a sequence of maps from label to probability, as skl2onnx writes it
)

// Spec is the content of a model.yaml. docs/models.md is its reference, and
// [Schema] its JSON Schema. What [Load] gives has every default filled in.
type Spec struct {
	APIVersion  string `json:"apiVersion"`
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`

	Model File `json:"model"` // the ONNX graph
	// ExternalData lists the files in which the graph keeps weights.
	ExternalData []File `json:"externalData,omitempty"`
	// Labels has one of the graph's labels a line, in the order of the
	// output. Without preprocessing it may be left out.
	Labels File `json:"labels,omitzero"`
	// LabelMap renames labels: the graph's -> the answer's. What it does not
	// name keeps its name.
	LabelMap map[string]string `json:"labelMap,omitempty"`

	// Reads lists the product's fields that the model reads: title,
	// description, brand, attributes.NAME, images. Text fields are joined in
	// this order.
	Reads []string `json:"reads,omitempty"`

	Preprocess Preprocess `json:"preprocess"`
	Inputs     []Tensor   `json:"inputs"` // in the order in which the preprocessing gives them
	// Outputs is one, [batch, labels]; the graph may have others. Without
	// preprocessing it is all those that are served.
	Outputs []Output `json:"outputs"`

	// Activation makes probabilities of the output: Softmax, Sigmoid (each
	// label by itself, then divided by their sum) or Identity. Without
	// preprocessing it and Temperature are not set.
	Activation string `json:"activation,omitempty"`
	// Temperature T > 0 calibrates: logits are divided by T; probabilities p
	// become p^(1/T), renormalised. Fitted on validation.
	Temperature float64 `json:"temperature,omitempty"`

	// BatchSizes are the batch sizes that are warmed, ascending, the first 1;
	// the last is the largest batch formed.
	BatchSizes []int `json:"batchSizes"`
	// MaxDelay is how long a request may wait for others to share its batch.
	// 0: none waits, and a batch is what is queued.
	MaxDelay Duration `json:"maxDelay,omitzero"`
	// Threads run one batch together. 0: as many as the CPU limit allows.
	Threads int `json:"threads,omitempty"`

	// Examples are products and what is to be said of them.
	Examples []Example `json:"examples,omitempty"`

	Provenance Provenance         `json:"provenance"`
	Metrics    map[string]float64 `json:"metrics,omitempty"` // measured on the test split
}

// File names a file of the package and pins its content.
type File struct {
	File   string `json:"file"` // its name; it lies beside model.yaml
	SHA256 string `json:"sha256"`
}

// Tensor describes a graph input or output. Shape has -1 for what varies.
type Tensor struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"` // one of [Datatypes]
	Shape    []int64 `json:"shape"`
}

// Output describes a graph output. A ZipMap is declared as the tensor
// [batch, labels] that its values make.
type Output struct {
	Tensor
	Kind string `json:"kind,omitempty"` // Dense (default) or ZipMap
}

// Preprocess says how a product becomes tensors. Of the pointers, exactly the
// one that Kind names is set: TextString and None have none.
type Preprocess struct {
	Kind string `json:"kind"`
	// Join is put between the text fields, for TextString and WordPiece; a
	// space by default.
	Join         *string        `json:"join,omitempty"`
	HashedNgrams *ngrams.Config `json:"hashedNgrams,omitempty"`
	Wordpiece    *Wordpiece     `json:"wordpiece,omitempty"`
	Image        *Image         `json:"image,omitempty"`
}

// Wordpiece is the preprocessing of a text into token ids. Which tensors are
// given is said by the declared inputs, among input_ids, attention_mask and
// token_type_ids, each [batch, tokens].
type Wordpiece struct {
	Tokenizer File `json:"tokenizer"` // tokenizer.json of a WordPiece model
	MaxTokens int  `json:"maxTokens"` // the special tokens included; what is beyond is cut off
}

// Image is the preprocessing of a picture into one tensor of the declared
// input's datatype (FP32, FP16 or UINT8): decoded, put over white where it is
// transparent, resized by an antialiased triangle filter; then, unless UINT8,
// times Scale, minus Mean, over Std, per channel in the order of Channels.
type Image struct {
	Width  int `json:"width"`
	Height int `json:"height"`
	// Resize is Squash (default), which does not keep the aspect, or Crop.
	Resize string `json:"resize,omitempty"`
	// CropRatio is, for Crop, how much of the resized picture's shorter side
	// is kept: the picture is resized to cover (Width, Height) / CropRatio, and
	// its centre taken. 1 by default; torchvision's usual 256 to 224 is 0.875.
	CropRatio float64  `json:"cropRatio,omitempty"`
	Channels  string   `json:"channels,omitempty"` // RGB (default), BGR or L
	Scale     *float32 `json:"scale,omitempty"`    // 1/255 by default
	// Mean and Std are given unless the input is UINT8, whose pixels are 0 to
	// 255 as they are. Of channel L, the first number counts.
	Mean   [3]float32 `json:"mean,omitzero"`
	Std    [3]float32 `json:"std,omitzero"`
	Layout string     `json:"layout,omitempty"` // NCHW (default) or NHWC
}

// Values of [Image.Resize], [Image.Channels] and [Image.Layout].
const (
	Squash = "squash"
	Crop   = "crop"
	RGB    = "RGB"
	BGR    = "BGR"
	Grey   = "L"
	NCHW   = "NCHW"
	NHWC   = "NHWC"
)

// Depth is the number of channels.
func (im Image) Depth() int {
	if im.Channels == Grey {
		return 1
	}
	return 3
}

// Example is a product, or a picture of the package, and what is to be said
// of it: the likeliest label, and at least how likely.
type Example struct {
	Product *product.Product `json:"product,omitempty"`
	Image   string           `json:"image,omitempty"` // path in the package's folder
	Label   string           `json:"label"`           // as in the answer
	AtLeast float64          `json:"atLeast,omitempty"`
}

// Duration is a time.Duration, written as text such as 2ms.
type Duration time.Duration

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration such as 500us or 2ms.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration such as 2ms", text)
	}
	*d = Duration(v)
	return nil
}

// Provenance says what a model was made of and by what.
type Provenance struct {
	Recipe    string            `json:"recipe"`    // path of the recipe in the repository
	Data      string            `json:"data"`      // name of the training data
	DataFiles string            `json:"dataFiles"` // sha256 over the training data's files
	Split     string            `json:"split"`     // the split rule's name
	Versions  map[string]string `json:"versions,omitempty"`
}

// Files are all files that model.yaml pins, the graph first.
func (s Spec) Files() []File {
	files := append([]File{s.Model}, s.ExternalData...)
	if s.Labels != (File{}) {
		files = append(files, s.Labels)
	}
	if w := s.Preprocess.Wordpiece; w != nil {
		files = append(files, w.Tokenizer)
	}
	return files
}

// InputNames and OutputNames are the declared names, as a session wants them.
func (s Spec) InputNames() []string {
	names := make([]string, len(s.Inputs))
	for i, t := range s.Inputs {
		names[i] = t.Name
	}
	return names
}

// OutputNames: see [Spec.InputNames].
func (s Spec) OutputNames() []string {
	names := make([]string, len(s.Outputs))
	for i, o := range s.Outputs {
		names[i] = o.Name
	}
	return names
}

// setDefaults fills in what was left out.
func (s *Spec) setDefaults() {
	for i := range s.Outputs {
		orDefault(&s.Outputs[i].Kind, Dense)
	}
	p := &s.Preprocess
	if p.Join == nil && (p.Kind == TextString || p.Kind == WordPiece) {
		p.Join = new(" ")
	}
	if p.Image != nil {
		*p.Image = p.Image.WithDefaults()
	}
}

// WithDefaults returns im with what was left out filled in.
func (im Image) WithDefaults() Image {
	orDefault(&im.Resize, Squash)
	orDefault(&im.CropRatio, 1)
	orDefault(&im.Channels, RGB)
	orDefault(&im.Layout, NCHW)
	if im.Scale == nil {
		im.Scale = new(float32(1. / 255))
	}
	return im
}

func orDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// isName reports whether s is a DNS label (RFC 1123). A regular expression would
// be compiled at every cold start.
func isName(s string) bool {
	return len(s) >= 1 && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
