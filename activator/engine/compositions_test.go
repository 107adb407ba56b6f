package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"aisle.dev/aisle/internal/manifest"
)

func TestCheckComposition(t *testing.T) {
	const composition = `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  legs:
    - {name: title, service: title, weight: 1}
    - {name: photo, service: photo, weight: 1}
  reducer: {type: logpool, temperature: 1, prior: {file: prior.csv, weight: 0.5}}
  taxonomy: taxonomy.csv
`
	for _, tt := range []struct {
		name, file, composition, namespace, says string // says: empty is accepted
	}{
		{"as shipped", "/etc/aisle/composition.yaml", composition, "", ""},
		{"a leg without a service", "/etc/aisle/composition.yaml", strings.Replace(composition, "service: photo", "service: photos", 1), "", "leg photo names the service default/photos"},
		{"variants", "/etc/aisle/composition.yaml", strings.Replace(composition, "service: photo", "variants: {gpu: title, cpu: photo}", 1), "", ""},
		{"a variant without a service", "/etc/aisle/composition.yaml", strings.Replace(composition, "service: photo", "variants: {gpu: photo-gpu, cpu: photo}", 1), "", "default/photo-gpu"},
		{"a leg in another namespace", "/etc/aisle/composition.yaml", strings.Replace(composition, "service: photo,", "service: photo, namespace: shop,", 1), "", "shop/photo"},
		{"legs of another namespace", "/etc/aisle/composition.yaml", composition, "shop", "shop/title"},
		{"a misspelt field", "/etc/aisle/composition.yaml", strings.Replace(composition, "legs:", "leggs:", 1), "", "leggs"},
		{"no taxonomy", "/etc/aisle/composition.yaml", strings.Replace(composition, "taxonomy.csv", "tree.csv", 1), "", "tree.csv"},
		{"no prior", "/etc/aisle/composition.yaml", strings.Replace(composition, "prior.csv", "shares.csv", 1), "", "shares.csv"},
		{"a file elsewhere", "/srv/composition.yaml", "not ours", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			composer := &manifest.Template{
				Namespace: "default", Service: "composer", Env: []manifest.EnvVar{{Name: "COMPOSITION", Value: tt.file}},
				Mounts: []manifest.Mount{{Path: "/etc/aisle", Files: map[string][]byte{
					"composition.yaml": []byte(tt.composition), "taxonomy.csv": []byte("id,parent,name\nties,,Ties\n"),
					"prior.csv": []byte("label,share\nTies,1\n"),
				}}},
			}
			if tt.namespace != "" {
				composer.Env = append(composer.Env, manifest.EnvVar{Name: "NAMESPACE", Value: tt.namespace})
			}
			err := checkComposition(composer, []string{"default/composer", "default/photo", "default/title"})
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

// The sample of a leg with variants loads, and its composition names services
// that it has.
func TestSampleVariants(t *testing.T) {
	set, err := manifest.LoadWithin("../..", "../../samples/variants")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range set.Services {
		names = append(names, s.Namespace+"/"+s.Name)
	}
	if !slices.Contains(names, "default/photo-gpu") {
		t.Fatalf("the services are %v", names)
	}
	for _, s := range set.Services {
		numbered := s.DeepCopy()
		setStatusAnnotation(numbered, generationKey, "1")
		reduced, err := set.Sources().Reduce(makeRevision(numbered, time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		if err := checkComposition(reduced, names); err != nil {
			t.Error(err)
		}
		if s.Name != "composer" {
			continue
		}
		without := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "default/photo-gpu" })
		if err := checkComposition(reduced, without); err == nil || !strings.Contains(err.Error(), "leg photo names the service default/photo-gpu") {
			t.Errorf("the composition does without photo-gpu: %v", err)
		}
	}
}
