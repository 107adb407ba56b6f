// Package model reads model packages: a folder with model.yaml, the ONNX
// graph, its labels and a card; and bare ONNX files, which are served as they
// are.
//
// A package is encapsulated: model.yaml says which fields of a product the
// model reads, how they become tensors, and how the graph's output becomes
// calibrated probabilities, so that adding a classifier touches no code. Its
// [Package.Digest] names its content; two packages with the same digest
// answer alike.
//
// Guarantees, since packages come from strangers: files are read below the
// package's folder only, also through symbolic links; each is a regular file
// and bounded; problems name the field and say what to do.
//
// Non-goals: running a graph, and reading one: whether inputs and outputs fit
// the graph is for who opens it.
package model

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Package is a model package that has been read and checked.
type Package struct {
	Spec Spec
	Dir  string
	// Keys are the graph's labels, in the order of the output, and Labels are
	// the same after the label map: the answer's. They are empty without
	// preprocessing, unless the package has labels all the same.
	Keys, Labels []string
	Graph        string // path of the ONNX file
	Digest       string // "sha256:..." over model.yaml, which pins the other files; of a bare graph, over the file
}

// specFile is the name of a package's description.
const specFile = "model.yaml"

// Load reads the package at path, a folder or a bare .onnx file, and checks
// it: strict YAML, the files' digests, and that the parts fit each other. The
// graph is read once, for its digest; use [Package.Graph] to open it.
//
// A bare graph has no preprocessing; its inputs and outputs are those that
// [Package.Declare] is told.
func Load(path string) (*Package, error) {
	p, problems := Inspect(path)
	switch len(problems) {
	case 0:
		return p, nil
	case 1:
		return nil, fmt.Errorf("model package %s: %w", path, problems[0])
	}
	return nil, fmt.Errorf("model package %s: %w (and %d more; `aisle model validate` lists them)", path, problems[0], len(problems)-1)
}

// Inspect reads the package at path as Load does, as far as it can be read,
// and returns all that is wrong with it. The package is nil where nothing of
// it could be read.
func Inspect(path string) (*Package, []error) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
		p, err := bare(path)
		if err != nil {
			return nil, []error{err}
		}
		return p, nil
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, []error{fmt.Errorf("want a folder with a %s, or an .onnx file: %w", specFile, err)}
	}
	defer root.Close()
	raw, err := read(root, specFile, MaxSpec)
	if err != nil {
		return nil, []error{err}
	}
	sum := sha256.Sum256(raw)
	p := &Package{Dir: path, Digest: "sha256:" + hex.EncodeToString(sum[:])}
	if p.Spec, err = decode(raw); err != nil {
		return nil, []error{fmt.Errorf("%s: %w", specFile, err)}
	}
	var problems []error
	for _, err := range p.Spec.Problems() {
		problems = append(problems, fmt.Errorf("%s: %w", specFile, err))
	}
	p.Spec.setDefaults()
	if isFile(p.Spec.Model.File) {
		p.Graph = filepath.Join(path, p.Spec.Model.File)
	}
	for _, f := range p.Spec.Files() {
		limit := int64(math.MaxInt64) // of the graph and its weights
		switch {
		case !isFile(f.File):
			continue // a problem already
		case f == p.Spec.Labels:
			limit = MaxLabelBytes
		case p.Spec.Preprocess.Wordpiece != nil && f == p.Spec.Preprocess.Wordpiece.Tokenizer:
			limit = MaxTokenizer
		}
		if err := f.check(root, limit); err != nil {
			problems = append(problems, err)
		}
	}
	for _, e := range p.Spec.Examples {
		if isPath(e.Image) {
			if f, err := open(root, e.Image); err != nil {
				problems = append(problems, fmt.Errorf("example: %w", err))
			} else {
				_ = f.Close()
			}
		}
	}
	return p, append(problems, p.readLabels(root)...)
}

