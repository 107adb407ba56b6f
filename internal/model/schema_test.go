package model

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

var sum = strings.Repeat("0a", 32) // a digest, as far as a model.yaml alone can tell

// good are files that are right, one at least for each kind of preprocessing.
var good = map[string]string{
	"hashed n-grams": `
labels: {file: labels.txt, sha256: SUM}
reads: [title, attributes.colour]
preprocess: {kind: text/hashed-ngrams, hashedNgrams: {buckets: 4096, words: [1, 2], chars: [0, 0], maxTokens: 64, attributeWeight: 0.5}}
inputs: [{name: ids, datatype: INT64, shape: [-1, -1]}, {name: weights, datatype: FP32, shape: [-1, -1]}]
outputs: [{name: logits, datatype: FP32, shape: [-1, 2]}]
activation: softmax
temperature: 1
batchSizes: [1, 8]
`,
	"string and ZipMap": `
labels: {file: labels.txt, sha256: SUM}
labelMap: {"0": Shirts, "1": Ties}
reads: [title, brand, description]
preprocess: {kind: text/string, join: " | "}
inputs: [{name: text, datatype: BYTES, shape: [-1, 1]}]
outputs: [{name: probabilities, kind: zipmap, datatype: FP32, shape: [-1, 2]}]
activation: none
temperature: 0.8
batchSizes: [1]
maxDelay: 1.5ms
threads: 2
examples:
- {product: {title: A shirt, attributes: {colour: blue}}, label: Shirts, atLeast: 0.5}
`,
	"word pieces": `
labels: {file: labels.txt, sha256: SUM}
externalData: [{file: model.onnx.data, sha256: SUM}]
reads: [title]
preprocess: {kind: text/wordpiece, wordpiece: {tokenizer: {file: tokenizer.json, sha256: SUM}, maxTokens: 64}}
inputs:
- {name: input_ids, datatype: INT64, shape: [-1, -1]}
- {name: attention_mask, datatype: INT64, shape: [-1, 64]}
outputs: [{name: logits, datatype: FP32, shape: [-1, 2]}]
activation: sigmoid
temperature: 1
batchSizes: [1, 2, 4]
provenance: {recipe: r, versions: {torch: 2.9.1}}
metrics: {accuracy: 0.9}
`,
	"picture": `
labels: {file: labels.txt, sha256: SUM}
reads: [images]
preprocess: {kind: image, image: {width: 224, height: 192, resize: crop, cropRatio: 0.875, channels: BGR, scale: 1, mean: [104, 117, 123], std: [1, 1, 1], layout: NHWC}}
inputs: [{name: image, datatype: FP16, shape: [1, 192, 224, 3]}]
outputs: [{name: logits, datatype: FP32, shape: [1, 2]}]
activation: softmax
temperature: 1
batchSizes: [1]
examples: [{image: pictures/shirt.jpg, label: Shirts}]
`,
	"bytes of a grey picture": `
labels: {file: labels.txt, sha256: SUM}
reads: [images]
preprocess: {kind: image, image: {width: 28, height: 28, channels: L}}
inputs: [{name: image, datatype: UINT8, shape: [-1, 1, 28, 28]}]
outputs: [{name: logits, datatype: FP32, shape: [-1, 2]}]
activation: softmax
temperature: 1
batchSizes: [1]
`,
	"tensors only": `
preprocess: {kind: none}
inputs: [{name: a, datatype: BF16, shape: [-1, 3]}, {name: flag, datatype: BOOL, shape: []}]
outputs: [{name: b, datatype: BYTES, shape: [0, 2, -1]}, {name: c, datatype: FP32, shape: [-1, 3], kind: zipmap}]
batchSizes: [1]
`,
}

const head = `apiVersion: aisle.dev/v1alpha1
kind: Model
name: a-model
version: 1.0.0
model: {file: model.onnx, sha256: SUM}
`

func file(body string) []byte { return []byte(strings.ReplaceAll(head+body, "SUM", sum)) }

