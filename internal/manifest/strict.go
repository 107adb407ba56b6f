package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// checkShape compares a decoded YAML value with the Go type that it will be
// decoded into: unknown fields and values of another kind are problems, each
// with its path. Decoding would report only the first, and not where it is.
func checkShape(f *findings, object, path string, v any, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		if v == nil {
			return
		}
		t = t.Elem()
	}
	if v == nil {
		return
	}
	if decodesItself(t) {
		text, err := json.Marshal(v)
		if err == nil && t.Kind() != reflect.Interface {
			err = json.Unmarshal(text, reflect.New(t).Interface())
		}
		if err != nil {
			f.refuse(object, path, "%s", plain(err))
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			f.refuse(object, path, "want a mapping, have %s", kindOf(v))
			return
		}
		fields := jsonFields(t)
		for _, key := range slices.Sorted(maps.Keys(m)) {
			at := join(path, key)
			ft, ok := fields[key]
			if !ok {
				f.refuse(object, at, "unknown field%s", meant(key, maps.Keys(fields)))
				continue
			}
			checkShape(f, object, at, m[key], ft)
		}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 { // base64 in a string
			wantString(f, object, path, v)
			return
		}
		list, ok := v.([]any)
		if !ok {
			f.refuse(object, path, "want a list, have %s", kindOf(v))
			return
		}
		for i, e := range list {
			checkShape(f, object, fmt.Sprintf("%s[%d]", path, i), e, t.Elem())
		}
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			f.refuse(object, path, "want a mapping, have %s", kindOf(v))
			return
		}
		for _, key := range slices.Sorted(maps.Keys(m)) {
			checkShape(f, object, join(path, key), m[key], t.Elem())
		}
	case reflect.String:
		wantString(f, object, path, v)
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			f.refuse(object, path, "want true or false, have %s", kindOf(v))
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if !isWhole(v) {
			f.refuse(object, path, "want a whole number, have %s", kindOf(v))
		}
	}
}

func wantString(f *findings, object, path string, v any) {
	if _, ok := v.(string); !ok {
		f.refuse(object, path, "want a string, have %s: write it in quotes", kindOf(v))
	}
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// decodesItself is true for quantities, times and the like, whose shape only
// their own code knows.
func decodesItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(unmarshaler) || t.Kind() == reflect.Interface
}

// jsonFields are a struct's fields by their name in JSON, those of inlined
// structs included.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	fields := make(map[string]reflect.Type, t.NumField())
	for sf := range t.Fields() {
		name, opts, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "-" || !sf.IsExported() {
			continue
		}
		if name == "" && (sf.Anonymous || opts == "inline") {
			inner := sf.Type
			for inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			maps.Copy(fields, jsonFields(inner))
			continue
		}
		if name == "" {
			name = sf.Name
		}
		fields[name] = sf.Type
	}
	return fields
}

func isWhole(v any) bool {
	switch n := v.(type) {
	case int, int64, uint64:
		return true
	case float64:
		return n == float64(int64(n))
	}
	return false
}

func kindOf(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case string:
		return fmt.Sprintf("the string %.40q", v)
	case bool:
		return fmt.Sprint(v)
	case nil:
		return "nothing"
	}
	return fmt.Sprintf("the number %v", v)
}

// join appends a field to a path; what is not an identifier is put in brackets.
func join(path, key string) string {
	if key == "" || strings.ContainsAny(key, "./[] \"") {
		return fmt.Sprintf("%s[%q]", path, key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
