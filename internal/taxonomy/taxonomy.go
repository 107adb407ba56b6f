// Package taxonomy is the tree of categories, and where a label is in it.
//
// It is read from CSV with the header id,parent,name: one category a line, in
// any order, a root with an empty parent. The names of leaves are the labels
// that classifiers give. [Parse] refuses a tree that is not one, and a label
// that two leaves share, and names the line. A parsed Tree is immutable.
package taxonomy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
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

// Tree is a taxonomy.
type Tree struct {
	leaves map[string]Leaf // by label
	nodes  int
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
func (t *Tree) Len() int { return t.nodes }

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
	leaves := make(map[string]Leaf)
	lines := make(map[string]int)
	for _, n := range nodes {
		path, err := pathOf(n, byID)
		if err != nil {
			return nil, err
		}
		if first, ok := siblings[[2]string{n.parent, n.name}]; ok {
			return nil, fmt.Errorf("line %d: %q has the same parent and name as line %d", n.line, n.name, first)
		}
		siblings[[2]string{n.parent, n.name}] = n.line
		if n.children > 0 {
			continue
		}
		if first, ok := lines[n.name]; ok {
			return nil, fmt.Errorf("line %d: the label %q is ambiguous: line %d has it too (leaves' names are labels and must differ)", n.line, n.name, first)
		}
		lines[n.name] = n.line
		leaves[n.name] = Leaf{ID: n.id, Label: n.name, Path: path}
	}
	return &Tree{leaves: leaves, nodes: len(nodes)}, nil
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
