package taxonomy

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ParseHeureka reads a tree as Heureka publishes it: HEUREKA > CATEGORY, each with
// CATEGORY_ID, CATEGORY_NAME and the categories below it; CATEGORY_FULLNAME and
// whatever else there is are passed over. A leaf whose name another one has too
// has its path for a label, joined by " | ".
//
// No entities are expanded but XML's own five, and nothing is fetched: encoding/xml
// refuses others.
func ParseHeureka(data []byte) (*Tree, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("the taxonomy is %d bytes long; at most %d are read", len(data), MaxBytes)
	}
	dec := xml.NewDecoder(bytes.NewReader(data))
	var nodes, open []*node
	above := map[*node]*node{} // whose id may come after what is below it
	var text *string           // of the element that is read
	depth, passed := 0, 0      // passed: elements of no use that are open
	for {
		token, err := dec.Token()
		line, _ := dec.InputPos()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: it is not XML: %w", line, err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			depth++
			switch name := e.Name.Local; {
			case passed > 0:
				passed++
			case depth == 1:
				if name != "HEUREKA" {
					return nil, fmt.Errorf("line %d: the first element is %.80q: want HEUREKA", line, name)
				}
			case name == "CATEGORY":
				if len(nodes) == MaxNodes {
					return nil, fmt.Errorf("line %d: more than %d categories", line, MaxNodes)
				}
				if len(open) == MaxDepth {
					return nil, fmt.Errorf("line %d: categories lie more than %d levels deep", line, MaxDepth)
				}
				n := &node{line: line}
				if len(open) > 0 {
					above[n] = open[len(open)-1]
				}
				nodes, open = append(nodes, n), append(open, n)
			case name == "CATEGORY_ID" && len(open) > 0:
				text = &open[len(open)-1].id
			case name == "CATEGORY_NAME" && len(open) > 0:
				text = &open[len(open)-1].name
			default:
				passed = 1
			}
		case xml.EndElement:
			depth--
			switch {
			case passed > 0:
				passed--
			case e.Name.Local == "CATEGORY":
				open = open[:len(open)-1]
			}
			text = nil
		case xml.CharData:
			if text != nil && passed == 0 {
				*text += string(e)
			}
		}
	}
	if len(nodes) == 0 {
		return nil, errors.New("the taxonomy has no categories")
	}
	for _, n := range nodes {
		n.id, n.name = strings.TrimSpace(n.id), strings.TrimSpace(n.name)
		switch {
		case n.id == "":
			return nil, fmt.Errorf("line %d: the category has no CATEGORY_ID", n.line)
		case n.name == "":
			return nil, fmt.Errorf("line %d: the category has no CATEGORY_NAME", n.line)
		}
		for what, f := range map[string]string{"id": n.id, "name": n.name} {
			if err := CheckField(what, f); err != nil {
				return nil, fmt.Errorf("line %d: %w", n.line, err)
			}
		}
	}
	for n, parent := range above {
		n.parent = parent.id
	}
	return build(nodes, true)
}
