// Package composition reads a composition file: which classifiers a product
// is sent to (legs), when (gates), and how their answers become one category
// (rules, reducer, taxonomy, threshold).
//
// Guarantees: what [Parse] gives has been checked as a whole, with the files
// that it names, so that nothing of it fails later for being wrong; what is
// wrong is told all at once, as [Problems], each with its line and column and
// with what to do; every part is bounded. A [Composition] is immutable. Two
// of the same digest are the same in every byte.
//
// Non-goals: it opens no connection, and does not know which services there
// are; it does not run a composition (internal/compose does).
package composition

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"aisle.dev/aisle/internal/gate"
	"aisle.dev/aisle/internal/reduce"
	"aisle.dev/aisle/internal/taxonomy"
)

// APIVersion and Kind open every composition file.
const (
	APIVersion = "aisle.dev/v1alpha1"
	Kind       = "Composition"
)

// Bounds and defaults of a composition.
const (
	MaxFile         = 1 << 20
	MaxLegs         = 32
	MaxReads        = 128 // fields of one leg
	MaxRules        = 64
	MaxForbidden    = 1000 // categories of one rule
	MaxDeadline     = 10 * time.Minute
	DefaultDeadline = 10 * time.Second
	DefaultMargin   = 100 * time.Millisecond // or a tenth of the deadline, where that is less
	DefaultRetries  = 2
	MaxRetries      = 5
)

// Composition is a composition file that has been read and checked.
type Composition struct {
	Name     string
	Deadline time.Duration // of one product
	Margin   time.Duration // of the deadline: what is kept for the answer
	Legs     []Leg
	Quorum   int // so many legs that count must have answered; 1 or more

	Rules []Rule
	// Reducer takes one list per leg that counts ([Composition.Counted]), in
	// the order of the legs.
	Reducer reduce.Reducer
	Fusion  Fusion // what Reducer was made of

	Threshold float64        // an answer that is less sure is for review; 0: none is
	Taxonomy  *taxonomy.Tree // nil when the file names none
	// Backoff is how sure an inner category must be to be the answer in place
	// of a leaf that is less sure: one for all levels, or one for each from
	// the root on, of which the last is that of all below. Nil: answers are leaves.
	Backoff []float64

	Digest string // "sha256:..." of the file followed by all that it names, in its order
}

// Leg is one leg of a composition.
type Leg struct {
	Name      string
	Service   string            // empty: the variants
	Variants  *Variants         // nil: the service
	Namespace string            // empty: the composer's own
	Weight    float64           // 0: of a shadow leg
	Deadline  time.Duration     // 0: the composition's
	Required  bool              // without this leg's answer there is no category, unless it had nothing to read
	Retries   int               // after the first try
	Reads     []string          // the product's fields that it reads; nil: its first answer tells
	When      *gate.Gate        // whether the leg is asked; nil: always
	After     []int             // indices of the legs that its gate mentions: it waits for them
	Shadow    bool              // asked and told of, never counted nor waited for
	Labels    map[string]string // the taxonomy's label of each of its own that has another; nil: they are equal
}

// Services names the services of the leg: its one, or its GPU and its CPU one.
func (l Leg) Services() []string {
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

// Counted are the indices of the legs that count: those that are no shadow.
func (c *Composition) Counted() []int {
	var out []int
	for i, l := range c.Legs {
		if !l.Shadow {
			out = append(out, i)
		}
	}
	return out
}

// Rule changes what the legs said before it is reduced. It has either Forbid
// or Prior.
type Rule struct {
	Name   string
	When   *gate.Gate // whether it applies; nil: always
	Forbid []string   // labels, names or ids of categories that cannot be the answer
	Prior  *Prior     // one more opinion, weighed like a leg's
}

// Prior takes the product's own category for an opinion.
type Prior struct {
	From   string            // the product's field, such as attributes.category
	Weight float64           // above 0
	Labels map[string]string // the taxonomy's label of what the field says; nil: it says labels, or names of categories
}

// Fusion is what the reducer is made of, as written.
type Fusion struct {
	Type  string      // logpool, linpool, vote or stack
	Pool  reduce.Pool // weights of the legs that count, temperature (of logpool), prior (of logpool)
	Model string      // the folder of a stack
	// Calibration is the temperature of what a pattern of legs says together.
	Calibration []reduce.Pattern
}

// Load reads the composition at path, and the files beside it that it names.
func Load(path string) (*Composition, error) { return load(os.DirFS(filepath.Dir(path)), path) }

// load reads the composition at path, of which dir is the folder.
func load(dir fs.FS, path string) (*Composition, error) {
	raw, err := ReadFile(dir, filepath.Base(path), MaxFile)
	if err != nil {
		return nil, fmt.Errorf("read the composition (COMPOSITION names it): %w", err)
	}
	c, err := Parse(raw, dir)
	if err != nil {
		return nil, fmt.Errorf("composition %s: %w", path, err)
	}
	return c, nil
}

// ReadFile reads a file that is no longer than max bytes.
func ReadFile(dir fs.FS, name string, max int64) ([]byte, error) {
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

//go:embed composition.schema.json
var schema []byte

// SchemaPath is where a composer serves the JSON Schema of the file.
const SchemaPath = "/schemas/composition.v1alpha1.json"

// Schema is the JSON Schema of a composition file. What holds between its
// fields and with the files beside it, [Parse] alone tells.
func Schema() []byte { return bytes.Clone(schema) }
