package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// imagesFile lies beside a folder's kustomization. It is not one of its
// resources: a cluster pulls images and has no use for it.
const imagesFile = "images.yaml"

const (
	imagesVersion = "aisle.dev/v1alpha1"
	imagesKind    = "ImageMap"
)

// imageMap says what runs on one machine in place of an image.
type imageMap struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Images     []imageEntry `json:"images"`
}

type imageEntry struct {
	Image   string     `json:"image"`
	Command []string   `json:"command"`
	Env     []imageEnv `json:"env"`
}

type imageEnv struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// koScheme begins an image reference that ko builds from a Go import path.
const koScheme = "ko://"

var importPath = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)+$`)

// images finds what an image runs.
type images struct {
	file   string // where an entry would be
	mapped map[string]imageEntry
}

// readImages reads the folder's image map, where it has one.
func readImages(f *findings, t *tree, dir string) images {
	at := path.Join(dir, imagesFile)
	found := images{file: local(at), mapped: make(map[string]imageEntry)}
	data, err := t.readYAML(at)
	if errors.Is(err, fs.ErrNotExist) {
		return found
	}
	if err != nil {
		f.refuse(found.file, "", "%s", plain(err))
		return found
	}
	var raw map[string]any
	if err := yaml.Unmarshal(data, &raw); err != nil {
		f.refuse(found.file, "", "%s", plain(err))
		return found
	}
	m, ok := decode[imageMap](f, found.file, raw)
	if !ok {
		return found
	}
	if m.APIVersion != imagesVersion || m.Kind != imagesKind {
		f.refuse(found.file, "", "want apiVersion %s and kind %s, have %q and %q", imagesVersion, imagesKind, m.APIVersion, m.Kind)
	}
	for i, e := range m.Images {
		at := fmt.Sprintf("images[%d]", i)
		switch _, twice := found.mapped[e.Image]; {
		case e.Image == "":
			f.refuse(found.file, at+".image", "missing")
		case twice:
			f.refuse(found.file, at+".image", "%q is mapped twice", e.Image)
		case len(e.Command) == 0 || e.Command[0] == "":
			f.refuse(found.file, at+".command", "missing: the command that runs in place of %s", e.Image)
		}
		found.mapped[e.Image] = e
	}
	return found
}

// command is what an image runs: the binary of a ko:// reference, else what the
// image map says.
func (im images) command(f *findings, object, at, image string) (argv []string, env []imageEnv) {
	if e, ok := im.mapped[image]; ok {
		return e.Command, e.Env
	}
	if name, ok := strings.CutPrefix(image, koScheme); ok {
		if !importPath.MatchString(name) {
			f.refuse(object, at, "%q is no Go import path; write %saisle.dev/aisle/functions/NAME", name, koScheme)
			return nil, nil
		}
		return []string{"bin/" + path.Base(name)}, nil
	}
	f.refuse(object, at, "nothing is known that runs in place of %q; say so in %s", image, im.file)
	return nil, nil
}
