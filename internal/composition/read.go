package composition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxProblems bounds how many problems of one file are told.
const maxProblems = 20

// Problem is one thing that is wrong with a composition file.
type Problem struct {
	Line   int    `json:"line"`             // from 1; 0: of no line
	Column int    `json:"column,omitempty"` // from 1; 0: not known
	Field  string `json:"field,omitempty"`  // such as spec.legs[1].weight; empty: the file
	Text   string `json:"text"`             // what is wrong and what to do
}

// Error gives the problem in a sentence.
func (p *Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Line > 0 && p.Column > 0:
		fmt.Fprintf(&b, "line %d, column %d: ", p.Line, p.Column)
	case p.Line > 0:
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems are all that is wrong with a composition file, in its order; of
// very many the first.
type Problems []*Problem

// Error gives one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// reader collects what is wrong while the values of a file are read.
type reader struct{ problems Problems }

// err is what is wrong so far.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b *Problem) int { return a.Line - b.Line })
	return r.problems
}

// value is a place in the file. Of one that is not there the node is that
// around it, so that a problem has a line.
type value struct {
	r     *reader
	node  *yaml.Node
	path  string
	there bool
	quiet bool // what it would be in has another shape, which has been told
}

// inYAML is how the YAML library says where a text is no YAML.
var inYAML = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// document gives the one value of a file.
func (r *reader) document(raw []byte) (value, error) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return value{}, Problems{{Text: "it is empty: want a composition"}}
	case err != nil:
		m := inYAML.FindStringSubmatch(err.Error())
		if m == nil {
			return value{}, Problems{{Text: err.Error()}}
		}
		line, _ := strconv.Atoi(m[1]) // 0: it names none
		return value{}, Problems{{Line: line, Text: strings.TrimPrefix(err.Error(), m[0])}}
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return value{}, Problems{{Line: second.Line, Text: "there is a second document after the first; a file holds one composition"}}
	}
	return value{r: r, node: doc.Content[0], there: true}, nil
}

// wrong notes a problem of the value.
func (v value) wrong(format string, args ...any) {
	if !v.quiet && len(v.r.problems) < maxProblems {
		v.r.problems = append(v.r.problems, &Problem{v.node.Line, v.node.Column, v.path, fmt.Sprintf(format, args...)})
	}
}

// resolve follows an alias, and takes null for a value that is not there.
func (v value) resolve() value {
	for range 8 {
		if v.node.Kind != yaml.AliasNode {
			break
		}
		v.node = v.node.Alias
	}
	if v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!null" {
		v.there = false
	}
	return v
}

// is reports whether the value is there and of a kind; another one is wrong.
func (v value) is(kind yaml.Kind, want string) bool {
	if v.there && v.node.Kind != kind {
		v.wrong("it is %s: want %s", kinds[v.node.Kind], want)
	}
	return v.there && v.node.Kind == kind
}

var kinds = map[yaml.Kind]string{yaml.ScalarNode: "one value", yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.AliasNode: "an alias of an alias"}

// fields gives the values of a mapping that may have the known ones. The
// result answers for every name.
func (v value) fields(known ...string) func(name string) value {
	found := map[string]value{}
	if v.is(yaml.MappingNode, "a mapping with "+strings.Join(known, ", ")) {
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			key := v.node.Content[i]
			at := value{r: v.r, node: key, path: v.below(key.Value), there: true}
			first, twice := found[key.Value]
			switch {
			case key.ShortTag() == "!!merge":
				at.wrong("merge keys are not read; write the fields out")
			case key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value):
				at.wrong("unknown field %.80q; is it misspelt? There are: %s", key.Value, strings.Join(known, ", "))
			case twice:
				at.wrong("the field is on line %d already; leave one of them out", first.node.Line)
			default:
				at.node = v.node.Content[i+1]
				found[key.Value] = at.resolve()
			}
		}
	}
	return func(name string) value {
		if f, ok := found[name]; ok {
			return f
		}
		return value{r: v.r, node: v.node, path: v.below(name), quiet: v.quiet || v.there && v.node.Kind != yaml.MappingNode}
	}
}

func (v value) below(name string) string {
	if v.path == "" {
		return name
	}
	return v.path + "." + name
}

// items gives the values of a list of at most so many.
func (v value) items(most int) []value {
	if !v.is(yaml.SequenceNode, "a list") {
		return nil
	}
	if n := len(v.node.Content); n > most {
		v.wrong("it has %d entries: want at most %d", n, most)
		return nil
	}
	out := make([]value, len(v.node.Content))
	for i, n := range v.node.Content {
		out[i] = value{r: v.r, node: n, path: fmt.Sprintf("%s[%d]", v.path, i), there: true}.resolve()
	}
	return out
}

// text gives a text; false when there is none, or something else.
func (v value) text() (string, bool) {
	if !v.is(yaml.ScalarNode, "a text") {
		return "", false
	}
	if tag := v.node.ShortTag(); tag != "!!str" {
		v.wrong("%.40s is no text for YAML; put it in quotes", v.node.Value)
		return "", false
	}
	return v.node.Value, true
}

// oneOf gives a text that is among those wanted; empty when it is not there.
func (v value) oneOf(want ...string) string {
	text, ok := v.text()
	if ok && !slices.Contains(want, text) {
		v.wrong("%.80q: want %s", text, strings.Join(want, " or "))
		return ""
	}
	return text
}

// missing notes that a value is not there, and reports it.
func (v value) missing(want string) bool {
	if !v.there {
		v.wrong("it is missing: want %s", want)
	}
	return !v.there
}

// number gives a number for which ok holds, or that of without.
func (v value) number(without float64, ok func(float64) bool, want string) float64 {
	if !v.is(yaml.ScalarNode, want) {
		return without
	}
	var f float64
	if tag := v.node.ShortTag(); tag != "!!int" && tag != "!!float" || v.node.Decode(&f) != nil || !ok(f) {
		v.wrong("%.40q: want %s", v.node.Value, want)
		return without
	}
	return f
}

// whole gives a whole number within bounds, or that of without.
func (v value) whole(without, least, most int) int {
	want := fmt.Sprintf("a whole number from %d to %d", least, most)
	return int(v.number(float64(without), func(f float64) bool {
		return f >= float64(least) && f <= float64(most) && f == float64(int(f))
	}, want))
}

// duration gives a time above least and up to most, or that of without.
func (v value) duration(without, least, most time.Duration) time.Duration {
	if !v.is(yaml.ScalarNode, "a duration such as 10s or 500ms") {
		return without
	}
	d, err := time.ParseDuration(v.node.Value)
	switch {
	case err != nil:
		v.wrong("%.40q is not a duration such as 10s or 500ms", v.node.Value)
		return without
	case d < least || d > most || d == 0 && least > 0:
		v.wrong("%s: want %s to %s", d, least, most)
		return without
	}
	return d
}

// flag gives true or false, which is also what is not there.
func (v value) flag() bool {
	if !v.is(yaml.ScalarNode, "true or false") {
		return false
	}
	if v.node.ShortTag() != "!!bool" {
		v.wrong("%.40q: want true or false", v.node.Value)
		return false
	}
	var b bool
	return v.node.Decode(&b) == nil && b
}
