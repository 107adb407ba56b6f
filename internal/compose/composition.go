// Package compose sends a product to the classifiers of a composition and
// makes one category of what they answer.
//
// A [Composition] is read from a file and names the legs, the reducer and
// the taxonomy. A [Composer] asks all legs of a product at once, under one
// deadline, and gives a category.Result that says for every leg what became
// of it: an answer with failed legs says so. [Composer.Handler] is its HTTP
// and CloudEvents side.
//
// Guarantees:
//   - One product's answer never outlasts the composition's deadline.
//   - A leg's failure, however strange, is that leg's alone: a connection
//     that breaks, an answer that is no answer, a panic.
//   - A leg is sent only the fields that it reads, once that is known, and
//     its answer is never used when it reads a field that was kept back.
//   - What is wrong with the input is the sender's error (4xx) and names the
//     leg that found it; what is wrong with the legs is a 503 that a broker
//     delivers again.
//
// Non-goals: it keeps nothing between two products but what legs read, their
// connections and their circuit breakers; it decodes no pictures and fetches
// no URLs.
package compose

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"go.yaml.in/yaml/v3"

	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/reduce"
	"aisle.dev/aisle/internal/taxonomy"
)

// APIVersion and Kind open every composition file.
const (
	APIVersion = "aisle.dev/v1alpha1"
	Kind       = "Composition"
)

// Bounds of a composition.
const (
	MaxFile         = 1 << 20
	MaxLegs         = 32
	MaxDeadline     = 10 * time.Minute
	DefaultDeadline = 10 * time.Second
)

// Composition is a composition file that has been read and checked.
type Composition struct {
	Name     string
	Deadline time.Duration // of one product
	Legs     []LegSpec
	Pool     reduce.Pool    // weights in the order of the legs; its prior is nil when the file names none
	Taxonomy *taxonomy.Tree // nil when the file names none
	Digest   string         // "sha256:..." of the file followed by its taxonomy and its prior
}

// LegSpec is one leg of a composition.
type LegSpec struct {
	Name      string
	Service   string
	Namespace string        // empty: the composer's own
	Deadline  time.Duration // 0: the composition's
	Required  bool          // without this leg's answer there is no category, unless it had nothing to read
	Reads     []string      // the product's fields that it reads; nil: its first answer tells
}

// file is the composition file as written.
type file struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec struct {
		Deadline *duration `yaml:"deadline"`
		Legs     []struct {
			Name      string    `yaml:"name"`
			Service   string    `yaml:"service"`
			Namespace string    `yaml:"namespace"`
			Weight    *float64  `yaml:"weight"`
			Deadline  *duration `yaml:"deadline"`
			Required  bool      `yaml:"required"`
			Reads     *[]string `yaml:"reads"`
		} `yaml:"legs"`
		Reducer struct {
			Type        string   `yaml:"type"`
			Temperature *float64 `yaml:"temperature"`
			Prior       *struct {
				File   string   `yaml:"file"`
				Weight *float64 `yaml:"weight"`
			} `yaml:"prior"`
		} `yaml:"reducer"`
		Taxonomy string `yaml:"taxonomy"`
	} `yaml:"spec"`
}

type duration time.Duration

func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: %q is not a duration such as 10s or 500ms", n.Line, n.Value)
	}
	*d = duration(v)
	return nil
}

// Load reads the composition at path, and the taxonomy and the prior that it names.
func Load(path string) (*Composition, error) {
	raw, err := readBounded(os.DirFS(filepath.Dir(path)), filepath.Base(path), MaxFile)
	if err != nil {
		return nil, fmt.Errorf("read the composition (COMPOSITION names it): %w", err)
	}
	c, err := Parse(raw, os.DirFS(filepath.Dir(path)))
	if err != nil {
		return nil, fmt.Errorf("composition %s: %w", path, err)
	}
	return c, nil
}

func readBounded(dir fs.FS, name string, max int64) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(raw)) > max {
		err = fmt.Errorf("%s is larger than %d bytes", name, max)
	}
	return raw, err
}

// Parse checks a composition. Dir is where the taxonomy and the prior are.
func Parse(raw []byte, dir fs.FS) (*Composition, error) {
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it is empty")
		}
		return nil, readable(err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is a second document after the first; a file holds one composition")
	}
	c, err := f.check()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write(raw)
	if name := f.Spec.Taxonomy; name != "" {
		csv, err := readBeside(dir, "spec.taxonomy", name)
		if err != nil {
			return nil, err
		}
		if c.Taxonomy, err = taxonomy.Parse(csv); err != nil {
			return nil, fmt.Errorf("spec.taxonomy %s: %w", name, err)
		}
		sum.Write(csv)
	}
	if p := f.Spec.Reducer.Prior; p != nil {
		csv, err := readBeside(dir, "spec.reducer.prior.file", p.File)
		if err != nil {
			return nil, err
		}
		if c.Pool.Prior, err = parsePrior(csv); err != nil {
			return nil, fmt.Errorf("spec.reducer.prior.file %s: %w", p.File, err)
		}
		sum.Write(csv)
	}
	c.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return c, nil
}

