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
//   - Of a leg with two variants, a GPU service that is not known to be ready
//     is sent one product at a time; that request's time and what is held for
//     it are bounded, and it ends by [Composer.Close].
//   - A leg that a schedule keeps closed has not failed, and is not asked again
//     for the same product.
//   - What is wrong with the input is the sender's error (4xx) and names the
//     leg that found it; what is wrong with the legs is a 503 that a broker
//     delivers again.
//
// Non-goals: it keeps nothing between two products but what services read, their
// connections, their circuit breakers and when they answered last; it decodes no
// pictures and fetches no URLs.
package compose

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
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
	Service   string        // empty: the variants
	Variants  *Variants     // nil: the service
	Namespace string        // empty: the composer's own
	Deadline  time.Duration // 0: the composition's
	Required  bool          // without this leg's answer there is no category, unless it had nothing to read
	Reads     []string      // the product's fields that it reads; nil: its first answer tells
}

// Services names the services of the leg: its one, or its GPU and its CPU one.
func (l LegSpec) Services() []string {
	if l.Variants != nil {
		return []string{l.Variants.GPU, l.Variants.CPU}
	}
	return []string{l.Service}
}

// Variants are two services of which one answers for a leg.
type Variants struct {
	GPU, CPU string
	// Wait is how long the GPU service is waited for while it is not known to
	// be ready, before the CPU one is asked: none at all (preferReady), some
	// time (waitFor), or [Always] (never).
	Wait time.Duration
}

// Always waits for a waking service until the leg's deadline.
const Always time.Duration = math.MaxInt64

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
			Variants  *variants `yaml:"variants"`
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

// variants are two services of a leg, as written.
type variants struct {
	GPU  string `yaml:"gpu"`
	CPU  string `yaml:"cpu"`
	Rule rule   `yaml:"rule"`
}

// rule is how long a waking GPU service is waited for: the word preferReady
// (which is what none at all means) or never, or {waitFor: DURATION}.
type rule time.Duration

func (r *rule) UnmarshalYAML(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "preferReady":
		*r = 0
		return nil
	case n.Kind == yaml.ScalarNode && n.Value == "never":
		*r = rule(Always)
		return nil
	case n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[0].Value == "waitFor":
		if err := (*duration)(r).UnmarshalYAML(n.Content[1]); err != nil {
			return err
		}
		if *r > 0 {
			return nil
		}
	}
	return fmt.Errorf("line %d: a rule is preferReady, never, or {waitFor: 2s}, a time above 0", n.Line)
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
		case (l.Service == "") == (l.Variants == nil):
			return nil, fmt.Errorf("%s: want either service: NAME or variants: {gpu: NAME, cpu: NAME, rule: preferReady}", at)
		case l.Variants == nil && !dnsLabel.MatchString(l.Service):
			return nil, fmt.Errorf("%s.service %q is not a DNS label: want a service's name", at, l.Service)
		case l.Namespace != "" && !dnsLabel.MatchString(l.Namespace):
			return nil, fmt.Errorf("%s.namespace %q is not a DNS label", at, l.Namespace)
		case l.Deadline != nil && (leg.Deadline <= 0 || leg.Deadline > c.Deadline):
			return nil, fmt.Errorf("%s.deadline %s: want more than 0, at most spec.deadline, which is %s", at, leg.Deadline, c.Deadline)
		case !(weight > 0 && weight <= reduce.MaxWeight):
			return nil, fmt.Errorf("%s.weight %v: want a number above 0, at most %d; leave the leg out if it is not to count", at, weight, reduce.MaxWeight)
		}
		if v := l.Variants; v != nil {
			leg.Variants = &Variants{GPU: v.GPU, CPU: v.CPU, Wait: time.Duration(v.Rule)}
			switch limit := cmp.Or(leg.Deadline, c.Deadline); {
			case !dnsLabel.MatchString(v.GPU) || !dnsLabel.MatchString(v.CPU):
				return nil, fmt.Errorf("%s.variants: gpu %q, cpu %q: want two services' names, which are DNS labels", at, v.GPU, v.CPU)
			case v.GPU == v.CPU:
				return nil, fmt.Errorf("%s.variants: gpu and cpu are both %q: want two services, or service: %s alone", at, v.GPU, v.GPU)
			case leg.Variants.Wait != Always && leg.Variants.Wait >= limit:
				return nil, fmt.Errorf("%s.variants.rule: waitFor %s leaves the CPU service no time: want less than the deadline, which is %s", at, leg.Variants.Wait, limit)
			}
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
