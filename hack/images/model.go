package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// modelPackage is a model package as images need it: see internal/model, which
// the classifier checks it with.
type modelPackage struct {
	name, version, description string
	digest                     string // of model.yaml, "sha256:..."
	files                      []entry
}

// readModels reads every model package below root/models.
func readModels(root string) ([]modelPackage, error) {
	specs, err := filepath.Glob(filepath.Join(root, "models", "*", "model.yaml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(specs)
	var out []modelPackage
	for _, spec := range specs {
		m, err := readModel(filepath.Dir(spec))
		if err != nil {
			return nil, fmt.Errorf("model package %s: %w", filepath.Dir(spec), err)
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no model package is in %s", filepath.Join(root, "models"))
	}
	return out, nil
}

func readModel(dir string) (modelPackage, error) {
	data, err := os.ReadFile(filepath.Join(dir, "model.yaml"))
	if err != nil {
		return modelPackage{}, err
	}
	type pinned struct{ File, SHA256 string }
	var spec struct {
		Name, Version, Description string
		Model, Labels              pinned
		ExternalData               []pinned
		Preprocess                 struct{ Wordpiece struct{ Tokenizer pinned } }
	}
	if err := yaml.Unmarshal(data, &spec); err != nil {
		return modelPackage{}, fmt.Errorf("model.yaml: %w", err)
	}
	if spec.Name != filepath.Base(dir) {
		return modelPackage{}, fmt.Errorf("model.yaml calls it %q; an image, a folder and a path in the image have one name", spec.Name)
	}
	m := modelPackage{name: spec.Name, version: spec.Version, description: spec.Description, digest: hash(data).String()}
	at := path.Join(modelDir, spec.Name)
	m.files = append(m.files, entry{path.Join(at, "model.yaml"), 0o444, data})
	for _, p := range append([]pinned{spec.Model, spec.Labels, spec.Preprocess.Wordpiece.Tokenizer}, spec.ExternalData...) {
		if p == (pinned{}) {
			continue // a package without preprocessing needs no labels, and most have no tokenizer
		}
		if !fs.ValidPath(p.File) || path.Base(p.File) != p.File {
			return m, fmt.Errorf("model.yaml names %q, which is not a file beside it", p.File)
		}
		data, err := os.ReadFile(filepath.Join(dir, p.File))
		if err != nil {
			return m, err
		}
		if got := hash(data).Hex; got != p.SHA256 {
			return m, fmt.Errorf("%s has sha256 %s, and model.yaml pins %s", p.File, got, p.SHA256)
		}
		m.files = append(m.files, entry{path.Join(at, p.File), 0o444, data})
	}
	card, err := os.ReadFile(filepath.Join(dir, "CARD.md"))
	if err != nil {
		return m, err
	}
	m.files = append(m.files, entry{path.Join(at, "CARD.md"), 0o444, card})
	return m, nil
}
