package product

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"aisle.dev/aisle/internal/problem"
)

func TestDecode(t *testing.T) {
	got, err := Decode([]byte(`{"id":"p1","title":"Blue shirt","brand":"Acme","attributes":{"colour":"Blue"},"images":[{"data":"/9j/"},{"url":"https://shop.example/p1.jpg"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Product{ID: "p1", Title: "Blue shirt", Brand: "Acme", Attributes: map[string]string{"colour": "Blue"},
		Images: []Image{{Data: []byte{0xff, 0xd8, 0xff}}, {URL: "https://shop.example/p1.jpg"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestDecodeRefuses(t *testing.T) {
	many := func(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	for _, tt := range []struct {
		name, in string
		status   int
		says     string
	}{
		{"empty", "", 400, "empty"},
		{"not JSON", "title=shirt", 400, "JSON"},
		{"cut short", `{"title":"a`, 400, "too early"},
		{"an array", `[{"title":"a"}]`, 400, "must be an object"},
		{"title a number", `{"title":5}`, 400, "title must be a string"},
		{"attribute a number", `{"title":"a","attributes":{"size":5}}`, 400, "attributes"},
		{"unknown field", `{"titel":"a"}`, 400, `unknown field "titel"`},
		{"a field twice", `{"title":"a","title":"b"}`, 400, "title"},
		{"a field in other case", `{"Title":"a"}`, 400, "Title"},
		{"trailing data", `{"title":"a"}{"title":"b"}`, 400, "after the product"},
		{"invalid UTF-8", "{\"title\":\"\xff\"}", 400, "UTF-8"},
		{"NUL", `{"title":"a\u0000b"}`, 422, "NUL"},
		{"nothing", `{}`, 422, "neither"},
		{"blank title", `{"title":" \t"}`, 422, "neither"},
		{"null", `null`, 422, "neither"},
		{"long title", `{"title":"` + strings.Repeat("a", 1<<20) + `"}`, 413, "title is 1048576 bytes"},
		{"long attribute", `{"title":"a","attributes":{"x":"` + strings.Repeat("a", MaxAttribute+1) + `"}}`, 413, `attribute "x"`},
		{"many images", `{"images":[` + many(9, `{"url":"u"}`) + `]}`, 422, "9 images"},
		{"empty image", `{"images":[{}]}`, 422, "images[0] is empty"},
		{"image twice", `{"images":[{"url":"u","data":"AAAA"}]}`, 422, "both"},
		{"bad base64", `{"images":[{"data":"%%%"}]}`, 400, "base64"},
		{"too large", `"` + strings.Repeat("a", MaxBody) + `"`, 413, "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode([]byte(tt.in))
			if err == nil {
				t.Fatal("accepted")
			}
			if got := problem.Status(err); got != tt.status || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%d %q, want %d and a sentence with %q", got, err, tt.status, tt.says)
			}
		})
	}
}

func TestOnlyAndHas(t *testing.T) {
	p := Product{ID: "1", Title: "t", Brand: "b", Attributes: map[string]string{"gender": "Men", "x": "y"}, Images: []Image{{URL: "u"}}}
	want := Product{ID: "1", Title: "t", Attributes: map[string]string{"gender": "Men"}}
	if d := cmp.Diff(want, p.Only([]string{"title", "attributes.gender", "attributes.absent"})); d != "" {
		t.Errorf("Only (-want +got)\n%s", d)
	}
	for fields, want := range map[string]bool{"title": true, "images": true, "description": false, "attributes.x": true, "attributes.z": false, "description images": true} {
		if got := p.Has(strings.Fields(fields)); got != want {
			t.Errorf("Has(%s) = %v", fields, got)
		}
	}
}

// FuzzDecode: whatever is accepted is within its bounds, survives a round
// trip, and whatever is refused is refused with a 4xx.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"title":"a"}`, `{"images":[{"data":"AAAA"}]}`, `{"title":"a","attributes":{"a":"b"}}`, `{}`, `[`, "\xff", `{"title":"\u0000"}`,
		`{"id":"1","title":"red shirt","attributes":{"a":"b"},"images":[{"data":"aGVsbG8="},{"url":"http://x/"}]}`,
		`{"TITLE":"a","title":"b"}`, `{"title":"a","title":"b"}`, `{"title":null,"images":[null],"attributes":{"a":null}}`,
		`{"images":[{"data":"aGVs\nbG8="}]}`, `{"images":[{"data":[1,2]}]}`, `{"images":[{"data":"aGVsbG8"}]}`, `{"images":[{"data":""}]}`,
		`{"title":"\ud800"}`, `{"title":"\u0000"}`, `{"attributes":{"a":"b","a":"c"}}`, `{"images":[]}`, ` null `, `{}{}`, `{"x":1}`, `{"title":"a"`,
		"{\"title\":\"\xff\"}", `{"data":"aGVsbG8="}`, `{"attributes":{}}`, `[]`, `"a"`, `{"title":1e5}`, `{"title":"` + "\u2028" + `"}`, `{"images":[{"data":"aGVsbG9="}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := Decode(in)
		if err != nil {
			if s := problem.Status(err); !slices.Contains([]int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}, s) {
				t.Fatalf("refused with %d: %v", s, err)
			}
			return
		}
		var plain Product
		if err := json.Unmarshal(in, &plain); err != nil {
			t.Fatalf("accepted %q, which encoding/json refuses: %v", in, err)
		}
		if d := cmp.Diff(plain, p, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("%q is read otherwise than by encoding/json (-it +we)\n%s", in, d)
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := Decode(out)
		if err != nil {
			t.Fatalf("accepted %q, but not its own rendering %q: %v", in, out, err)
		}
		if q.Title != p.Title || len(q.Images) != len(p.Images) || len(q.Attributes) != len(p.Attributes) {
			t.Fatalf("round trip: %+v became %+v", p, q)
		}
	})
}
