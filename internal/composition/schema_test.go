package composition

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// whole is a composition with every field but those that exclude each other.
const whole = `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  deadline: 10s
  margin: 200ms
  legs:
    - {name: title, service: title, weight: 1, deadline: 2s, required: true, retries: 1, reads: [title]}
    - name: photo
      variants: {gpu: photo-gpu, cpu: photo, rule: {waitFor: 500ms}}
      namespace: shop
      when: legs.title.failed || legs.title.confidence < 0.9
      labels: labels.csv
    - {name: new, service: title-v2, shadow: true}
  quorum: 2
  reducer:
    type: logpool
    temperature: 1.2
    prior: {file: prior.csv, weight: 0.5}
    calibration:
      - {legs: [photo, title], temperature: 1.1}
  threshold: 0.6
  taxonomy: {file: taxonomy.csv, format: csv, backoff: {threshold: 0.9}}
  rules:
    - {name: no-shoes-by-x, when: 'product.brand == "X"', forbid: [Shoes]}
    - {name: sellers-own, prior: {from: attributes.category, weight: 0.3, labels: labels.csv}}
`

var companions = fstest.MapFS{
	"taxonomy.csv": {Data: []byte(smallTaxonomy)}, "prior.csv": {Data: []byte(smallPrior)},
	"labels.csv": {Data: []byte("label,category\nT-Shirts,Shirts\nBoots,Shoes\n")},
	"cycle.csv":  {Data: []byte("id,parent,name\na,b,A\nb,a,B\n")},
	"orphan.csv": {Data: []byte("id,parent,name\na,b,A\n")},
	"twice.csv":  {Data: []byte("id,parent,name\na,,A\na,,B\n")},
}