// bad are changes of good files that make them wrong.
var bad = []struct {
	name, of, from, to, says string
	beyond                   bool // what no JSON Schema can say
}{
	{name: "unknown field", of: "picture", from: "activation:", to: "activations:", says: "activations is no field"},
	{name: "unknown field within", of: "picture", from: "width:", to: "wide:", says: "preprocess.image.wide is no field"},
	{name: "field in other case", of: "picture", from: "reads:", to: "Reads:", says: "Reads is no field"},
	{name: "other version of the format", of: "picture", from: "v1alpha1", to: "v2", says: "apiVersion"},
	{name: "other kind", of: "picture", from: "kind: Model", to: "kind: Composition", says: "Composition"},
	{name: "name", of: "picture", from: "a-model", to: "A_model", says: "DNS label"},
	{name: "name too long", of: "picture", from: "a-model", to: strings.Repeat("a", 64), says: "DNS label"},
	{name: "no version", of: "picture", from: "version: 1.0.0\n", to: "", says: "version"},
	{name: "version is a number", of: "picture", from: "1.0.0", to: "1.10", says: "version must be text, not a number: put it in quotes"},
	{name: "version with a slash", of: "picture", from: "1.0.0", to: "1/0", says: "version"},
	{name: "null", of: "picture", from: "version: 1.0.0", to: "version:", says: "version is empty"},
	{name: "no graph", of: "picture", from: "model: {file: model.onnx, sha256: SUM}\n", to: "", says: "model: it is missing"},
	{name: "graph outside", of: "picture", from: "file: model.onnx", to: "file: ../model.onnx", says: "model.file"},
	{name: "graph at an absolute path", of: "picture", from: "file: model.onnx", to: "file: /etc/passwd", says: "model.file"},
	{name: "graph in a folder", of: "picture", from: "file: model.onnx", to: "file: sub/model.onnx", says: "model.file"},
	{name: "digest", of: "picture", from: "model.onnx, sha256: SUM", to: "model.onnx, sha256: sha256:SUM", says: "model.sha256"},
	{name: "no labels", of: "picture", from: "labels: {file: labels.txt, sha256: SUM}\n", to: "", says: "labels: it is missing"},
	{name: "label map to nothing", of: "string and ZipMap", from: `"0": Shirts`, to: `"0": ""`, says: "labelMap"},
	{name: "reads nothing", of: "picture", from: "[images]", to: "[]", says: "reads: it is empty"},
	{name: "reads the unknown", of: "hashed n-grams", from: "[title,", to: "[price,", says: `"price"`},
	{name: "reads twice", of: "hashed n-grams", from: "[title,", to: "[title, title,", says: "twice"},
	{name: "text reads images", of: "hashed n-grams", from: "[title,", to: "[title, images,", says: "reads no images"},
	{name: "picture reads text", of: "picture", from: "[images]", to: "[images, title]", says: "want [images]"},
	{name: "kind of preprocessing", of: "picture", from: "kind: image", to: "kind: audio", says: "audio"},
	{name: "kind without its part", of: "picture", from: "kind: image,", to: "kind: text/wordpiece,", says: "preprocess.wordpiece: it is missing"},
	{name: "kind with another's part", of: "string and ZipMap", from: "text/string,", to: "text/string, hashedNgrams: {buckets: 1, words: [1, 1], maxTokens: 1},", says: "preprocess.hashedNgrams: leave it out"},
	{name: "join of pictures", of: "picture", from: "kind: image,", to: "kind: image, join: x,", says: "preprocess.join"},
	{name: "long join", of: "string and ZipMap", from: `" | "`, to: `"                 "`, says: "preprocess.join"},
	{name: "n-grams backwards", of: "hashed n-grams", from: "[1, 2]", to: "[2, 1]", says: "n-grams [2 1]", beyond: true},
	{name: "n-grams of one number", of: "hashed n-grams", from: "[1, 2]", to: "[1]", says: "words"},
	{name: "n-grams too long", of: "hashed n-grams", from: "[1, 2]", to: "[1, 9]", says: "n-grams [1 9]"},
	{name: "no n-grams", of: "hashed n-grams", from: "words: [1, 2], chars: [0, 0], ", to: "", says: "neither words nor chars"},
	{name: "no buckets", of: "hashed n-grams", from: "buckets: 4096, ", to: "", says: "buckets"},
	{name: "half a bucket", of: "hashed n-grams", from: "4096", to: "0.5", says: "buckets"},
	{name: "one input for n-grams", of: "hashed n-grams", from: ", {name: weights, datatype: FP32, shape: [-1, -1]}", to: "", says: "gives 2"},
	{name: "ids of another type", of: "hashed n-grams", from: "INT64", to: "INT8", says: "inputs[0].datatype"},
	{name: "ids of a fixed number", of: "hashed n-grams", from: "INT64, shape: [-1, -1]", to: "INT64, shape: [-1, -1, 1]", says: "inputs[0].shape", beyond: true},
	{name: "text that is a number", of: "string and ZipMap", from: "BYTES", to: "FP32", says: "want BYTES"},
	{name: "two texts a row", of: "string and ZipMap", from: "[-1, 1]", to: "[-1, 2]", says: "inputs[0].shape", beyond: true},
	{name: "token input of another name", of: "word pieces", from: "attention_mask", to: "mask", says: `"mask"`},
	{name: "no token ids", of: "word pieces", from: "- {name: input_ids, datatype: INT64, shape: [-1, -1]}\n", to: "", says: "input_ids is missing"},
	{name: "no tokenizer", of: "word pieces", from: "tokenizer: {file: tokenizer.json, sha256: SUM}, ", to: "", says: "tokenizer: it is missing"},
	{name: "too many tokens", of: "word pieces", from: "maxTokens: 64", to: "maxTokens: 100000", says: "maxTokens"},
	{name: "fixed length that is not maxTokens", of: "word pieces", from: "[-1, 64]", to: "[-1, 32]", says: "inputs[1].shape", beyond: true},
	{name: "size", of: "picture", from: "width: 224", to: "width: 9600", says: "9600"},
	{name: "size that the input has not", of: "picture", from: "width: 224", to: "width: 220", says: "inputs[0].shape", beyond: true},
	{name: "resize", of: "picture", from: "resize: crop", to: "resize: pad", says: `"pad"`},
	{name: "ratio without crop", of: "picture", from: "resize: crop, ", to: "", says: "cropRatio"},
	{name: "ratio", of: "picture", from: "0.875", to: "1.1", says: "cropRatio"},
	{name: "channels", of: "picture", from: "BGR", to: "CMYK", says: "CMYK"},
	{name: "layout", of: "picture", from: "NHWC", to: "CHWN", says: "CHWN"},
	{name: "layout that the input has not", of: "picture", from: "NHWC", to: "NCHW", says: "inputs[0].shape", beyond: true},
	{name: "scale", of: "picture", from: "scale: 1,", to: "scale: 0,", says: "scale"},
	{name: "std of nothing", of: "picture", from: "std: [1,", to: "std: [0,", says: "std"},
	{name: "no std", of: "picture", from: ", std: [1, 1, 1]", to: "", says: "std"},
	{name: "mean of two", of: "picture", from: "[104, 117, 123]", to: "[104, 117]", says: "mean"},
	{name: "scaled bytes", of: "bytes of a grey picture", from: "channels: L", to: "channels: L, scale: 1", says: "leave out scale"},
	{name: "pictures of another type", of: "picture", from: "FP16", to: "FP64", says: "inputs[0].datatype"},
	{name: "no inputs", of: "tensors only", from: "inputs: [{name: a, datatype: BF16, shape: [-1, 3]}, {name: flag, datatype: BOOL, shape: []}]", to: "inputs: []", says: "inputs: it is empty"},
	{name: "an input twice", of: "tensors only", from: "name: flag", to: "name: a", says: "twice", beyond: true},
	{name: "an input without name", of: "tensors only", from: "name: flag", to: "name: ''", says: "inputs[1].name"},
	{name: "an input without shape", of: "tensors only", from: ", shape: []", to: "", says: "inputs[1].shape"},
	{name: "a dimension below -1", of: "tensors only", from: "[0, 2, -1]", to: "[0, 2, -2]", says: "outputs[0].shape"},
	{name: "a huge dimension", of: "tensors only", from: "[0, 2, -1]", to: "[0, 2, 99999999999]", says: "outputs[0].shape"},
	{name: "datatype", of: "tensors only", from: "BF16", to: "float32", says: "float32"},
	{name: "kind of output", of: "tensors only", from: "zipmap", to: "map", says: "outputs[1].kind"},
	{name: "tensors with reads", of: "tensors only", from: "preprocess:", to: "reads: [title]\npreprocess:", says: "without preprocessing"},
	{name: "tensors with activation", of: "tensors only", from: "preprocess:", to: "activation: softmax\npreprocess:", says: "without preprocessing"},
	{name: "two outputs", of: "picture", from: "outputs: [", to: "outputs: [{name: a, datatype: FP32, shape: [-1, 2]}, ", says: "outputs: 2 are declared"},
	{name: "output of one dimension", of: "picture", from: "FP32, shape: [1, 2]", to: "FP32, shape: [2]", says: "[batch, labels]"},
	{name: "output of unknown labels", of: "picture", from: "FP32, shape: [1, 2]", to: "FP32, shape: [1, -1]", says: "[batch, labels]"},
	{name: "output of another type", of: "picture", from: "FP32, shape: [1, 2]", to: "FP64, shape: [1, 2]", says: "outputs[0].datatype"},
	{name: "activation", of: "picture", from: "softmax", to: "relu", says: "relu"},
	{name: "no activation", of: "picture", from: "activation: softmax\n", to: "", says: "activation"},
	{name: "temperature of nothing", of: "picture", from: "temperature: 1", to: "temperature: 0", says: "temperature"},
	{name: "negative temperature", of: "picture", from: "temperature: 1", to: "temperature: -1", says: "temperature"},
	{name: "temperature is no number", of: "picture", from: "temperature: 1", to: "temperature: hot", says: "temperature must be a number, not text"},
	{name: "batch sizes begin late", of: "hashed n-grams", from: "[1, 8]", to: "[8]", says: "batchSizes"},
	{name: "batch sizes fall", of: "word pieces", from: "[1, 2, 4]", to: "[1, 4, 2]", says: "batchSizes", beyond: true},
	{name: "a batch size twice", of: "hashed n-grams", from: "[1, 8]", to: "[1, 1]", says: "batchSizes"},
	{name: "batch size too large", of: "hashed n-grams", from: "[1, 8]", to: "[1, 2000]", says: "batchSizes"},
	{name: "batches of a graph of one row", of: "picture", from: "batchSizes: [1]", to: "batchSizes: [1, 2]", says: "the first dimension is the batch", beyond: true},
	{name: "delay is a number", of: "string and ZipMap", from: "1.5ms", to: "2", says: "maxDelay must be text, not a number"},
	{name: "delay without unit", of: "string and ZipMap", from: "1.5ms", to: "'2'", says: `"2" is no duration`},
	{name: "negative delay", of: "string and ZipMap", from: "1.5ms", to: "-2ms", says: "maxDelay"},
	{name: "delay of a minute", of: "string and ZipMap", from: "1.5ms", to: "60s", says: "maxDelay", beyond: true},
	{name: "threads", of: "string and ZipMap", from: "threads: 2", to: "threads: -1", says: "threads"},
	{name: "example of nothing", of: "picture", from: "image: pictures/shirt.jpg, ", to: "", says: "either a product or an image"},
	{name: "example outside", of: "picture", from: "pictures/shirt.jpg", to: "pictures/../../shirt.jpg", says: "examples[0].image"},
	{name: "example without label", of: "picture", from: ", label: Shirts", to: "", says: "examples[0].label"},
	{name: "picture for a text", of: "string and ZipMap", from: "product: {title: A shirt, attributes: {colour: blue}}", to: "image: a.jpg", says: "give a product", beyond: true},
	{name: "example more than certain", of: "string and ZipMap", from: "atLeast: 0.5", to: "atLeast: 50", says: "atLeast"},
	{name: "example that is no product", of: "string and ZipMap", from: "title: A shirt", to: "titel: A shirt", says: "titel", beyond: true},
	{name: "metric is no number", of: "word pieces", from: "accuracy: 0.9", to: "accuracy: good", says: "metrics.accuracy"},
}

