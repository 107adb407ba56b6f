package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var (
	references = regexp.MustCompile(`(?m)^\s*(?:- )?(?:image|reference): (\S+)$`)
	byDigest   = regexp.MustCompile(`^registry\.example/team/aisle-[a-z-]+@sha256:[0-9a-f]{64}$`)
)

// The component gives every image of every overlay its digest, wherever the
// overlay names one.
func TestComponent(t *testing.T) {
	var all []built
	for _, name := range []string{"composer", "controller", "classifier", "title", "photo", "model-title", "model-photo", "deliver-title", "deliver-photo"} {
		all = append(all, built{name: "aisle-" + name, index: empty.Index})
	}
	for overlay, others := range map[string][]string{"e2e": nil, "e2e-volume": nil, "e2e-deliver": nil, "gke": {"aisle-photo-cuda"}} {
		t.Run(overlay, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, "manifests"), os.DirFS(filepath.Join(project, "manifests"))); err != nil {
				t.Fatal(err)
			}
			if err := writeComponent(filepath.Join(dir, "images"), "registry.example/team", all); err != nil {
				t.Fatal(err)
			}
			top := filepath.Join(dir, "deploy")
			if err := os.Mkdir(top, 0o755); err != nil {
				t.Fatal(err)
			}
			text := "resources: [../manifests/overlays/" + overlay + "]\ncomponents: [../images]\n"
			if err := os.WriteFile(filepath.Join(top, "kustomization.yaml"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), top)
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, res := range result.Resources() {
				if kind := res.GetKind(); kind != "Service" && kind != "Deployment" {
					continue
				}
				yaml, err := res.AsYAML()
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range references.FindAllStringSubmatch(string(yaml), -1) {
					found++
					if !byDigest.MatchString(m[1]) && !strings.Contains(strings.Join(others, " "), m[1]) {
						t.Errorf("%s: image %s", res.GetName(), m[1])
					}
				}
			}
			want := map[string]int{"e2e": 4, "gke": 4, "e2e-volume": 6, "e2e-deliver": 6}[overlay]
			if found != want {
				t.Errorf("%d images, want %d", found, want)
			}
		})
	}
}
