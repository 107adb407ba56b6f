package acceptance

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// A composer takes a changed composition over without a new pod, and goes on
// with the last good one when the new one is broken.
func TestReload(t *testing.T) {
	t.Parallel()
	p := products.get(t)
	if k := shared.onCluster(); k != nil {
		p = k // where testdata/products is
	}
	c := call(t, p)
	type about struct {
		Composition struct{ Name string }
		Broken      string
	}
	runs := func(name, broken string) {
		t.Helper()
		await(t, "the composition "+name+" to run", func() string {
			a := c.do(t.Context(), http.MethodGet, "reload", "/", "")
			var got about
			if a.err != nil || json.Unmarshal([]byte(a.body), &got) != nil || got.Composition.Name != name || !strings.Contains(got.Broken, broken) || (got.Broken == "") != (broken == "") {
				return a.body
			}
			return ""
		})
	}
	change := func(old, new string) {
		t.Helper()
		const text = "apiVersion: aisle.dev/v1alpha1\nkind: Composition\nmetadata: {name: first}\nspec:\n  legs:\n    - {name: only, service: variant-cpu}\n  reducer: {type: logpool}\n"
		err := p.objects().apply(t.Context(), []map[string]any{{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "reload"},
			"data": map[string]any{"composition.yaml": strings.Replace(text, old, new, 1)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	runs("first", "")
	before := pods(t, p, "reload")
	change("first", "second")
	runs("second", "")
	change("service: variant-cpu", "servise: variant-cpu")
	runs("second", "line 6, column 20: spec.legs[0].servise")
	change("first", "third")
	runs("third", "")
	if now := pods(t, p, "reload"); len(before) != 1 || len(now) != 1 || now[0].Name != before[0].Name {
		t.Errorf("the composer's pod was %+v and is %+v", before, now)
	}
}