func validator(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("model.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("model.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// verdicts are Go's and the schema's on a model.yaml.
func verdicts(t *testing.T, s *jsonschema.Schema, text []byte) (problems []error, refusal error) {
	t.Helper()
	spec, err := decode(text)
	if err != nil {
		problems = []error{err}
	} else {
		problems = spec.Problems()
	}
	j, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
	if err != nil {
		t.Fatal(err)
	}
	return problems, s.Validate(doc)
}

// TestSchema holds the published schema to what is accepted.
func TestSchema(t *testing.T) {
	s := validator(t)
	for name, body := range good {
		if problems, refusal := verdicts(t, s, file(body)); problems != nil || refusal != nil {
			t.Errorf("%s: %v, and the schema says %v", name, problems, refusal)
		}
	}
	for _, tt := range bad {
		t.Run(tt.name, func(t *testing.T) {
			whole := head + good[tt.of]
			changed := strings.Replace(whole, tt.from, tt.to, 1)
			if good[tt.of] == "" || changed == whole {
				t.Fatalf("%q is not in %q", tt.from, tt.of)
			}
			problems, refusal := verdicts(t, s, []byte(strings.ReplaceAll(changed, "SUM", sum)))
			if !slices.ContainsFunc(problems, func(err error) bool { return strings.Contains(err.Error(), tt.says) }) {
				t.Errorf("%v, want a sentence with %q", problems, tt.says)
			}
			if (refusal == nil) != tt.beyond {
				t.Errorf("the schema says %v; is it beyond a schema? %v", refusal, tt.beyond)
			}
		})
	}
	shipped, err := filepath.Glob("../../models/*/model.yaml")
	if err != nil || len(shipped) < 2 {
		t.Fatal(shipped, err)
	}
	for _, path := range shipped {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if problems, refusal := verdicts(t, s, text); problems != nil || refusal != nil {
			t.Errorf("%s: %v, and the schema says %v", path, problems, refusal)
		}
	}
}

// TestReference holds docs/models.md to the schema, field by field, and loads
// its examples.
func TestReference(t *testing.T) {
	page, err := os.ReadFile("../../docs/models.md")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	collect(doc, doc, "", fields)
	rows := regexp.MustCompile("(?m)^(?:\\| `.*? \\||\\*\\*Provenance\\*\\*.*)").FindAll(page, -1)
	told := map[string]bool{}
	for _, row := range rows {
		for _, m := range regexp.MustCompile("`([A-Za-z0-9.\\[\\]]+)`").FindAllSubmatch(row, -1) {
			told[string(m[1])] = true
		}
	}
	for f, leaf := range fields {
		if leaf && !told[f] {
			t.Errorf("docs/models.md has no row for %s", f)
		}
	}
	for f := range told {
		if _, there := fields[f]; !there && !slices.Contains([]string{"softmax", "sigmoid", "none"}, f) { // the rows of activations
			t.Errorf("docs/models.md has a row for %s, which is no field", f)
		}
	}

	s := validator(t)
	kinds := map[string]bool{}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1) {
		problems, refusal := verdicts(t, s, m[1])
		if problems != nil || refusal != nil {
			t.Errorf("%s\n%v, and the schema says %v", m[1], problems, refusal)
		}
		spec, err := decode(m[1])
		if err != nil {
			t.Fatal(err)
		}
		kinds[spec.Preprocess.Kind] = true
	}
	if len(kinds) != 5 {
		t.Errorf("docs/models.md has examples of %v: want one of each kind", kinds)
	}
}

// collect adds the fields that a part of the schema has, as the page writes
// them: a.b, and a[].b for those of a list; true for those without fields of
// their own, among which it counts files. It reports whether at is such a one.
func collect(root, at map[string]any, path string, fields map[string]bool) bool {
	if ref, ok := at["$ref"].(string); ok {
		if ref == "#/$defs/file" {
			fields["file"], fields["sha256"] = true, true
			return true
		}
		at = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	if items, ok := at["items"].(map[string]any); ok {
		return collect(root, items, path+"[]", fields)
	}
	properties, ok := at["properties"].(map[string]any)
	if !ok {
		return true
	}
	for name, of := range properties {
		child := strings.TrimPrefix(path+"."+name, ".")
		fields[child] = collect(root, of.(map[string]any), child, fields)
	}
	return false
}
