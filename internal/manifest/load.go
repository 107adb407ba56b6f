package manifest

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"
)

// Load builds the kustomize folder dir and gives what it describes. Files are
// read below the working directory where dir lies in it, else below dir alone.
// What is wrong with the manifests is an [*Invalid].
func Load(dir string) (set *Set, err error) {
	err = inTree(dir, func(t *tree, below string) (err error) {
		set, err = t.load(dir, below)
		return err
	})
	return set, err
}

var errOutside = errors.New("lies outside of the root")

// inTree calls do with the tree of the working directory where dir lies in it,
// else with that of dir alone.
func inTree(dir string, do func(t *tree, below string) error) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("load manifests: %w", err)
	}
	if wd, err := os.Getwd(); err == nil {
		if err := inTreeOf(wd, dir, do); !errors.Is(err, errOutside) {
			return err
		}
	}
	return inTreeOf(dir, dir, do)
}

// LoadWithin is [Load] with files read below root, which dir lies in.
func LoadWithin(root, dir string) (set *Set, err error) {
	err = inTreeOf(root, dir, func(t *tree, below string) (err error) {
		set, err = t.load(dir, below)
		return err
	})
	return set, err
}

func inTreeOf(root, dir string, do func(t *tree, below string) error) error {
	below, err := relative(root, dir)
	if err != nil {
		return fmt.Errorf("load manifests from %s: %w", dir, err)
	}
	t, err := openTree(root)
	if err != nil {
		return fmt.Errorf("load manifests from %s: %w", dir, err)
	}
	defer t.Close()
	return do(t, below)
}

// relative is dir as a path in the tree of root.
func relative(root, dir string) (string, error) {
	var abs [2]string
	for i, p := range []string{root, dir} {
		p, err := filepath.Abs(p)
		if err != nil {
			return "", err
		}
		if abs[i], err = filepath.EvalSymlinks(p); err != nil {
			return "", err
		}
	}
	rel, err := filepath.Rel(abs[0], abs[1])
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%w %s", errOutside, root)
	}
	return path.Join("/", filepath.ToSlash(rel)), nil
}

func (t *tree) load(dir, below string) (*Set, error) {
	var f findings
	raw := t.raw(&f, below)
	if len(f.problems) > 0 {
		return nil, f.err(dir)
	}
	set := check(&f, raw, nil)
	if len(set.Services)+len(set.Events) == 0 && len(f.problems) == 0 {
		f.refuse("", "", "no Knative Service (apiVersion %s, kind Service), Broker, Trigger or PingSource is in it", serviceVersion)
	}
	if err := f.err(dir); err != nil {
		return nil, err
	}
	return set, nil
}

// raw builds the folder and gives its objects, its image map among them.
func (t *tree) raw(f *findings, dir string) []*unstructured.Unstructured {
	built := t.build(f, dir)
	if built == nil {
		return nil
	}
	var raw []*unstructured.Unstructured
	for _, res := range built.Resources() {
		object := fmt.Sprintf("%s %s/%s", res.GetKind(), cmp.Or(res.GetNamespace(), "default"), res.GetName())
		if res.GetKind() == imagesKind {
			f.refuse(object, "", "a cluster has no use for it: leave it out of resources; it is read from %s", imagesFile)
			continue
		}
		o := new(unstructured.Unstructured)
		// Through JSON: of numbers, kustomize has kinds that Kubernetes lacks.
		data, err := res.MarshalJSON()
		if err == nil {
			err = o.UnmarshalJSON(data)
		}
		if err != nil {
			f.refuse(object, "", "%s", plain(err))
			continue
		}
		raw = append(raw, o)
	}
	if images := t.imageMap(f, path.Join(dir, imagesFile)); images != nil {
		raw = append(raw, images)
	}
	return raw
}

// imageMap reads a folder's image map, where it has one.
func (t *tree) imageMap(f *findings, at string) *unstructured.Unstructured {
	data, err := t.readYAML(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var value map[string]any
	if err == nil {
		err = kyaml.Unmarshal(data, &value)
	}
	o := new(unstructured.Unstructured)
	if err == nil {
		data, err = json.Marshal(value)
	}
	if err == nil {
		err = json.Unmarshal(data, &o.Object)
	}
	switch {
	case err != nil:
		f.refuse(local(at), "", "%s", plain(err))
		return nil
	case o.GetAPIVersion() != imagesVersion || o.GetKind() != imagesKind:
		f.refuse(local(at), "", "want apiVersion %s and kind %s, have %q and %q", imagesVersion, imagesKind, o.GetAPIVersion(), o.GetKind())
		return nil
	}
	if o.GetName() == "" {
		o.SetName("images")
	}
	return o
}

// Build gives the objects of the kustomize folder dir as they are written, its
// image map among them, without a look at what they say. Files are read as by
// [Load]. What is wrong with the folder is an [*Invalid].
func Build(dir string) ([]*unstructured.Unstructured, error) {
	var raw []*unstructured.Unstructured
	err := inTree(dir, func(t *tree, below string) error {
		var f findings
		raw = t.raw(&f, below)
		return f.err(dir)
	})
	if err != nil {
		return nil, err
	}
	return raw, nil
}

// Read gives the objects of YAML or JSON text, several documents and Lists
// among them, as they are written. Name is what the text is called in errors;
// at most 1 MiB of it is read.
func Read(name string, r io.Reader) ([]*unstructured.Unstructured, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	raw, err := objects(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %s", name, plain(err))
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("read %s: there is no object in it", name)
	}
	return raw, nil
}

func objects(data []byte) ([]*unstructured.Unstructured, error) {
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxFileBytes)
	}
	if n, err := inspectYAML(data); err != nil {
		return nil, err
	} else if n > maxObjects {
		return nil, fmt.Errorf("it has more than %d objects", maxObjects)
	}
	var raw []*unstructured.Unstructured
	for docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return raw, nil
		}
		if err != nil {
			return nil, err
		}
		o := new(unstructured.Unstructured)
		if err := yaml.Unmarshal(doc, &o.Object); err != nil {
			return nil, err
		}
		switch {
		case len(o.Object) == 0: // comments alone
		case o.IsList():
			if err := o.EachListItem(func(item runtime.Object) error {
				raw = append(raw, item.(*unstructured.Unstructured))
				return nil
			}); err != nil {
				return nil, err
			}
		default:
			raw = append(raw, o)
		}
	}
}
