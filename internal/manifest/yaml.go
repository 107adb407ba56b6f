package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

const (
	// maxNodes bounds a YAML file once its aliases are written out: nine lines
	// of aliases to aliases can stand for a billion values.
	maxNodes = 50_000
	// maxNesting bounds the recursion of whatever walks the values later.
	maxNesting = 100
)

// inspectYAML counts the objects in a file, and refuses what a parser would accept and a reader would not expect:
// the same key twice in one mapping, and aliases that stand for far more than
// the file shows.
func inspectYAML(data []byte) (objects int, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return 0, err
		}
		in := inspector{sizes: make(map[*yaml.Node]int)}
		if _, err := in.size(&doc, 0); err != nil {
			return 0, err
		}
		objects += 1 + listed(&doc)
	}
}

// listed counts the objects in a List, which kustomize takes apart.
func listed(doc *yaml.Node) int {
	for _, top := range doc.Content {
		for i := 0; top.Kind == yaml.MappingNode && i+1 < len(top.Content); i += 2 {
			if top.Content[i].Value != "items" {
				continue
			}
			items := top.Content[i+1]
			if items.Kind == yaml.AliasNode {
				items = items.Alias
			}
			return len(items.Content)
		}
	}
	return 0
}

type inspector struct {
	sizes map[*yaml.Node]int // of what anchors stand for
}

func (in *inspector) size(n *yaml.Node, depth int) (int, error) {
	if depth > maxNesting {
		return 0, fmt.Errorf("line %d: nested more than %d deep", n.Line, maxNesting)
	}
	if n.Kind == yaml.AliasNode {
		size, ok := in.sizes[n.Alias]
		if !ok {
			return 0, fmt.Errorf("line %d: alias *%s is part of what it stands for", n.Line, n.Value)
		}
		return size, nil
	}
	total := 1
	seen := make(map[string]int)
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.ScalarNode && child.Value != "<<" {
			if line, twice := seen[child.Value]; twice {
				return 0, fmt.Errorf("line %d: %q is set twice; first on line %d", child.Line, child.Value, line)
			}
			seen[child.Value] = child.Line
		}
		size, err := in.size(child, depth+1)
		if err != nil {
			return 0, err
		}
		if total += size; total > maxNodes {
			return 0, fmt.Errorf("line %d: stands for more than %d values", child.Line, maxNodes)
		}
	}
	if n.Anchor != "" {
		in.sizes[n] = total
	}
	return total, nil
}