// bad are changes of the whole file that make it wrong.
var bad = []struct {
	name, from, to, says string
	beyond               bool // what no JSON Schema can say
}{
	{name: "a cycle of gates", from: "service: title, weight: 1", to: "service: title, when: legs.photo.answered, weight: 1", says: "line 8, column 43: spec.legs[0].when: leg title waits for photo", beyond: true},
	{name: "a gate about itself", from: "legs.title.failed ||", to: "legs.photo.failed ||", says: "leg photo waits for photo", beyond: true},
	{name: "a gate about a shadow leg", from: "legs.title.failed ||", to: "legs.new.failed ||", says: "shadow leg new", beyond: true},
	{name: "a gate about no leg", from: "legs.title.failed ||", to: "legs.titel.failed ||", says: `line 12, column 13: spec.legs[1].when: column 1: there is no leg "titel"`, beyond: true},
	{name: "no CEL", from: "< 0.9", to: "<", says: "spec.legs[1].when: column", beyond: true},
	{name: "CEL of another type", from: "legs.title.failed || legs.title.confidence < 0.9", to: "legs.title.confidence", says: "want a bool", beyond: true},
	{name: "an empty gate", from: "legs.title.failed || legs.title.confidence < 0.9", to: `""`, says: "empty"},
	{name: "unknown field", from: "quorum:", to: "qorum:", says: `line 15, column 3: spec.qorum: unknown field "qorum"; is it misspelt? There are: deadline`},
	{name: "unknown field of a leg", from: "weight: 1,", to: "wieght: 1,", says: "spec.legs[0].wieght: unknown field"},
	{name: "a field twice", from: "  quorum: 2", to: "  quorum: 2\n  quorum: 1", says: "spec.quorum: the field is on line 15 already", beyond: true},
	{name: "a merge key", from: "weight: 1,", to: "<<: {weight: 1},", says: "merge keys are not read", beyond: true},
	{name: "negative weight", from: "weight: 1,", to: "weight: -1,", says: `line 8, column 45: spec.legs[0].weight: "-1": want a number above 0`},
	{name: "weight of a shadow", from: "shadow: true", to: "shadow: true, weight: 1", says: "spec.legs[2].weight: a shadow leg has no weight"},
	{name: "a required shadow", from: "shadow: true", to: "shadow: true, required: true", says: "spec.legs[2].required: a shadow leg is never waited for"},
	{name: "quorum above the legs", from: "quorum: 2", to: "quorum: 3", says: "line 15, column 11: spec.quorum: \"3\": want a whole number from 1 to 2", beyond: true},
	{name: "quorum of nobody", from: "quorum: 2", to: "quorum: 0", says: "spec.quorum"},
	{name: "half a quorum", from: "quorum: 2", to: "quorum: 1.5", says: "spec.quorum"},
	{name: "too many retries", from: "retries: 1", to: "retries: 6", says: "spec.legs[0].retries: \"6\": want a whole number from 0 to 5"},
	{name: "deadline of a number", from: "deadline: 10s", to: "deadline: 10", says: "spec.deadline: \"10\" is not a duration"},
	{name: "leg's deadline above all", from: "deadline: 2s", to: "deadline: 11s", says: "spec.legs[0].deadline: 11s is longer than spec.deadline, which is 10s", beyond: true},
	{name: "margin above half", from: "margin: 200ms", to: "margin: 6s", says: "spec.margin: 6s: want 0s to 5s", beyond: true},
	{name: "service and variants", from: "service: title, weight", to: "service: title, variants: {gpu: a, cpu: b}, weight", says: "spec.legs[0]: want either service"},
	{name: "wait beyond the deadline", from: "waitFor: 500ms", to: "waitFor: 10s", says: "leaves the CPU service no time", beyond: true},
	{name: "labels outside", from: "labels: labels.csv\n", to: "labels: ../labels.csv\n", says: "spec.legs[1].labels: \"../labels.csv\": want a file below the composition's folder"},
	{name: "labels that are not there", from: "labels: labels.csv\n", to: "labels: other.csv\n", says: "spec.legs[1].labels: open other.csv: file does not exist", beyond: true},
	{name: "no such reducer", from: "type: logpool", to: "type: average", says: `"average": want logpool or linpool or vote or stack`},
	{name: "a temperature of vote", from: "type: logpool", to: "type: vote", says: "spec.reducer.temperature: reducer vote does not take it"},
	{name: "a stack without its folder", from: "type: logpool\n    temperature: 1.2\n    prior: {file: prior.csv, weight: 0.5}", to: "type: stack", says: "spec.reducer.model"},
	{name: "calibration of a stranger", from: "[photo, title]", to: "[photo, new]", says: "spec.reducer.calibration[0].legs[1]: \"new\" is no leg that counts", beyond: true},
	{name: "calibration of nobody", from: "[photo, title]", to: "[]", says: "it names no legs"},
	{name: "calibration twice", from: "- {legs: [photo, title], temperature: 1.1}", to: "- {legs: [photo, title], temperature: 1.1}\n      - {legs: [title, photo], temperature: 1}", says: "line 21 has the same legs", beyond: true},
	{name: "threshold of two", from: "threshold: 0.6", to: "threshold: 2", says: "spec.threshold: \"2\": want a probability"},
	{name: "back-off to nothing", from: "backoff: {threshold: 0.9}", to: "backoff: {}", says: "spec.taxonomy.backoff: want either threshold"},
	{name: "no levels", from: "backoff: {threshold: 0.9}", to: "backoff: {thresholds: []}", says: "spec.taxonomy.backoff.thresholds: it is empty"},
	{name: "taxonomy with a cycle", from: "file: taxonomy.csv", to: "file: cycle.csv", says: "spec.taxonomy.file: cycle.csv: line 2: \"a\" is its own ancestor", beyond: true},
	{name: "taxonomy with an orphan", from: "file: taxonomy.csv", to: "file: orphan.csv", says: "orphan.csv: line 2: the parent \"b\" of \"a\" is on no line", beyond: true},
	{name: "taxonomy with an id twice", from: "file: taxonomy.csv", to: "file: twice.csv", says: "twice.csv: line 3: the id \"a\" is on line 2 already", beyond: true},
	{name: "taxonomy of another format", from: "format: csv", to: "format: xml", says: "spec.taxonomy.format"},
	{name: "a rule without a name", from: "name: no-shoes-by-x, ", to: "", says: "spec.rules[0].name: it is missing"},
	{name: "a rule that does nothing", from: ", forbid: [Shoes]", to: "", says: "spec.rules[0]: want either forbid"},
	{name: "a rule about no category", from: "forbid: [Shoes]", to: "forbid: [Shoes, Shoos]", says: `spec.rules[0].forbid[1]: "Shoos" is no label, name or id of the taxonomy`, beyond: true},
	{name: "a rule of no CEL", from: `product.brand == "X"`, to: "product.brnd == 1", says: "spec.rules[0].when: column", beyond: true},
	{name: "a prior of nothing", from: "from: attributes.category", to: "from: colour", says: `spec.rules[1].prior.from: unknown field "colour"`},
	{name: "two rules of a name", from: "name: sellers-own", to: "name: no-shoes-by-x", says: "is another rule's name too", beyond: true},
	{name: "null", from: "name: products", to: "name:", says: "metadata.name: it is missing"},
	{name: "a name that is a number", from: "name: products", to: "name: 2024", says: "2024 is no text for YAML; put it in quotes"},
}

