package reduce

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The two files of a stack's package.
const (
	StackFile        = "stack.yaml"
	CoefficientsFile = "coefficients.csv"
)

// APIVersion and StackKind open a stack.yaml.
const (
	APIVersion = "aisle.dev/v1alpha1"
	StackKind  = "Stack"
)

// Bounds of a stack's package.
const (
	maxStackFile    = 64 << 10
	maxCoefficients = 24 << 20 // bytes
	maxStackLegs    = 32
)

// StackSpec is a stack.yaml: what a stack is made of, beside its coefficients.
type StackSpec struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	// Legs are the composition's, with the weights of the pool that is corrected.
	Legs         []StackLeg `yaml:"legs"`
	Temperature  float64    `yaml:"temperature"`
	PriorWeight  float64    `yaml:"priorWeight"`
	Coefficients struct {
		SHA256 string `yaml:"sha256"`
	} `yaml:"coefficients"`
	// Fit says how it was fitted, for people.
	Fit map[string]float64 `yaml:"fit,omitempty"`
}

// StackLeg is one leg of a stack.
type StackLeg struct {
	Name   string  `yaml:"name"`
	Weight float64 `yaml:"weight"`
}

// Package is the stack as the files of a package, by name. legs names its
// legs in order; fitted says how it was fitted, for people.
func (s *Stack) Package(legs []string, fitted map[string]float64) (map[string][]byte, error) {
	spec := StackSpec{APIVersion: APIVersion, Kind: StackKind, Temperature: s.pool.Temperature, PriorWeight: s.pool.PriorWeight, Fit: fitted}
	for i, name := range legs {
		spec.Legs = append(spec.Legs, StackLeg{name, s.pool.Weights[i]})
	}
	var table bytes.Buffer
	w := csv.NewWriter(&table)
	record := slices.Concat([]string{"feature", "leg", "label"}, s.labels)
	write := func(feature, leg, label string, values []float64) {
		record[0], record[1], record[2] = feature, leg, label
		for i, v := range values {
			record[3+i] = strconv.FormatFloat(v, 'g', -1, 64)
		}
		_ = w.Write(record) // w.Error says
	}
	_ = w.Write(record)
	prior := make([]float64, len(s.labels))
	s.pool.shares(prior, s.labels) // zeros where it has none
	write("prior", "", "", prior)
	for f, row := range s.coefficients {
		feature, leg, label := describeFeature(f, legs, s.labels)
		write(feature, leg, label, row)
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(table.Bytes())
	spec.Coefficients.SHA256 = hex.EncodeToString(sum[:])
	text, err := yaml.Marshal(spec)
	return map[string][]byte{StackFile: text, CoefficientsFile: table.Bytes()}, err
}

// describeFeature gives the first three columns of a feature's line.
func describeFeature(f int, legs, labels []string) (feature, leg, label string) {
	switch {
	case f == 0:
		return "constant", "", ""
	case f <= len(legs):
		return "missing", legs[f-1], ""
	}
	f -= 1 + len(legs)
	return "sees", legs[f/len(labels)], labels[f%len(labels)]
}

// LoadStack reads the package in a folder for a composition whose legs that
// count have these names, in this order. digest is of both files.
func LoadStack(dir fs.FS, folder string, legs []string) (s *Stack, digest string, err error) {
	text, err := readFile(dir, path.Join(folder, StackFile), maxStackFile)
	if err != nil {
		return nil, "", err
	}
	table, err := readFile(dir, path.Join(folder, CoefficientsFile), maxCoefficients)
	if err != nil {
		return nil, "", err
	}
	if s, err = ParseStack(text, table, legs); err != nil {
		return nil, "", fmt.Errorf("stack %s: %w", folder, err)
	}
	sum := sha256.Sum256(slices.Concat(text, table))
	return s, "sha256:" + hex.EncodeToString(sum[:]), nil
}

func readFile(dir fs.FS, name string, most int64) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the stack: %w; `aisle compose fit` writes one", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return raw, err
}

