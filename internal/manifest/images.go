package manifest

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// imagesFile lies beside a folder's kustomization. It is not one of its
// resources: a cluster pulls images and has no use for it.
const imagesFile = "images.yaml"

const (
	imagesVersion = "aisle.dev/v1alpha1"
	imagesKind    = "ImageMap"
)

// ImageMap says what runs on one machine in place of images. A folder's own is
// named after nothing but itself: "images" in the namespace default.
type ImageMap struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Images []ImageEntry `json:"images"`
}

// ImageEntry says what runs in place of one image.
type ImageEntry struct {
	Image   string     `json:"image"`
	Command []string   `json:"command"`
	Env     []ImageEnv `json:"env,omitempty"`
}

// ImageEnv is a variable that the image would have brought.
type ImageEnv struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// DeepCopyObject implements [runtime.Object].
func (m *ImageMap) DeepCopyObject() runtime.Object {
	c := &ImageMap{TypeMeta: m.TypeMeta, Images: make([]ImageEntry, len(m.Images))}
	m.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	for i, e := range m.Images {
		c.Images[i] = ImageEntry{Image: e.Image, Command: slices.Clone(e.Command), Env: slices.Clone(e.Env)}
	}
	return c
}

// koScheme begins an image reference that ko builds from a Go import path.
const koScheme = "ko://"

var importPath = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)+$`)

// readImages decodes an image map and checks it.
func readImages(f *findings, object string, value map[string]any) *ImageMap {
	m, ok := decode[ImageMap](f, object, value)
	if !ok {
		return nil
	}
	mapped := map[string]bool{}
	for i, e := range m.Images {
		at := fmt.Sprintf("images[%d]", i)
		switch {
		case e.Image == "":
			f.refuse(object, at+".image", "missing")
		case mapped[e.Image]:
			f.refuse(object, at+".image", "%q is mapped twice", e.Image)
		case len(e.Command) == 0 || e.Command[0] == "":
			f.refuse(object, at+".command", "missing: the command that runs in place of %s", e.Image)
		}
		mapped[e.Image] = true
	}
	return m
}

// command is what an image runs: what an image map says, else the binary of a
// ko:// reference.
func (r reducer) command(image string) (argv []string, env []ImageEnv) {
	for _, m := range r.Images {
		for _, e := range m.Images {
			if e.Image == image {
				return e.Command, e.Env
			}
		}
	}
	at := r.container() + ".image"
	if name, ok := strings.CutPrefix(image, koScheme); ok {
		if !importPath.MatchString(name) {
			r.refuse(at, "%q is no Go import path; write %saisle.dev/aisle/functions/NAME", name, koScheme)
			return nil, nil
		}
		return []string{"bin/" + path.Base(name)}, nil
	}
	r.refuse(at, "nothing is known that runs in place of %q; say so in %s, an ImageMap", image, imagesFile)
	return nil, nil
}
