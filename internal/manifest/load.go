package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"knative.dev/serving/pkg/apis/config"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
	"sigs.k8s.io/kustomize/api/resource"
)

// Load builds the kustomize folder dir and gives what it describes. Files are
// read below the working directory where dir lies in it, else below dir alone.
// What is wrong with the manifests is an [*Invalid].
func Load(dir string) (*Set, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("load manifests: %w", err)
	}
	if wd, err := os.Getwd(); err == nil {
		if set, err := LoadWithin(wd, dir); !errors.Is(err, errOutside) {
			return set, err
		}
	}
	return LoadWithin(dir, dir)
}

var errOutside = errors.New("lies outside of the root")

// LoadWithin is [Load] with files read below root, which dir lies in.
func LoadWithin(root, dir string) (*Set, error) {
	below, err := relative(root, dir)
	if err != nil {
		return nil, fmt.Errorf("load manifests from %s: %w", dir, err)
	}
	t, err := openTree(root)
	if err != nil {
		return nil, fmt.Errorf("load manifests from %s: %w", dir, err)
	}
	defer t.Close()
	return t.load(dir, below)
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
	built := t.build(&f, below)
	if built == nil {
		return nil, f.err(dir)
	}
	l := loader{findings: &f, images: readImages(&f, t, below), maps: make(map[types.NamespacedName]ConfigMap)}
	for _, res := range built.Resources() {
		l.take(res)
	}
	l.settings.parse(&f)
	if err := f.err(dir); err != nil {
		// Without sound settings every Service would be judged wrongly.
		return nil, err
	}
	if len(l.services) == 0 {
		f.refuse("", "", "no Knative Service (apiVersion %s, kind Service) is in it", serviceVersion)
	}
	set := &Set{Dir: dir, ConfigMaps: l.maps, Autoscaler: l.settings.data[asconfig.ConfigName], Defaults: l.settings.data[config.DefaultsConfigName]}
	for _, s := range l.services {
		set.Services = append(set.Services, l.reduce(s))
	}
	if err := f.err(dir); err != nil {
		return nil, err
	}
	slices.SortFunc(set.Services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(f.ignored, func(a, b Ignored) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Path, b.Path))
	})
	set.Ignored = f.ignored
	return set, nil
}

const serviceVersion = "serving.knative.dev/v1"

// loader sorts a folder's objects.
type loader struct {
	findings *findings
	images   images
	settings settings
	maps     map[types.NamespacedName]ConfigMap
	services []rawService
}

type rawService struct {
	object string
	value  map[string]any
}

func (l *loader) take(res *resource.Resource) {
	value, err := res.Map()
	kind, namespace, name := res.GetKind(), cmp.Or(res.GetNamespace(), "default"), res.GetName()
	object := fmt.Sprintf("%s %s/%s", kind, namespace, name)
	if err != nil {
		l.findings.refuse(object, "", "%s", plain(err))
		return
	}
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		l.findings.refuse(object, "metadata.namespace", "%s", strings.Join(problems, "; "))
		return
	}
	version := res.GetApiVersion()
	switch {
	case version == serviceVersion && kind == "Service":
		l.services = append(l.services, rawService{object, value})
	case version == "v1" && kind == "ConfigMap":
		l.takeConfigMap(object, types.NamespacedName{Namespace: namespace, Name: name}, value)
	default:
		l.takeOther(object, version, kind)
	}
}

func (l *loader) takeConfigMap(object string, name types.NamespacedName, value map[string]any) {
	cm, ok := decode[corev1.ConfigMap](l.findings, object, value)
	if !ok {
		return
	}
	if name.Namespace == knativeNamespace {
		if len(cm.BinaryData) > 0 {
			l.findings.refuse(object, "binaryData", "Knative reads data only")
		}
		l.settings.add(l.findings, object, name.Name, cm.Data)
		return
	}
	if _, ok := configKeys[name.Name]; ok {
		// A namespace that the kustomization sets moves it: it would be obeyed by nobody.
		l.findings.refuse(object, "metadata.namespace", "is %s; Knative's settings are read from %s", name.Namespace, knativeNamespace)
	}
	files := make(ConfigMap, len(cm.Data)+len(cm.BinaryData))
	size := 0
	for _, key := range slices.Sorted(maps.Keys(cm.Data)) {
		files[key] = []byte(cm.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(cm.BinaryData)) {
		if _, twice := files[key]; twice {
			l.findings.refuse(object, join("binaryData", key), "is in data too")
		}
		files[key] = cm.BinaryData[key]
	}
	for _, key := range slices.Sorted(maps.Keys(files)) {
		size += len(files[key])
		if problems := validation.IsConfigMapKey(key); len(problems) > 0 {
			l.findings.refuse(object, join("data", key), "%s", strings.Join(problems, "; "))
		}
	}
	if size > maxFileBytes {
		l.findings.refuse(object, "data", "has %d bytes; a ConfigMap has at most %d", size, maxFileBytes)
	}
	l.maps[name] = files
}

// decode turns a decoded YAML object into its Go type; everything that does
// not fit is a problem with its path.
func decode[T any](f *findings, object string, value map[string]any) (*T, bool) {
	before := len(f.problems)
	checkShape(f, object, "", value, reflect.TypeFor[T]())
	if len(f.problems) > before {
		return nil, false
	}
	data, err := json.Marshal(value)
	out := new(T)
	if err == nil {
		err = json.Unmarshal(data, out)
	}
	if err != nil {
		f.refuse(object, "", "%s", plain(err))
		return nil, false
	}
	return out, true
}

// reduce validates a Service and gives what one machine needs of it.
func (l *loader) reduce(raw rawService) Service {
	f := l.findings
	before := len(f.problems)
	ks, ok := decode[servingv1.Service](f, raw.object, raw.value)
	if !ok {
		return Service{}
	}
	applyRules(f, raw.object, "", "", raw.value)
	checkAnnotations(f, raw.object, "metadata.annotations", ks.Annotations, serviceAnnotations)
	checkAnnotations(f, raw.object, "spec.template.metadata.annotations", ks.Spec.Template.Annotations, templateAnnotations)
	image := l.validate(raw.object, ks)
	if len(f.problems) > before {
		return Service{}
	}
	r := reducer{loader: l, object: raw.object, service: ks, image: image}
	return r.reduce()
}
