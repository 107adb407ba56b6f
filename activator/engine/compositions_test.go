package engine

import (
	"strings"
	"testing"

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
