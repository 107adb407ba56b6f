package manifest

import (
	"errors"
	"strings"
	"testing"
)

// Whatever lies in a folder is either loaded or refused in words; and what is
// loaded is whole.
func FuzzLoad(f *testing.F) {
	f.Add(good, configMap)
	f.Add(edit(f, good, "models/photo", "$(A)$$(B)$("), configMap)
	f.Add(edit(f, good, "image: ko", "image: &a ko"), "a: &a [*a]\n")
	f.Add("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\nspec: {template: {spec: {containers: [null]}}}\n", "")
	f.Add("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\nspec: {template: null, traffic: [null]}\n", configMap)
	f.Add(edit(f, good, "path: /readyz", "path: null"), "kind: List\nitems: [{}]\n")
	f.Fuzz(func(t *testing.T, service, other string) {
		dir := folder(t, map[string]string{"a.yaml": service, "b.yaml": other})
		set, err := LoadWithin(dir, dir)
		if err != nil {
			if invalid := (*Invalid)(nil); !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(set.Services) == 0 {
			t.Fatal("loaded, with nothing to run")
		}
		for _, s := range templates(t, set) {
			if s.Service == "" || s.Namespace == "" || len(s.Command) == 0 || s.Readiness == nil || s.Readiness.SuccessThreshold < 1 || s.Timeout <= 0 || s.GracePeriod <= 0 {
				t.Fatalf("not whole: %+v", s)
			}
			seen := map[string]bool{}
			for _, v := range s.Env {
				if v.Name == "" || seen[v.Name] || strings.ContainsAny(v.Name, "=\x00") || strings.Contains(strings.ReplaceAll(v.Value, PodName, ""), "\x00") {
					t.Fatalf("environment %v", s.Env)
				}
				seen[v.Name] = true
			}
		}
	})
}