// readBeside reads a file that a field of the composition names.
func readBeside(dir fs.FS, field, name string) ([]byte, error) {
	if !fs.ValidPath(name) {
		return nil, fmt.Errorf("%s %q: want a path below the composition's folder", field, name)
	}
	raw, err := readBounded(dir, name, taxonomy.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return raw, nil
}

// readable rewords the decoder's errors, which name Go's types.
func readable(err error) error {
	unknownField := regexp.MustCompile(`field (\S+) not found in type .*`)
	goType := regexp.MustCompile(` into (compose\.|\[\]struct|struct).*`)
	if t, ok := errors.AsType[*yaml.TypeError](err); ok && len(t.Errors) > 0 {
		s := unknownField.ReplaceAllString(t.Errors[0], `unknown field "$1"; is it misspelt?`)
		return errors.New(goType.ReplaceAllString(s, " here"))
	}
	return err
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (f *file) check() (*Composition, error) {
	s := &f.Spec
	c := &Composition{Name: f.Metadata.Name, Deadline: DefaultDeadline}
	switch {
	case f.APIVersion != APIVersion || f.Kind != Kind:
		return nil, fmt.Errorf("apiVersion %q, kind %q: want %q, %q", f.APIVersion, f.Kind, APIVersion, Kind)
	case !dnsLabel.MatchString(c.Name):
		return nil, fmt.Errorf("metadata.name %q is not a DNS label", c.Name)
	case len(s.Legs) == 0:
		return nil, errors.New("spec.legs is empty: which classifiers are to be asked?")
	case len(s.Legs) > MaxLegs:
		return nil, fmt.Errorf("spec.legs has %d legs; at most %d are asked", len(s.Legs), MaxLegs)
	case s.Reducer.Type != "logpool":
		return nil, fmt.Errorf("spec.reducer.type %q: want logpool", s.Reducer.Type)
	}
	if s.Deadline != nil {
		c.Deadline = time.Duration(*s.Deadline)
		if c.Deadline <= 0 || c.Deadline > MaxDeadline {
			return nil, fmt.Errorf("spec.deadline %s: want more than 0, at most %s", c.Deadline, MaxDeadline)
		}
	}
	c.Pool.Temperature = 1
	if t := s.Reducer.Temperature; t != nil {
		c.Pool.Temperature = *t
	}
	if !(c.Pool.Temperature >= reduce.MinTemperature && c.Pool.Temperature <= reduce.MaxTemperature) {
		return nil, fmt.Errorf("spec.reducer.temperature %v: want a number from %v to %d", c.Pool.Temperature, reduce.MinTemperature, reduce.MaxTemperature)
	}
	if p := s.Reducer.Prior; p != nil {
		if p.File == "" || p.Weight == nil {
			return nil, errors.New("spec.reducer.prior: want {file: prior.csv, weight: V}, or leave it out")
		}
		c.Pool.PriorWeight = *p.Weight
		if !(c.Pool.PriorWeight >= 0 && c.Pool.PriorWeight <= reduce.MaxWeight) {
			return nil, fmt.Errorf("spec.reducer.prior.weight %v: want a number from 0 to %d", c.Pool.PriorWeight, reduce.MaxWeight)
		}
	}
	seen := map[string]int{}
	for i, l := range s.Legs {
		leg := LegSpec{Name: l.Name, Service: l.Service, Namespace: l.Namespace, Required: l.Required}
		weight := 1.0
		if l.Weight != nil {
			weight = *l.Weight
		}
		if l.Deadline != nil {
			leg.Deadline = time.Duration(*l.Deadline)
		}
		at := fmt.Sprintf("spec.legs[%d]", i)
		switch first, twice := seen[l.Name]; {
		case !dnsLabel.MatchString(l.Name):
			return nil, fmt.Errorf("%s.name %q is not a DNS label", at, l.Name)
		case twice:
			return nil, fmt.Errorf("%s.name %q is the name of spec.legs[%d] too", at, l.Name, first)
		case !dnsLabel.MatchString(l.Service):
			return nil, fmt.Errorf("%s.service %q is not a DNS label: want a service's name", at, l.Service)
		case l.Namespace != "" && !dnsLabel.MatchString(l.Namespace):
			return nil, fmt.Errorf("%s.namespace %q is not a DNS label", at, l.Namespace)
		case l.Deadline != nil && (leg.Deadline <= 0 || leg.Deadline > c.Deadline):
			return nil, fmt.Errorf("%s.deadline %s: want more than 0, at most spec.deadline, which is %s", at, leg.Deadline, c.Deadline)
		case !(weight > 0 && weight <= reduce.MaxWeight):
			return nil, fmt.Errorf("%s.weight %v: want a number above 0, at most %d; leave the leg out if it is not to count", at, weight, reduce.MaxWeight)
		}
		if l.Reads != nil {
			if leg.Reads = *l.Reads; len(leg.Reads) == 0 || len(leg.Reads) > maxReads {
				return nil, fmt.Errorf("%s.reads has %d fields: want 1 to %d, or leave it out", at, len(leg.Reads), maxReads)
			}
			for _, f := range leg.Reads {
				if !product.IsField(f) {
					return nil, fmt.Errorf("%s.reads: unknown field %q; want title, description, brand, images or attributes.NAME", at, f)
				}
			}
		}
		seen[l.Name] = i
		c.Legs = append(c.Legs, leg)
		c.Pool.Weights = append(c.Pool.Weights, weight)
	}
	return c, nil
}