// readLabels reads the labels and returns what is wrong with them.
func (p *Package) readLabels(root *os.Root) []error {
	s := p.Spec
	if !isFile(s.Labels.File) {
		return nil // there are none, or that is a problem already
	}
	text, err := read(root, s.Labels.File, MaxLabelBytes)
	if err != nil {
		return nil // told when the digest was checked
	}
	if !utf8.Valid(text) {
		return []error{fmt.Errorf("%s is not valid UTF-8", s.Labels.File)}
	}
	keys := strings.SplitN(strings.TrimRight(string(text), "\n"), "\n", MaxLabels+1)
	if len(keys) > MaxLabels {
		return []error{fmt.Errorf("%s has more than %d labels", s.Labels.File, MaxLabels)}
	}
	var problems []error
	unused := make(map[string]bool, len(s.LabelMap))
	for from := range s.LabelMap {
		unused[from] = true
	}
	p.Keys, p.Labels = keys, make([]string, len(keys))
	first := make(map[string]int, len(keys))
	for i, k := range keys {
		if !isLabel(k) {
			problems = append(problems, fmt.Errorf("%s: label %d is %.80q: want a name of at most %d bytes without space around it on each line", s.Labels.File, i+1, k, MaxLabel))
			break // the rest of such a file is no better
		}
		delete(unused, k)
		l, mapped := s.LabelMap[k]
		if !mapped {
			l = k
		}
		p.Labels[i] = l
		if at, twice := first[l]; twice {
			problems = append(problems, fmt.Errorf("labels %d and %d are both %q", at, i+1, l))
		} else {
			first[l] = i + 1
		}
	}
	for from := range unused {
		problems = append(problems, fmt.Errorf("%s: labelMap: %q is none of the labels in %s", specFile, from, s.Labels.File))
	}
	if len(s.Outputs) == 1 && len(s.Outputs[0].Shape) == 2 && s.Preprocess.Kind != None && int64(len(keys)) != s.Outputs[0].Shape[1] {
		problems = append(problems, fmt.Errorf("%s has %d labels, but output %s has %d", s.Labels.File, len(keys), s.Outputs[0].Name, s.Outputs[0].Shape[1]))
	}
	for i, e := range s.Examples {
		if _, there := first[e.Label]; !there && isLabel(e.Label) {
			problems = append(problems, fmt.Errorf("%s: examples[%d].label: %q is none of the model's labels", specFile, i, e.Label))
		}
	}
	return problems
}

// ReadFile reads a small file that model.yaml pins, such as a tokenizer, and
// checks it again: it may have changed since [Load].
func (p *Package) ReadFile(f File) ([]byte, error) {
	root, err := os.OpenRoot(p.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	data, err := read(root, f.File, MaxTokenizer)
	if err != nil {
		return nil, err
	}
	return data, f.compare(sha256.Sum256(data))
}

// Picture reads the picture of an example.
func (p *Package) Picture(e Example, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(p.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return read(root, e.Image, limit)
}

// Check is an error unless the package has the digest: whoever deploys a model
// names what it must be.
func (p *Package) Check(digest string) error {
	if p.Digest != digest {
		return fmt.Errorf("model package %s has the digest %s; the manifest wants %q", p.Dir, p.Digest, digest)
	}
	return nil
}

// check is an error unless the file has the pinned content, of at most limit
// bytes.
func (f File) check(root *os.Root, limit int64) error {
	file, err := open(root, f.File)
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return err
	} else if info.Size() > limit {
		return fmt.Errorf("%s is larger than %d bytes", f.File, limit)
	}
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return fmt.Errorf("read %s: %w", f.File, err)
	}
	return f.compare([sha256.Size]byte(h.Sum(nil)))
}

func (f File) compare(sum [sha256.Size]byte) error {
	if hex.EncodeToString(sum[:]) != f.SHA256 {
		return fmt.Errorf("%s has sha256 %x, but %s pins %.80s (changed on purpose? `aisle model validate --write-digests` pins it anew)", f.File, sum, specFile, f.SHA256)
	}
	return nil
}

// open opens a regular file: a pipe or a device could keep us for ever.
func open(root *os.Root, name string) (*os.File, error) {
	info, err := root.Stat(name)
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return nil, fmt.Errorf("%s: %w", name, e.Err) // the operation is our affair
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return root.Open(name)
}

// read reads a file of at most limit bytes.
func read(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := open(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if n, err := io.Copy(&b, io.LimitReader(f, limit+1)); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	} else if n > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b.Bytes(), nil
}

// Declare says what a bare graph takes and gives. Requests to it are never run
// together: a first dimension that varies may be time as well as the batch,
// which only a package's batchSizes can say.
func (p *Package) Declare(inputs []Tensor, outputs []Output) error {
	if p.Spec.Preprocess.Kind != None || len(p.Spec.Inputs) > 0 {
		return errors.New("the package declares its inputs and outputs itself")
	}
	p.Spec.Inputs, p.Spec.Outputs, p.Spec.BatchSizes = inputs, outputs, []int{1}
	return nil
}

// bare describes a graph that comes without a package.
func bare(path string) (*Package, error) {
	if filepath.Ext(path) != ".onnx" {
		return nil, errors.New("want a folder with a model.yaml, or a file that ends in .onnx")
	}
	dir, file := filepath.Split(path)
	// Whoever names a bare file may well name a link to elsewhere.
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	return &Package{
		Spec: Spec{
			APIVersion: APIVersion, Kind: Kind, Name: nameOf(strings.TrimSuffix(file, ".onnx")), Version: "1",
			Model: File{File: file, SHA256: sum}, Preprocess: Preprocess{Kind: None}, BatchSizes: []int{1},
		},
		Dir: filepath.Clean(dir), Graph: path, Digest: "sha256:" + sum,
	}, nil
}

// nameOf makes a DNS label of a file's name.
func nameOf(file string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, file)
	name = strings.Trim(name[:min(len(name), 63)], "-")
	if name == "" {
		return "model"
	}
	return name
}

//go:embed model.schema.json
var schema []byte

// Schema returns the JSON Schema (2020-12) of a model.yaml.
func Schema() []byte { return bytes.Clone(schema) }
