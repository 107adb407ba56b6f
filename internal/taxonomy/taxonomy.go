// Package taxonomy is the tree of categories, and where a label is in it.
//
// It is read from CSV with the header id,parent,name: one category a line, in
// any order, a root with an empty parent; or from Heureka's XML
// ([ParseHeureka]). The names of leaves are the labels that classifiers give.
// [Parse] refuses a tree that is not one, and a label that two leaves share, and
// names the line. A category that is renamed or moved is known by its id. A
// parsed Tree is immutable.
package taxonomy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"aisle.dev/aisle/internal/prediction"
)

// Bounds of a taxonomy.
const (
	MaxBytes = 16 << 20
	MaxNodes = 100_000
	MaxDepth = 32
	MaxField = 512 // bytes of an id or a name
)

// Leaf is a category that has none below it.
type Leaf struct {
	ID    string
	Label string
	Path  []string // names, from the root to the label itself; not to be changed
}

// Node is a category, a leaf or one that has others below it.
type Node struct {
	ID    string
	Name  string
	Label string   // of a leaf: what classifiers call it
	Path  []string // names, from the root to its own; not to be changed
	Level int      // 1: a root
}

// Tree is a taxonomy.
type Tree struct {
	leaves map[string]Leaf // by label
	nodes  []Node          // in the order of the file
	parent []int           // of each node; -1: none
	ids    map[string]int  // a node by its id
	labels map[string]int  // a leaf by its label
}

// Leaf finds a label. The zero Tree knows none.
func (t *Tree) Leaf(label string) (Leaf, bool) {
	if t == nil {
		return Leaf{}, false
	}
	l, ok := t.leaves[label]
	return l, ok
}

// Labels returns all labels, sorted.
func (t *Tree) Labels() []string {
	out := make([]string, 0, len(t.leaves))
	for l := range t.leaves {
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

// Len returns how many categories there are, inner ones included.
func (t *Tree) Len() int { return len(t.nodes) }

// Node finds a category by its id.
func (t *Tree) Node(id string) (Node, bool) {
	i, ok := t.ids[id]
	if !ok {
		return Node{}, false
	}
	return t.nodes[i], true
}

// Resolve gives the label that a text stands for: a label itself, or a leaf's id.
func (t *Tree) Resolve(text string) (label string, ok bool) {
	if _, ok := t.labels[text]; ok {
		return text, true
	}
	n, ok := t.Node(text)
	return n.Label, ok && n.Label != ""
}

// Above gives the ids and names of a label's category and of all above it.
func (t *Tree) Above(label string) (all []string) {
	i, ok := t.labels[label]
	if !ok {
		return nil
	}
	for ; i >= 0; i = t.parent[i] {
		all = append(all, t.nodes[i].ID, t.nodes[i].Name)
	}
	return all
}

// Named gives what a name stands for: each label, name and id has the label,
// or those of all categories below it.
func (t *Tree) Named() map[string][]string {
	named := map[string][]string{}
	for _, label := range t.Labels() {
		names := append(t.Above(label), label)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			named[name] = append(named[name], label)
		}
	}
	return named
}

// Answer gives the deepest category that is sure enough, of a distribution over
// labels: a category's probability is the sum of those of the labels below it.
// thresholds are what each level wants, from the roots on, the last one of all
// levels below too. A label that the tree does not know is a category by itself,
// of level 1. Of equally deep ones the likeliest is taken, of equally likely ones
// the first. Where none is sure enough it gives the likeliest root, and false.
func (t *Tree) Answer(dist []prediction.Prediction, thresholds []float64) (n Node, confidence float64, sure bool) {
	sums := make([]float64, len(t.nodes))
	found, at := -1, 0.0 // the best that is sure enough
	root := Node{}
	rootAt := -1.0
	var stray *prediction.Prediction
	for k := range dist {
		q := &dist[k]
		i, ok := t.labels[q.Label]
		if !ok {
			if stray == nil || q.Probability > stray.Probability {
				stray = q
			}
			continue
		}
		for ; i >= 0; i = t.parent[i] {
			sums[i] += q.Probability
		}
	}
	for i, p := range sums {
		level := t.nodes[i].Level
		if level == 1 && p > rootAt {
			root, rootAt = t.nodes[i], p
		}
		if p < thresholds[min(level, len(thresholds))-1] || p == 0 {
			continue
		}
		if found < 0 || level > t.nodes[found].Level || level == t.nodes[found].Level && p > at {
			found, at = i, p
		}
	}
	if stray != nil {
		alone := Node{Name: stray.Label, Label: stray.Label, Path: []string{stray.Label}, Level: 1}
		if stray.Probability > rootAt {
			root, rootAt = alone, stray.Probability
		}
		if found < 0 && stray.Probability >= thresholds[0] {
			return alone, stray.Probability, true
		}
	}
	if found < 0 {
		return root, max(0, rootAt), false
	}
	return t.nodes[found], min(1, at), true
}

type node struct {
	id, parent, name string
	line             int
	children         int
}

// Parse reads a taxonomy.
func Parse(data []byte) (*Tree, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("the taxonomy is %d bytes long; at most %d are read", len(data), MaxBytes)
	}
	nodes, err := read(data)
	if err != nil {
		return nil, err
	}
	return build(nodes, false)
}

