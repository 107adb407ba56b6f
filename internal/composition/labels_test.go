package composition

import (
	"strings"
	"testing"
	"testing/fstest"
)

// Maps of labels are held to the taxonomy, which may be Heureka's.
func TestLabels(t *testing.T) {
	const text = `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  legs:
    - {name: title, service: title, labels: labels.csv}
  reducer: {type: logpool}
  taxonomy: {file: tree.xml, format: heureka}
`
	const tree = `<HEUREKA><CATEGORY><CATEGORY_ID>1</CATEGORY_ID><CATEGORY_NAME>Moda</CATEGORY_NAME>
<CATEGORY><CATEGORY_ID>2</CATEGORY_ID><CATEGORY_NAME>Košile</CATEGORY_NAME></CATEGORY></CATEGORY></HEUREKA>`
	parse := func(labels string) (*Composition, error) {
		return Parse([]byte(text), fstest.MapFS{"tree.xml": {Data: []byte(tree)}, "labels.csv": {Data: []byte(labels)}})
	}
	c, err := parse("label,category\nShirts,2\nPolo,Košile\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Legs[0].Labels; got["Shirts"] != "Košile" || got["Polo"] != "Košile" {
		t.Errorf("%v", got)
	}
	for name, bad := range map[string]struct{ labels, want string }{
		"unknown":        {"label,category\nShirts,3\n", `line 6, column 45: spec.legs[0].labels: labels.csv: Shirts stands for 3, which is neither a label`},
		"others below":   {"label,category\nShirts,1\n", "without others below it"},
		"no such header": {"a,b\n", "labels.csv: line 1: want the header label,category"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(bad.labels); err == nil || !strings.Contains(err.Error(), bad.want) {
				t.Errorf("got %v, want %s", err, bad.want)
			}
		})
	}
}
