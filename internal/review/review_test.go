package review

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"aisle.dev/aisle/internal/product"
)

func TestDecode(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("reviewed.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("reviewed.json")
	if err != nil {
		t.Fatal(err)
	}
	d := Decision{Review: "r1", Product: product.Product{ID: "1", Title: "shoe"}, Category: Category{ID: "shoe", Label: "Shoes", Path: []string{"Footwear", "Shoes"}},
		Said: Said{Label: "Shoes", Confidence: 0.5, Composition: "sha256:1"}, Rank: 1, By: "me"}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("the schema refuses a decision: %v", err)
	}
	if got, err := Decode(text); err != nil || !got.Right() || got.Product.Title != "shoe" {
		t.Errorf("%+v %v", got, err)
	}
	for name, bad := range map[string]struct{ from, to, want string }{
		"no review":     {`"review":"r1"`, `"review":""`, "which review"},
		"a long review": {`"review":"r1"`, `"review":"` + strings.Repeat("r", 2000) + `"`, "which review"},
		"no label":      {`"label":"Shoes","path"`, `"path"`, "its label has 0 bytes"},
		"a long label":  {`"label":"Shoes","path"`, `"label":"` + strings.Repeat("r", 2000) + `","path"`, "its label has 2000 bytes"},
		"no object":     {string(text), `[]`, "not the JSON of a decision"},
	} {
		t.Run(name, func(t *testing.T) {
			broken := strings.Replace(string(text), bad.from, bad.to, 1)
			if broken == string(text) {
				t.Fatal("nothing was changed")
			}
			if _, err := Decode([]byte(broken)); err == nil || !strings.Contains(err.Error(), bad.want) {
				t.Errorf("%v, want %s", err, bad.want)
			}
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(broken))
			if err != nil {
				t.Fatal(err)
			}
			if schema.Validate(value) == nil {
				t.Error("the schema takes it")
			}
		})
	}
}
