package model

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/internal/product"
)

// Bounds of a package.
const (
	MaxSpec       = 1 << 20  // bytes of a model.yaml
	MaxLabelBytes = 16 << 20 // of the labels' file
	MaxLabels     = 100_000
	MaxLabel      = 256      // bytes of a label
	MaxTokenizer  = 64 << 20 // bytes of a tokenizer.json
	MaxTokens     = 4096     // of one text
	MaxBatch      = 1024
	MaxSide       = 1024 // pixels of a picture's width or height, as the graph sees it
	MaxDelay      = time.Second
	MaxThreads    = 256
	MaxExamples   = 1000
	maxPorts      = 256 // inputs, outputs, external files
	maxRank       = 16
	maxName       = 256 // bytes of an input's or output's name
	maxReads      = product.MaxAttributes + 4
)

// Datatypes are the element types of tensors, as the Open Inference Protocol
// names them.
func Datatypes() []string {
	return []string{"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES"}
}

// checker collects what is wrong with a spec.
type checker struct{ problems []error }

// want adds a problem unless ok. at is the field.
func (c *checker) want(ok bool, at, format string, args ...any) bool {
	if !ok {
		c.problems = append(c.problems, fmt.Errorf(at+": "+format, args...))
	}
	return ok
}

// Problems are all that is wrong with s by itself, each with its field and
// what to do. Files are not looked at.
func (s Spec) Problems() []error {
	c := new(checker)
	c.want(s.APIVersion == APIVersion, "apiVersion", "%q: want %s", s.APIVersion, APIVersion)
	c.want(s.Kind == Kind, "kind", "%q: want %s", s.Kind, Kind)
	c.want(isName(s.Name), "name", "%q is not a DNS label: want lower-case letters, digits and hyphens, at most 63", s.Name)
	c.want(isVersion(s.Version), "version", "%q: want 1 to 64 letters, digits, dots, hyphens, underscores or pluses", s.Version)

	c.file("model", s.Model)
	c.want(len(s.ExternalData) <= maxPorts, "externalData", "%d files: want at most %d", len(s.ExternalData), maxPorts)
	for i, f := range s.ExternalData {
		c.file(fmt.Sprintf("externalData[%d]", i), f)
	}
	c.tensors("inputs", s.Inputs)
	outputs := make([]Tensor, len(s.Outputs))
	for i, o := range s.Outputs {
		outputs[i] = o.Tensor
		c.want(o.Kind == "" || o.Kind == Dense || o.Kind == ZipMap, fmt.Sprintf("outputs[%d].kind", i), "%q: want %s or %s", o.Kind, Dense, ZipMap)
	}
	c.tensors("outputs", outputs)

	b := s.BatchSizes
	c.want(len(b) > 0 && b[0] == 1 && slices.IsSortedFunc(b, func(x, y int) int { return x - y - 1 }) && slices.Max(b) <= MaxBatch,
		"batchSizes", "%v: want ascending sizes that begin with 1, at most %d", b, MaxBatch)
	d := time.Duration(s.MaxDelay)
	c.want(d >= 0 && d <= MaxDelay, "maxDelay", "%s: want 0s to %s", d, MaxDelay)
	c.want(s.Threads >= 0 && s.Threads <= MaxThreads, "threads", "%d: want 1 to %d, or leave it out for as many as the CPU limit allows", s.Threads, MaxThreads)

	if s.Preprocess.Kind == None {
		c.tensorsOnly(s)
	} else {
		c.product(s)
	}
	c.preprocess(s)
	return c.problems
}

// tensorsOnly checks what holds where there is no preprocessing.
func (c *checker) tensorsOnly(s Spec) {
	const why = "leave it out: without preprocessing the graph's own tensors are served"
	c.want(len(s.Reads) == 0, "reads", "%v: %s", s.Reads, why)
	c.want(s.Activation == "", "activation", "%q: %s", s.Activation, why)
	c.want(s.Temperature == 0, "temperature", "%v: %s", s.Temperature, why)
	c.want(len(s.LabelMap) == 0, "labelMap", why)
	c.want(len(s.Examples) == 0, "examples", why)
	if s.Labels != (File{}) {
		c.file("labels", s.Labels)
	}
}

