package composition

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/prediction"
)

const twoLegs = `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  deadline: 10s
  legs:
    - {name: title, service: title}
    - {name: photo, service: photo, weight: 0.8}
  reducer: {type: logpool, temperature: 1.0}
  taxonomy: taxonomy.csv
`

const smallTaxonomy = "id,parent,name\nwear,,Wear\nshirt,wear,Shirts\nshoe,wear,Shoes\n"

func parsed(t testing.TB, text string) *Composition {
	t.Helper()
	c, err := Parse([]byte(text), fstest.MapFS{"taxonomy.csv": {Data: []byte(smallTaxonomy)}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse(t *testing.T) {
	got := parsed(t, `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  deadline: 3s
  legs:
    - {name: title, service: title-v2, weight: 0.9, namespace: shop, deadline: 500ms, required: true}
    - {name: photo, service: photo, reads: [images, attributes.colour]}
  reducer: {type: logpool, temperature: 1.3}
  taxonomy: taxonomy.csv
`)
	want := []Leg{
		{Name: "title", Service: "title-v2", Namespace: "shop", Weight: 0.9, Deadline: 500 * time.Millisecond, Required: true, Retries: DefaultRetries},
		{Name: "photo", Service: "photo", Weight: 1, Retries: DefaultRetries, Reads: []string{"images", "attributes.colour"}},
	}
	if diff := cmp.Diff(want, got.Legs); diff != "" {
		t.Error(diff)
	}
	if got.Deadline != 3*time.Second || got.Fusion.Pool.Temperature != 1.3 || !cmp.Equal(got.Fusion.Pool.Weights, []float64{0.9, 1}) || got.Name != "products" {
		t.Errorf("%+v", got)
	}
	if c := parsed(t, strings.Replace(twoLegs, "  deadline: 10s\n", "", 1)); c.Deadline != DefaultDeadline {
		t.Errorf("deadline %s", c.Deadline)
	}
}

func TestParseVariants(t *testing.T) {
	for rule, want := range map[string]time.Duration{"": 0, ", rule: preferReady": 0, ", rule: never": Always, ", rule: {waitFor: 2s}": 2 * time.Second} {
		got := parsed(t, strings.Replace(twoLegs, "service: photo", "variants: {gpu: photo-gpu, cpu: photo"+rule+"}", 1)).Legs[1]
		if diff := cmp.Diff(Leg{Name: "photo", Variants: &Variants{GPU: "photo-gpu", CPU: "photo", Wait: want}, Weight: 0.8, Retries: DefaultRetries}, got); diff != "" {
			t.Errorf("%q: %s", rule, diff)
		}
		if diff := cmp.Diff([]string{"photo-gpu", "photo"}, got.Services()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestDigestIsThatOfBothFiles(t *testing.T) {
	c := parsed(t, twoLegs)
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(twoLegs+smallTaxonomy))); c.Digest != want {
		t.Errorf("%s, want %s", c.Digest, want)
	}
	plain := parsed(t, strings.Replace(twoLegs, "  taxonomy: taxonomy.csv\n", "", 1))
	if plain.Digest == c.Digest || plain.Taxonomy != nil {
		t.Error("a composition without a taxonomy has the same digest")
	}
}

// priorLegs is twoLegs with a prior.
var priorLegs = strings.Replace(twoLegs, "temperature: 1.0", "temperature: 1.0, prior: {file: prior.csv, weight: 0.5}", 1)

const smallPrior = "label,share\nShirts,0.7\nShoes,0.3\n"

func TestParseAPrior(t *testing.T) {
	dir := fstest.MapFS{"taxonomy.csv": {Data: []byte(smallTaxonomy)}, "prior.csv": {Data: []byte(smallPrior)}}
	c, err := Parse([]byte(priorLegs), dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"Shirts": 0.7, "Shoes": 0.3}, c.Fusion.Pool.Prior); diff != "" || c.Fusion.Pool.PriorWeight != 0.5 {
		t.Errorf("weight %v, prior (-want +got):\n%s", c.Fusion.Pool.PriorWeight, diff)
	}
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(priorLegs+smallTaxonomy+smallPrior))); c.Digest != want {
		t.Errorf("%s, want %s", c.Digest, want)
	}
	if c := parsed(t, twoLegs); c.Fusion.Pool.Prior != nil || c.Fusion.Pool.PriorWeight != 0 {
		t.Errorf("a composition without a prior has %+v", c.Fusion.Pool)
	}
}

func TestParseRefusesAPrior(t *testing.T) {
	tests := []struct{ name, old, new, csv, says string }{
		{"no file", "file: prior.csv, ", "", smallPrior, "spec.reducer.prior: want"},
		{"no weight", ", weight: 0.5", "", smallPrior, "spec.reducer.prior: want"},
		{"a text", "{file: prior.csv, weight: 0.5}", "prior.csv", smallPrior, "line 9"},
		{"misspelt", "weight: 0.5", "wieght: 0.5", smallPrior, `unknown field "wieght"`},
		{"weight below 0", "weight: 0.5", "weight: -0.5", smallPrior, `spec.reducer.prior.weight: "-0.5": want`},
		{"weight NaN", "weight: 0.5", "weight: .nan", smallPrior, "spec.reducer.prior.weight"},
		{"weight too large", "weight: 0.5", "weight: 101", smallPrior, "from 0 to 100"},
		{"missing file", "prior.csv", "other.csv", smallPrior, "spec.reducer.prior.file"},
		{"file elsewhere", "prior.csv", "../prior.csv", smallPrior, "below the composition's folder"},
		{"file too large", "", "", strings.Repeat("x", 17<<20), "larger than"},
		{"empty", "", "", "", "prior.csv: it is empty; its first line is label,share"},
		{"no labels", "", "", "label,share\n", "no labels"},
		{"no header", "", "", "Shirts,1\n", "line 1: want the header label,share"},
		{"a column more", "", "", "label,share,n\nShirts,1,3\n", "line 1: want the header"},
		{"a field more", "", "", "label,share\nShirts,1,3\n", "line 2: wrong number of fields; want a label and its share"},
		{"open quote", "", "", "label,share\n\"Shirts,1\n", "line 2"},
		{"empty label", "", "", "label,share\n,1\n", "line 2: the label is empty"},
		{"label with a space", "", "", "label,share\nShirts ,1\n", `line 2: the label "Shirts " begins or ends with a space`},
		{"label not UTF-8", "", "", "label,share\n\xff,1\n", "line 2"},
		{"long label", "", "", "label,share\n" + strings.Repeat("x", 513) + ",1\n", "line 2: the label is 513 bytes long"},
		{"label twice", "", "", "label,share\nShirts,0.5\nShirts,0.5\n", `line 3: the label "Shirts" is on line 2 already`},
		{"share 0", "", "", "label,share\nShirts,1\nShoes,0\n", `line 3: the share of "Shoes" is "0": want a number above 0, at most 1; leave`},
		{"share below 0", "", "", "label,share\nShirts,-1\n", "line 2: the share"},
		{"share above 1", "", "", "label,share\nShirts,70\nShoes,30\n", "line 2: the share"},
		{"share NaN", "", "", "label,share\nShirts,NaN\n", "line 2: the share"},
		{"share infinite", "", "", "label,share\nShirts,Inf\n", "line 2: the share"},
		{"share is text", "", "", "label,share\nShirts,most\n", `line 2: the share of "Shirts" is "most"`},
		{"shares sum to less", "", "", "label,share\nShirts,0.5\nShoes,0.3\n", "lines 2 to 3: the shares sum to 0.8: want 1; divide"},
		{"shares sum to more", "", "", "label,share\nShirts,1\nShoes,1\n", "the shares sum to 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(priorLegs, tt.old) {
				t.Fatalf("%q is not in the composition", tt.old)
			}
			dir := fstest.MapFS{"taxonomy.csv": {Data: []byte(smallTaxonomy)}, "prior.csv": {Data: []byte(tt.csv)}}
			_, err := Parse([]byte(strings.Replace(priorLegs, tt.old, tt.new, 1)), dir)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "composition.") {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, old, new, says string }{
		{"empty", twoLegs, "", "empty"},
		{"not yaml", twoLegs, "\t", "cannot start any token"},
		{"a list", twoLegs, "[]", "line 1, column 1: it is a list: want a mapping"},
		{"legs is a text", "    - {name: title, service: title}\n    - {name: photo, service: photo, weight: 0.8}\n", "    title\n", "line 7, column 5: spec.legs: it is one value: want a list"},
		{"second document", "spec:", "spec:\n---\nspec:", "second document"},
		{"a document after it", "taxonomy.csv\n", "taxonomy.csv\n---\na: b\n", "second document"},
		{"other kind", "kind: Composition", "kind: Model", `"Model"`},
		{"other version", "v1alpha1", "v9", "v9"},
		{"misspelt field", "weight: 0.8", "wieght: 0.8", `line 8, column 37: spec.legs[1].wieght: unknown field "wieght"; is it misspelt? There are: name, service`},
		{"misspelt spec", "spec:", "sepc:", `unknown field "sepc"`},
		{"field twice", "  deadline: 10s", "  deadline: 10s\n  deadline: 10s", "line 6"},
		{"no name", "{name: products}", "{}", "metadata.name"},
		{"no legs", "title, service: title}\n    - {name: photo, service: photo, weight: 0.8}", "", "line"},
		{"legs is empty", "    - {name: title, service: title}\n    - {name: photo, service: photo, weight: 0.8}\n", "", "line 6, column 8: spec.legs: it is empty"},
		{"too many legs", "    - {name: title, service: title}\n", manyLegs(), "at most 32"},
		{"leg without service", ", service: photo", "", "spec.legs[1]: want either service"},
		{"leg with a service and variants", "weight: 0.8", "variants: {gpu: a, cpu: b}", "spec.legs[1]: want either service"},
		{"variants without a CPU one", "service: photo", "variants: {gpu: a}", "spec.legs[1].variants.cpu: it is missing"},
		{"variants that are one", "service: photo", "variants: {gpu: a, cpu: a}", "both \"a\""},
		{"a third variant", "service: photo", "variants: {gpu: a, cpu: b, tpu: c}", `unknown field "tpu"`},
		{"no such rule", "service: photo", "variants: {gpu: a, cpu: b, rule: always}", `line 8, column 54: spec.legs[1].variants.rule: "always": want preferReady or never or {waitFor: 2s}`},
		{"rule with a misspelt word", "service: photo", "variants: {gpu: a, cpu: b, rule: {wait: 2s}}", "spec.legs[1].variants.rule.waitFor: it is missing"},
		{"rule with two", "service: photo", "variants: {gpu: a, cpu: b, rule: {waitFor: 2s, never: 1s}}", `unknown field "never"`},
		{"wait without a unit", "service: photo", "variants: {gpu: a, cpu: b, rule: {waitFor: 2}}", "line 8"},
		{"wait below 0", "service: photo", "variants: {gpu: a, cpu: b, rule: {waitFor: -2s}}", "line 8, column 64: spec.legs[1].variants.rule.waitFor: -2s: want 1ms to"},
		{"wait as long as the deadline", "service: photo", "variants: {gpu: a, cpu: b, rule: {waitFor: 10s}}", "spec.legs[1].variants.rule.waitFor: 10s leaves the CPU service no time"},
		{"wait as long as the leg's deadline", "service: photo", "deadline: 2s, variants: {gpu: a, cpu: b, rule: {waitFor: 2s}}", "want less than the deadline, which is 2s"},
		{"leg without name", "name: photo, ", "", "line 8, column 7: spec.legs[1].name: it is missing"},
		{"service that is a URL", "service: photo", "service: http://photo", "spec.legs[1].service"},
		{"service with a slash", "service: photo", "service: a/b", "spec.legs[1].service"},
		{"two of a name", "name: photo", "name: title", "spec.legs[0] too"},
		{"bad namespace", "weight: 0.8", "namespace: a.b", "spec.legs[1].namespace"},
		{"weight 0", "weight: 0.8", "weight: 0", "spec.legs[1].weight"},
		{"weight below 0", "weight: 0.8", "weight: -1", "spec.legs[1].weight"},
		{"weight NaN", "weight: 0.8", "weight: .nan", "spec.legs[1].weight"},
		{"weight infinite", "weight: 0.8", "weight: .inf", "spec.legs[1].weight"},
		{"weight is text", "weight: 0.8", "weight: heavy", "line 8"},
		{"reads nothing", "weight: 0.8", "reads: []", "spec.legs[1].reads: it is empty"},
		{"reads an unknown field", "weight: 0.8", "reads: [images, colour]", `spec.legs[1].reads[1]: unknown field "colour"`},
		{"reads an attribute without a name", "weight: 0.8", "reads: [attributes.]", `unknown field "attributes."`},
		{"reads a text", "weight: 0.8", "reads: images", "line 8"},
		{"no such reducer", "logpool", "average", "spec.reducer.type"},
		{"no reducer", "  reducer: {type: logpool, temperature: 1.0}\n", "", "spec.reducer.type"},
		{"temperature 0", "temperature: 1.0", "temperature: 0", "spec.reducer.temperature"},
		{"temperature NaN", "temperature: 1.0", "temperature: .nan", "spec.reducer.temperature"},
		{"deadline 0", "deadline: 10s", "deadline: 0s", "spec.deadline"},
		{"deadline below 0", "deadline: 10s", "deadline: -1s", "spec.deadline"},
		{"endless deadline", "deadline: 10s", "deadline: 24h", "spec.deadline"},
		{"deadline without a unit", "deadline: 10s", "deadline: 10", "line 5"},
		{"leg's deadline longer than all", "weight: 0.8", "deadline: 11s", "spec.legs[1].deadline"},
		{"missing taxonomy", "taxonomy.csv", "other.csv", "spec.taxonomy"},
		{"taxonomy elsewhere", "taxonomy.csv", "../taxonomy.csv", "below the composition's folder"},
		{"absolute taxonomy", "taxonomy.csv", "/etc/passwd", "below the composition's folder"},
		{"bad taxonomy", "taxonomy.csv", "bad.csv", "bad.csv: line 2"},
	}
	dir := fstest.MapFS{"taxonomy.csv": {Data: []byte(smallTaxonomy)}, "bad.csv": {Data: []byte("id,parent,name\na,b,A\n")}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(twoLegs, tt.old) {
				t.Fatalf("%q is not in the composition", tt.old)
			}
			_, err := Parse([]byte(strings.Replace(twoLegs, tt.old, tt.new, 1)), dir)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "composition.") {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func manyLegs() string {
	var b strings.Builder
	for i := range MaxLegs {
		fmt.Fprintf(&b, "    - {name: leg%d, service: title}\n", i)
	}
	return b.String()
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "composition.yaml")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "COMPOSITION") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte(twoLegs), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "taxonomy.csv"), []byte(smallTaxonomy), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || len(c.Legs) != 2 {
		t.Errorf("%v %v", c, err)
	}
	if err := os.WriteFile(path, make([]byte, MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

func TestTheShippedComposition(t *testing.T) {
	c, err := Load("../../manifests/base/composition.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Taxonomy == nil || len(c.Legs) < 2 || c.Fusion.Pool.Prior == nil {
		t.Errorf("%+v", c)
	}
	for _, leg := range c.Legs {
		pkg := packageOf(t, leg.Service)
		if diff := cmp.Diff(slices.Sorted(slices.Values(pkg.Spec.Reads)), slices.Sorted(slices.Values(leg.Reads))); diff != "" {
			t.Errorf("leg %s: reads in composition.yaml are not those of %s/model.yaml (-package +composition):\n%s", leg.Name, pkg.Dir, diff)
		}
	}
}

// packageOf is the model package that a service of manifests/base serves.
func packageOf(t *testing.T, service string) *model.Package {
	t.Helper()
	raw, err := os.ReadFile("../../manifests/base/" + service + ".yaml")
	if err != nil {
		t.Fatalf("the composition names service %s: %v", service, err)
	}
	found := regexp.MustCompile(`name: MODEL\n\s+value: /models/(\S+)`).FindSubmatch(raw)
	if found == nil {
		t.Fatalf("%s.yaml sets no MODEL below /models", service)
	}
	pkg, err := model.Load("../../models/" + string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(twoLegs))
	f.Add([]byte(priorLegs))
	f.Add([]byte(whole))
	f.Add([]byte(gated))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("spec: {legs: [{name: a}], deadline: {}}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Parse(raw, companions)
		if err != nil {
			if problems, ok := errors.AsType[Problems](err); !ok || len(problems) == 0 || len(problems) > maxProblems {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if err := c.Fusion.Pool.Validate(); err != nil {
			t.Fatal(err)
		}
		if n := len(c.Counted()); n != len(c.Fusion.Pool.Weights) || c.Quorum < 1 || c.Quorum > n || c.Margin >= c.Deadline {
			t.Fatalf("%+v", c)
		}
		answer := []prediction.Prediction{{Label: "Shirts", Probability: 0.8}, {Label: "Shoes", Probability: 0.2}}
		if got := c.Reducer.Answers(slices.Repeat([][]prediction.Prediction{answer}, len(c.Counted()))); len(got) != 2 {
			t.Fatalf("%+v gives %v", c.Fusion, got)
		}
	})
}