func validator(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("composition.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("composition.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refusal is the schema's verdict on a file.
func refusal(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	j, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// TestSchema holds the published schema to what is accepted.
func TestSchema(t *testing.T) {
	s := validator(t)
	shipped, err := os.ReadFile("../../manifests/base/composition.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"whole": whole, "small": twoLegs, "with a prior": priorLegs, "shipped": string(shipped)} {
		if err := refusal(t, s, text); err != nil {
			t.Errorf("%s: the schema says %v", name, err)
		}
	}
	if _, err := Parse([]byte(whole), companions); err != nil {
		t.Fatal(err)
	}
	for _, tt := range bad {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.Replace(whole, tt.from, tt.to, 1)
			if changed == whole {
				t.Fatalf("%q is not in the file", tt.from)
			}
			if _, err := Parse([]byte(changed), companions); err == nil || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "line ") {
				t.Errorf("got %v\nwant %s", err, tt.says)
			}
			if tt.name == "a field twice" {
				return // which JSON has no way to say
			}
			if err := refusal(t, s, changed); (err == nil) != tt.beyond {
				t.Errorf("the schema says %v; is it beyond a schema? %v", err, tt.beyond)
			}
		})
	}
}

// All that is wrong is told at once, in the order of the file.
func TestAllProblemsAreTold(t *testing.T) {
	changed := strings.NewReplacer("retries: 1", "retries: 9", "quorum: 2", "quorum: 7", "threshold: 0.6", "threshold: 6").Replace(whole)
	_, err := Parse([]byte(changed), companions)
	var fields []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fields = append(fields, strings.Split(line, ": ")[1])
	}
	if got, want := strings.Join(fields, " "), "spec.legs[0].retries spec.quorum spec.threshold"; got != want {
		t.Errorf("told of %s, want %s", got, want)
	}
}

// TestReference holds docs/composition.md to the schema, field by field, and
// parses its examples.
func TestReference(t *testing.T) {
	page, err := os.ReadFile("../../docs/composition.md")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	collect(doc, doc, "", fields)
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllSubmatch(page, -1) {
		told[string(m[1])] = true
	}
	for f := range fields {
		if !told[f] {
			t.Errorf("docs/composition.md has no row for %s", f)
		}
	}
	for f := range told {
		if !fields[f] {
			t.Errorf("docs/composition.md has a row for %s, which is no field", f)
		}
	}
	s := validator(t)
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(examples) == 0 {
		t.Error("docs/composition.md has no example")
	}
	for _, m := range examples {
		if _, err := Parse(m[1], companions); err != nil {
			t.Errorf("%s\n%v", m[1], err)
		}
		if err := refusal(t, s, string(m[1])); err != nil {
			t.Errorf("%s\nthe schema says %v", m[1], err)
		}
	}
}

// collect adds the fields of a part of the schema that have none of their own,
// as the page writes them: a.b, and a[].b for those of a list.
func collect(root, at map[string]any, path string, fields map[string]bool) {
	if ref, ok := at["$ref"].(string); ok {
		at = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	if items, ok := at["items"].(map[string]any); ok {
		if ref, ok := items["$ref"].(string); ok {
			items = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
		if items["properties"] != nil {
			collect(root, items, path+"[]", fields)
			return
		}
	}
	inner := false
	for _, one := range append(alternatives(at), at) {
		if ref, ok := one["$ref"].(string); ok {
			one = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
		properties, _ := one["properties"].(map[string]any)
		for name, field := range properties {
			if field, ok := field.(map[string]any); ok {
				inner = true
				collect(root, field, strings.TrimPrefix(path+"."+name, "."), fields)
			}
		}
	}
	if path != "" && (!inner || alternatives(at) != nil && at["properties"] == nil) {
		fields[path] = true
	}
}

// alternatives are the shapes that a field may have.
func alternatives(at map[string]any) []map[string]any {
	var out []map[string]any
	all, _ := at["oneOf"].([]any)
	for _, one := range all {
		out = append(out, one.(map[string]any))
	}
	return out
}
