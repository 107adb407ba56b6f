package model

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"sigs.k8s.io/yaml"
)

// decode reads a model.yaml. It refuses what a reader of the file could
// misunderstand: unknown fields and fields in other case, a field given twice,
// a second document, null for a value, a number for a text.
func decode(raw []byte) (Spec, error) {
	var s Spec
	text, err := toJSON(raw)
	if err != nil {
		return s, err
	}
	if at := null(text); at != "" {
		return s, fmt.Errorf("%s is empty: give it a value, or leave the line out", at)
	}
	if err := jsonv2.Unmarshal(text, &s, jsonv2.RejectUnknownMembers(true)); err != nil {
		return s, explain(err)
	}
	return s, nil
}

// toJSON turns YAML into JSON, keys in order.
func toJSON(raw []byte) ([]byte, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("it is not valid UTF-8")
	}
	begun := false
	for line := range bytes.Lines(raw) {
		line = bytes.TrimRight(line, " \t\r\n")
		if begun && (bytes.Equal(line, []byte("---")) || bytes.HasPrefix(line, []byte("--- "))) {
			return nil, errors.New("it holds more than one document: write one model a file")
		}
		begun = begun || len(line) > 0 && line[0] != '#'
	}
	text, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		if strings.Contains(err.Error(), "unsupported value") {
			return nil, errors.New("a number is not finite (.nan or .inf)")
		}
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return text, nil
}

// null returns where the first null is, or "".
func null(text []byte) string {
	for dec := jsontext.NewDecoder(bytes.NewReader(text)); ; {
		t, err := dec.ReadToken()
		if err != nil {
			return ""
		}
		if t.Kind() == 'n' {
			if at := field(dec.StackPointer()); at != "" {
				return at
			}
			return "the file"
		}
	}
}

// field writes a pointer as people write fields: inputs[0].name.
func field(p jsontext.Pointer) string {
	var b strings.Builder
	for t := range p.Tokens() {
		switch {
		case strings.Trim(t, "0123456789") == "" && t != "":
			fmt.Fprintf(&b, "[%s]", t)
		case b.Len() > 0:
			b.WriteString("." + t)
		default:
			b.WriteString(t)
		}
	}
	return b.String()
}

// explain words a refusal of the decoder's.
func explain(err error) error {
	e, ok := errors.AsType[*jsonv2.SemanticError](err)
	if !ok {
		return err
	}
	at := field(e.JSONPointer)
	if at == "" {
		at = "the file"
	}
	switch {
	case errors.Is(err, jsonv2.ErrUnknownName):
		return fmt.Errorf("%s is no field of a model.yaml (fields are written exactly as docs/models.md has them)", at)
	case e.GoType == reflect.TypeFor[Duration]() && e.JSONKind != '"':
		return fmt.Errorf("%s must be text, not %s: want a duration such as 2ms", at, jsonKind(e.JSONKind))
	case e.JSONKind != 0 && e.GoType != nil && e.Err == nil:
		hint := ""
		if e.GoType.Kind() == reflect.String && strings.ContainsRune("0tf", rune(e.JSONKind)) {
			hint = ": put it in quotes"
		}
		return fmt.Errorf("%s must be %s, not %s%s", at, goKind(e.GoType.Kind()), jsonKind(e.JSONKind), hint)
	case e.Err != nil:
		return fmt.Errorf("%s: %w", at, e.Err)
	}
	return fmt.Errorf("%s: %w", at, err)
}

func jsonKind(k jsontext.Kind) string {
	switch k {
	case '{':
		return "a map"
	case '[':
		return "a list"
	case '"':
		return "text"
	case '0':
		return "a number"
	}
	return "true or false"
}

func goKind(k reflect.Kind) string {
	switch k {
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "a map"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}