// ParseStack reads the two files of a package, as [LoadStack] does.
func ParseStack(text, table []byte, legs []string) (*Stack, error) {
	var spec StackSpec
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&spec); err != nil {
		return nil, fmt.Errorf("%s: %w", StackFile, err)
	}
	if spec.APIVersion != APIVersion || spec.Kind != StackKind {
		return nil, fmt.Errorf("%s: apiVersion %q, kind %q: want %q, %q", StackFile, spec.APIVersion, spec.Kind, APIVersion, StackKind)
	}
	if n := len(spec.Legs); n == 0 || n > maxStackLegs {
		return nil, fmt.Errorf("%s: it has %d legs: want 1 to %d", StackFile, n, maxStackLegs)
	}
	if sum := sha256.Sum256(table); spec.Coefficients.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%s is not the file that %s was written with: its sha256 is %x; copy both files, or fit again", CoefficientsFile, StackFile, sum)
	}
	var names []string
	pool := Pool{Temperature: spec.Temperature, PriorWeight: spec.PriorWeight}
	for _, leg := range spec.Legs {
		names = append(names, leg.Name)
	}
	if a, b := slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(legs)); !slices.Equal(a, b) || len(slices.Compact(a)) < len(b) {
		return nil, fmt.Errorf("it was fitted on the legs %s, and the composition's are %s: fit again with `aisle compose fit`", strings.Join(names, ", "), strings.Join(legs, ", "))
	}
	for _, name := range legs {
		pool.Weights = append(pool.Weights, spec.Legs[slices.Index(names, name)].Weight)
	}
	s, err := parseCoefficients(table, pool, names, legs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CoefficientsFile, err)
	}
	return s, nil
}

// parseCoefficients reads a table that was written for legs in the order
// written, for one where they are in another.
func parseCoefficients(table []byte, pool Pool, written, legs []string) (*Stack, error) {
	r := csv.NewReader(bytes.NewReader(table))
	header, err := r.Read()
	if err != nil || len(header) < 4 || !slices.Equal(header[:3], []string{"feature", "leg", "label"}) {
		return nil, errors.New("line 1: want the header feature,leg,label and then each label")
	}
	labels := header[3:]
	features := StackFeatures(len(legs), len(labels))
	if features*len(labels) > MaxCoefficients {
		return nil, fmt.Errorf("%d labels and %d legs: at most %d coefficients are read", len(labels), len(legs), MaxCoefficients)
	}
	next := func(feature, leg, label string) ([]float64, error) {
		record, err := r.Read()
		if err != nil {
			return nil, fmt.Errorf("the line %s,%s,%s: %w", feature, leg, label, err)
		}
		line, _ := r.FieldPos(0)
		if !slices.Equal(record[:3], []string{feature, leg, label}) {
			return nil, fmt.Errorf("line %d: it begins with %.60q: want %q", line, record[:3], []string{feature, leg, label})
		}
		values := make([]float64, len(labels))
		for i, v := range record[3:] {
			if values[i], err = strconv.ParseFloat(v, 64); err != nil {
				return nil, fmt.Errorf("line %d: %.40q is not a number", line, v)
			}
		}
		return values, nil
	}
	shares, err := next("prior", "", "")
	if err != nil {
		return nil, err
	}
	if pool.PriorWeight > 0 {
		pool.Prior = make(map[string]float64, len(labels))
		for i, share := range shares {
			if !(share > 0 && share <= 1) {
				return nil, fmt.Errorf("line 2: the prior of %.40q is %v: want a number above 0, at most 1", labels[i], share)
			}
			pool.Prior[labels[i]] = share
		}
	}
	coefficients := make([][]float64, features)
	for f := range features {
		feature, leg, label := describeFeature(f, written, labels)
		to, i := f, slices.Index(legs, leg)
		switch feature {
		case "missing":
			to = 1 + i
		case "sees":
			to = 1 + len(legs) + i*len(labels) + (f-1-len(legs))%len(labels)
		}
		if coefficients[to], err = next(feature, leg, label); err != nil {
			return nil, err
		}
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("there is more after the last of %d features", features)
	}
	return NewStack(pool, labels, coefficients)
}