// build checks that nodes are a tree. Where names may be shared, a leaf whose name
// another one has too has its path for a label.
func build(nodes []*node, shared bool) (*Tree, error) {
	byID := make(map[string]*node, len(nodes))
	for _, n := range nodes {
		if first, ok := byID[n.id]; ok {
			return nil, fmt.Errorf("line %d: the id %q is on line %d already", n.line, n.id, first.line)
		}
		byID[n.id] = n
	}
	for _, n := range nodes {
		if n.parent == "" {
			continue
		}
		p, ok := byID[n.parent]
		if !ok {
			return nil, fmt.Errorf("line %d: the parent %q of %q is on no line", n.line, n.parent, n.id)
		}
		p.children++
	}
	siblings := make(map[[2]string]int, len(nodes))
	t := &Tree{leaves: map[string]Leaf{}, ids: make(map[string]int, len(nodes)), labels: map[string]int{}}
	lines := make(map[string]int)
	count := map[string]int{}
	for i, n := range nodes {
		t.ids[n.id] = i
		if n.children == 0 {
			count[n.name]++
		}
	}
	for i, n := range nodes {
		path, err := pathOf(n, byID)
		if err != nil {
			return nil, err
		}
		if first, ok := siblings[[2]string{n.parent, n.name}]; ok {
			return nil, fmt.Errorf("line %d: %q has the same parent and name as line %d", n.line, n.name, first)
		}
		siblings[[2]string{n.parent, n.name}] = n.line
		above := -1
		if n.parent != "" {
			above = t.ids[n.parent]
		}
		t.nodes, t.parent = append(t.nodes, Node{ID: n.id, Name: n.name, Path: path, Level: len(path)}), append(t.parent, above)
		if n.children > 0 {
			continue
		}
		label := n.name
		if shared && count[n.name] > 1 {
			label = strings.Join(path, " | ")
		}
		if first, ok := lines[label]; ok {
			return nil, fmt.Errorf("line %d: the label %q is ambiguous: line %d has it too (leaves' names are labels and must differ)", n.line, label, first)
		}
		lines[label] = n.line
		t.leaves[label], t.labels[label] = Leaf{ID: n.id, Label: label, Path: path}, i
		t.nodes[i].Label = label
	}
	return t, nil
}

func read(data []byte) ([]*node, error) {
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(data), "\ufeff")))
	r.FieldsPerRecord = 3
	r.ReuseRecord = true
	columns := []string{"id", "parent", "name"}
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the taxonomy is empty; its first line is id,parent,name")
	}
	if err != nil || !slices.Equal(header, columns) {
		return nil, fmt.Errorf("line 1: want the header id,parent,name")
	}
	var nodes []*node
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if p, ok := errors.AsType[*csv.ParseError](err); ok {
				return nil, fmt.Errorf("line %d: %w", p.Line, p.Err)
			}
			return nil, err
		}
		line, _ := r.FieldPos(0)
		n := &node{id: rec[0], parent: rec[1], name: rec[2], line: line}
		switch {
		case len(nodes) == MaxNodes:
			return nil, fmt.Errorf("line %d: more than %d categories", line, MaxNodes)
		case n.id == "":
			return nil, fmt.Errorf("line %d: the id is empty", line)
		case n.name == "":
			return nil, fmt.Errorf("line %d: the name is empty", line)
		case n.parent == n.id:
			return nil, fmt.Errorf("line %d: %q is its own parent", line, n.id)
		}
		for i, f := range rec {
			if err := CheckField(columns[i], f); err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
		}
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return nil, errors.New("the taxonomy has no categories")
	}
	return nodes, nil
}

// CheckField refuses a text that is no id, name or label: one that is too long,
// not UTF-8, or that begins or ends with a space. Of what it is, what says.
func CheckField(what, text string) error {
	switch {
	case len(text) > MaxField:
		return fmt.Errorf("the %s is %d bytes long; at most %d are read", what, len(text), MaxField)
	case !utf8.ValidString(text):
		return fmt.Errorf("the %s %q is not valid UTF-8", what, text)
	case text != strings.TrimSpace(text):
		return fmt.Errorf("the %s %q begins or ends with a space", what, text)
	}
	return nil
}

// pathOf walks up to the root. All parents are known to exist.
func pathOf(n *node, byID map[string]*node) ([]string, error) {
	var path []string
	for at := n; ; at = byID[at.parent] {
		path = append(path, at.name)
		if at.parent == "" {
			slices.Reverse(path)
			return path, nil
		}
		if at.parent == n.id {
			return nil, fmt.Errorf("line %d: %q is its own ancestor: its parents make a cycle", n.line, n.id)
		}
		if len(path) == MaxDepth {
			// A cycle above n ends here too, and is then named as such by
			// one of its own members where those come first.
			return nil, fmt.Errorf("line %d: %q is more than %d levels deep, or below a cycle", n.line, n.id, MaxDepth)
		}
	}
}