// product checks what makes predictions of products.
func (c *checker) product(s Spec) {
	c.file("labels", s.Labels)
	c.want(len(s.LabelMap) <= MaxLabels, "labelMap", "%d labels: want at most %d", len(s.LabelMap), MaxLabels)
	for from, to := range s.LabelMap {
		c.want(isLabel(from) && isLabel(to), "labelMap", "%.80q: %.80q: want labels of 1 to %d bytes without space around them", from, to, MaxLabel)
	}

	c.want(len(s.Reads) > 0, "reads", "it is empty: which fields of a product does the model read?")
	c.want(len(s.Reads) <= maxReads, "reads", "%d fields: want at most %d", len(s.Reads), maxReads)
	for i, f := range s.Reads {
		c.want(product.IsField(f), fmt.Sprintf("reads[%d]", i), "unknown field %q; want title, description, brand, images or attributes.NAME", f)
		c.want(!slices.Contains(s.Reads[:i], f), fmt.Sprintf("reads[%d]", i), "%s is there twice", f)
	}

	if c.want(len(s.Outputs) == 1, "outputs", "%d are declared: want one, of shape [batch, labels]; the graph may have others", len(s.Outputs)) {
		o := s.Outputs[0]
		c.want(o.Datatype == "FP32", "outputs[0].datatype", "%q: want FP32; add a Cast to the graph where it gives something else", o.Datatype)
		c.want(len(o.Shape) == 2 && (o.Shape[0] == -1 || o.Shape[0] == 1) && o.Shape[1] >= 1 && o.Shape[1] <= MaxLabels,
			"outputs[0].shape", "%v: want one of shape [batch, labels], such as [-1, 30]", o.Shape)
	}
	for i, in := range s.Inputs {
		if len(in.Shape) > 0 && in.Shape[0] != -1 {
			c.want(in.Shape[0] == 1 && slices.Equal(s.BatchSizes, []int{1}), fmt.Sprintf("inputs[%d].shape", i),
				"%v: the first dimension is the batch: want -1, or 1 with batchSizes [1]", in.Shape)
		}
	}

	c.want(s.Activation == Softmax || s.Activation == Sigmoid || s.Activation == Identity, "activation",
		"%q: want softmax or sigmoid for logits, none for a graph that ends in probabilities", s.Activation)
	c.want(s.Temperature > 0 && !math.IsInf(s.Temperature, 0), "temperature", "%v: want a number above 0; 1 calibrates nothing", s.Temperature)

	c.want(len(s.Examples) <= MaxExamples, "examples", "%d: want at most %d", len(s.Examples), MaxExamples)
	for i, e := range s.Examples {
		c.example(fmt.Sprintf("examples[%d]", i), e, slices.Equal(s.Reads, []string{"images"}))
	}
}

func (c *checker) example(at string, e Example, pictures bool) {
	if c.want((e.Product != nil) != (e.Image != ""), at, "want either a product or an image") {
		if e.Product != nil {
			err := e.Product.Validate()
			c.want(err == nil, at+".product", "%v", err)
		} else {
			c.want(pictures, at+".image", "the model reads other than images: give a product")
			c.want(isPath(e.Image), at+".image", "%.80q: %s", e.Image, wantPath)
		}
	}
	c.want(isLabel(e.Label), at+".label", "%.80q: want the label of the answer", e.Label)
	c.want(e.AtLeast >= 0 && e.AtLeast <= 1, at+".atLeast", "%v: want a probability, 0 to 1", e.AtLeast)
}

const wantPath = "want a path in the package's folder, with slashes, and no part that begins with a dot"

func (c *checker) file(at string, f File) {
	if f == (File{}) {
		c.want(false, at, "it is missing: want a file and its sha256")
		return
	}
	c.want(isFile(f.File), at+".file", "%.80q: want the name of a file beside model.yaml, which does not begin with a dot", f.File)
	c.want(len(f.SHA256) == 64 && strings.Trim(f.SHA256, "0123456789abcdef") == "", at+".sha256",
		"%.80q is not 64 hexadecimal digits (`aisle model validate --write-digests` writes them)", f.SHA256)
}

func (c *checker) tensors(at string, tensors []Tensor) {
	c.want(len(tensors) > 0, at, "it is empty: want the graph's %s (`aisle model inspect` on the .onnx file prints them)", at)
	c.want(len(tensors) <= maxPorts, at, "%d: want at most %d", len(tensors), maxPorts)
	seen := make(map[string]bool, len(tensors))
	for i, t := range tensors {
		at := fmt.Sprintf("%s[%d]", at, i)
		c.want(t.Name != "" && len(t.Name) <= maxName, at+".name", "%.80q: want a name of 1 to %d bytes", t.Name, maxName)
		c.want(!seen[t.Name], at+".name", "%.80q is there twice", t.Name)
		seen[t.Name] = true
		c.want(slices.Contains(Datatypes(), t.Datatype), at+".datatype", "%q: want one of %s", t.Datatype, strings.Join(Datatypes(), ", "))
		c.want(t.Shape != nil && len(t.Shape) <= maxRank && !slices.ContainsFunc(t.Shape, func(d int64) bool { return d < -1 || d > math.MaxInt32 }),
			at+".shape", "%v: want at most %d dimensions, each -1 where it varies, else 0 to %d", t.Shape, maxRank, math.MaxInt32)
	}
}

// isPath wants a path that stays in the folder, whoever reads it. Parts that
// begin with a dot are what Kubernetes puts beside a ConfigMap's files.
func isPath(s string) bool {
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '\\' || r == 0x7f }) {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || part[0] == '.' {
			return false
		}
	}
	return true
}

// isFile wants a file beside model.yaml: packages are flat, so that they fit
// into a ConfigMap and a layer alike.
func isFile(s string) bool { return isPath(s) && !strings.Contains(s, "/") }

func isVersion(s string) bool {
	return len(s) >= 1 && len(s) <= 64 &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-") == ""
}

func isLabel(s string) bool {
	return s != "" && len(s) <= MaxLabel && s == strings.TrimSpace(s) && !strings.ContainsAny(s, "\x00\n\r")
}
