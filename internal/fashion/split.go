package fashion

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"

	"aisle.dev/aisle/internal/words"
)

// Rule names the split rule. A change to the rule is a new name: figures
// under different rules do not compare.
const Rule = "components-70-15-15-v1"

// Part is a part of the data.
type Part string

// The parts: weights are fitted on Train; temperatures, thresholds, pooling
// weights and every choice on Validation; figures come from Test alone.
const (
	Train      Part = "train"
	Validation Part = "validation"
	Test       Part = "test"
)

// MaxComponent bounds a component that near-twin photos may build, so that a
// chain of pairs, each alike, cannot swallow a whole type. Equal titles always
// stay together.
const MaxComponent = 400

// Split is the outcome of the rule: for each product, in the given order, its
// component (the smallest id in it) and its part.
type Split struct {
	IDs       []int
	Component []int
	Part      []Part
	Refused   int // twin pairs kept apart because of MaxComponent
}

// NewSplit splits products so that equal titles (as internal/words folds them)
// and near-twin photos fall into one part. Components are joined by title
// first, then by rising distance of photos; each goes to the part that the
// hash of its smallest id says: 70% train, 15% validation, 15% test.
func NewSplit(products []Product, twins []Twin) Split {
	c := newComponents(len(products))
	first := map[string]int{}
	for i, p := range products {
		title := words.Fold(p.Title)
		if j, ok := first[title]; ok {
			c.join(i, j)
		} else {
			first[title] = i
		}
	}
	twins = slices.Clone(twins)
	slices.SortStableFunc(twins, func(a, b Twin) int { return cmp.Compare(a.Distance, b.Distance) })
	var s Split
	for _, t := range twins {
		if a, b := c.root(t.A), c.root(t.B); a != b && c.size[a]+c.size[b] > MaxComponent {
			s.Refused++
			continue
		}
		c.join(t.A, t.B)
	}
	smallest := map[int]int{}
	for i, p := range products {
		r := c.root(i)
		if id, ok := smallest[r]; !ok || p.ID < id {
			smallest[r] = p.ID
		}
	}
	for i, p := range products {
		id := smallest[c.root(i)]
		s.IDs = append(s.IDs, p.ID)
		s.Component = append(s.Component, id)
		s.Part = append(s.Part, partOf(id))
	}
	return s
}

func partOf(component int) Part {
	sum := sha256.Sum256([]byte(Rule + "/" + strconv.Itoa(component)))
	switch at := binary.BigEndian.Uint64(sum[:8]) % 100; {
	case at < 70:
		return Train
	case at < 85:
		return Validation
	}
	return Test
}

// WriteCSV writes the columns id, component, split.
func (s Split) WriteCSV(w io.Writer) error {
	if _, err := io.WriteString(w, "id,component,split\n"); err != nil {
		return err
	}
	for i, id := range s.IDs {
		if _, err := fmt.Fprintf(w, "%d,%d,%s\n", id, s.Component[i], s.Part[i]); err != nil {
			return err
		}
	}
	return nil
}

// Set is the data that the models are made of: the products of the labelled
// types, each in its part.
type Set struct {
	Dir      string
	Labels   []string // sorted
	Products []Product
	Parents  map[string]Pair
	Split    Split
}

// Load reads the data in dir and splits it. It reads every photo.
func Load(ctx context.Context, dir string) (*Set, error) {
	all, err := Read(dir)
	if err != nil {
		return nil, err
	}
	s := &Set{Dir: dir, Labels: Labels(all)}
	s.Products = Labelled(all, s.Labels)
	s.Parents = Parents(all, s.Labels)
	twins, err := Twins(ctx, dir, s.Products, TwinDistance)
	if err != nil {
		return nil, err
	}
	s.Split = NewSplit(s.Products, twins)
	return s, nil
}

// In returns the products of a part, by rising id.
func (s *Set) In(part Part) []Product {
	var out []Product
	for i, p := range s.Products {
		if s.Split.Part[i] == part {
			out = append(out, p)
		}
	}
	return out
}

// Label returns the index of the product's label.
func (s *Set) Label(p Product) int {
	i, _ := slices.BinarySearch(s.Labels, p.Type)
	return i
}

// Components returns the component of each of some products.
func (s *Set) Components(products []Product) []int {
	component := make(map[int]int, len(s.Products))
	for i, p := range s.Products {
		component[p.ID] = s.Split.Component[i]
	}
	out := make([]int, len(products))
	for i, p := range products {
		out[i] = component[p.ID]
	}
	return out
}

// components is a union-find forest.
type components struct{ parent, size []int }

func newComponents(n int) *components {
	c := &components{make([]int, n), make([]int, n)}
	for i := range n {
		c.parent[i], c.size[i] = i, 1
	}
	return c
}

func (c *components) root(i int) int {
	for c.parent[i] != i {
		c.parent[i] = c.parent[c.parent[i]]
		i = c.parent[i]
	}
	return i
}

func (c *components) join(i, j int) {
	a, b := c.root(i), c.root(j)
	if a == b {
		return
	}
	if c.size[a] < c.size[b] {
		a, b = b, a
	}
	c.parent[b] = a
	c.size[a] += c.size[b]
}
