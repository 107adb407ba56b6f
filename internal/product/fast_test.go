package product

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Whatever the fast decoder accepts, encoding/json accepts with the same
// result.
func FuzzDecodeFast(f *testing.F) {
	for _, s := range []string{
		`{"id":"1","title":"red shirt","attributes":{"a":"b"},"images":[{"data":"aGVsbG8="},{"url":"http://x/"}]}`,
		`{"TITLE":"a","title":"b"}`, `{"title":"a","title":"b"}`, `{"title":null,"images":[null],"attributes":{"a":null}}`,
		`{"images":[{"data":"aGVs\nbG8="}]}`, `{"images":[{"data":[1,2]}]}`, `{"images":[{"data":"aGVsbG8"}]}`, `{"images":[{"data":""}]}`,
		`{"title":"\ud800"}`, `{"title":"\u0000"}`, `{"attributes":{"a":"b","a":"c"}}`, `{"images":[]}`, ` null `, `{}{}`, `{"x":1}`, `{"title":"a"`,
		"{\"title\":\"\xff\"}", `{"data":"aGVsbG8="}`, `{"attributes":{}}`, `[]`, `"a"`, `{"title":1e5}`, `{"title":"` + "\u2028" + `"}`, `{"images":[{"data":"aGVsbG9="}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fast, ok := decodeFast(data)
		if !ok {
			return
		}
		slow, err := decode(data)
		if err != nil {
			t.Fatalf("%q: only the fast decoder accepts it: %v", data, err)
		}
		if diff := cmp.Diff(slow, fast, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%q: %s", data, diff)
		}
	})
}

// The fast decoder takes the products that are sent.
func TestDecodeFastIsUsed(t *testing.T) {
	p := Product{ID: "1", Title: "Rosé <shirt>", Description: "d", Brand: "b", Attributes: map[string]string{"colour": "red"},
		Images: []Image{{Data: []byte{0xff, 0xd8, 0}}, {URL: "https://example.com/a?b=c&d"}}}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := decodeFast(data)
	if diff := cmp.Diff(p, got); !ok || diff != "" {
		t.Errorf("%v %s", ok, diff)
	}
}
