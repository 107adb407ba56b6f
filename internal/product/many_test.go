package product

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/problem"
)

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
		status   int
		err      string
	}{
		{"none", ` [ ] `, nil, 0, ""},
		{"two", ` [ {"title":"a"} , 7 ] `, []string{`{"title":"a"}`, `7`}, 0, ""},
		{"bad ones among them", "[{\"title\":\"\xff\"},{\"a\":1,\"a\":2}]", []string{"{\"title\":\"\xff\"}", `{"a":1,"a":2}`}, 0, ""},
		{"not an array", `{}`, nil, 400, "not a JSON array"},
		{"ends early", `[{"title":"a"}`, nil, 400, "ends too early"},
		{"ends in an element", `[{"title":"a`, nil, 400, "ends too early"},
		{"no comma", `[{} {}]`, nil, 400, "not valid JSON"},
		{"comma at the end", `[{},]`, nil, 400, "not valid JSON"},
		{"text behind", `[{}]]`, nil, 400, "text after the closing bracket"},
		{"deep", strings.Repeat("[", 100_000), nil, 400, "not valid JSON"},
		{"too many", `[1,2,3,4]`, nil, 413, "more than 3 products"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Split([]byte(tt.in), 3)
			if tt.status != 0 {
				if problem.Status(err) != tt.status || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %q, %v; want a %d with %q", got, err, tt.status, tt.err)
				}
				return
			}
			if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tt.want) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// FuzzSplit: what is split is what encoding/json finds in the array, and it
// refuses with a 4xx.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{`[]`, `[{"title":"a"},{"title":"b"}]`, ` [1 , "a",null ] `, `[[`, `[{}]x`, "[\"\xff\"]", `[{"a":1,"a":2}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := Split(in, 100)
		if err != nil {
			if s := problem.Status(err); s != 400 && s != 413 {
				t.Fatalf("refused with %d: %v", s, err)
			}
			return
		}
		var want []json.RawMessage
		if err := json.Unmarshal(in, &want); err != nil || len(want) != len(got) || !IsMany(in) {
			t.Fatalf("%q is split into %q; encoding/json finds %q, %v", in, got, want, err)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("element %d of %q is %q, for encoding/json %q", i, in, got[i], want[i])
			}
		}
	})
}
