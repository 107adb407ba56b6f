package manifest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/scaling"
)

const serviceVersion = "serving.knative.dev/v1"

// Check turns objects as they are written into what is kept of them: of their
// own types, defaulted, valid, and able to run with one another and with what
// is there already (nil: nothing). The Set that it gives has the new objects
// alone; its Settings are those of both. What is wrong is an [*Invalid].
func Check(raw []*unstructured.Unstructured, there *Set) (*Set, error) {
	var f findings
	set := check(&f, raw, there)
	if err := f.err(""); err != nil {
		return nil, err
	}
	return set, nil
}

// check is Check with what is wrong in f; the set is whole only without.
func check(f *findings, raw []*unstructured.Unstructured, there *Set) *Set {
	if there == nil {
		there = &Set{}
	}
	c := checker{findings: f, set: new(Set)}
	seen := map[string]bool{}
	for _, o := range raw {
		c.take(o, seen)
	}
	made := c.set
	c.set = &Set{ConfigMaps: over(there.ConfigMaps, made.ConfigMaps), Secrets: over(there.Secrets, made.Secrets), ImageMaps: over(there.ImageMaps, made.ImageMaps)}
	var settings findings // those of the ConfigMaps that are there have been told
	c.set.Settings = readSettings(&settings, c.set.ConfigMaps)
	f.problems = append(f.problems, settings.problems...)
	for _, i := range settings.ignored {
		if slices.ContainsFunc(made.ConfigMaps, func(m *corev1.ConfigMap) bool { return i.Object == configObject(m.Name) }) {
			f.ignored = append(f.ignored, i)
		}
	}
	made.Settings = c.set.Settings
	if len(f.problems) > 0 {
		// Without sound settings every Service would be judged wrongly.
		return made
	}
	c.sources = c.set.Sources()
	for _, s := range c.services {
		i := slices.IndexFunc(there.Services, func(o *servingv1.Service) bool { return nameOf(o) == s.name })
		var old *servingv1.Service
		if i >= 0 {
			old = there.Services[i]
		}
		if ks := c.service(s.object, s.value, old); ks != nil {
			made.Services = append(made.Services, ks)
		}
	}
	slices.SortFunc(made.Services, byName)
	slices.SortFunc(made.ConfigMaps, byName)
	slices.SortFunc(made.Secrets, byName)
	slices.SortFunc(made.ImageMaps, byName)
	slices.SortFunc(made.Schedules, byName)
	slices.SortFunc(made.Events, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(a.GetKind(), b.GetKind()), byName(a, b))
	})
	slices.SortFunc(f.ignored, func(a, b Ignored) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Path, b.Path))
	})
	made.Ignored = f.ignored
	return made
}

// checker sorts objects by their kinds.
type checker struct {
	findings *findings
	set      *Set // at first the new objects, then what Services may refer to
	sources  Sources
	services []rawService
}

type rawService struct {
	object string
	name   types.NamespacedName
	value  map[string]any
}

// maxName bounds an object's name, below Kubernetes' 253 characters: a file's
// name has 255, of which its ending needs some.
const maxName = 240

func (c *checker) take(o *unstructured.Unstructured, seen map[string]bool) {
	version, kind := o.GetAPIVersion(), o.GetKind()
	name := types.NamespacedName{Namespace: cmp.Or(o.GetNamespace(), "default"), Name: o.GetName()}
	object := fmt.Sprintf("%s %s", kind, name)
	key := version + " " + object
	if seen[key] {
		c.findings.refuse(object, "", "is there twice")
		return
	}
	seen[key] = true
	if problems := validation.IsDNS1123Label(name.Namespace); len(problems) > 0 {
		c.findings.refuse(object, "metadata.namespace", "%s", strings.Join(problems, "; "))
		return
	}
	if problems := validation.IsDNS1123Subdomain(name.Name); len(problems) > 0 {
		c.findings.refuse(object, "metadata.name", "%s", strings.Join(problems, "; "))
		return
	}
	if n := len(name.Name); n > maxName {
		c.findings.refuse(object, "metadata.name", "has %d characters; one machine keeps an object in a file of its name, which has at most %d", n, maxName)
		return
	}
	o = o.DeepCopy()
	o.SetNamespace(name.Namespace)
	switch {
	case version == serviceVersion && kind == "Service":
		c.services = append(c.services, rawService{object, name, o.Object})
	case version == "v1" && kind == "ConfigMap":
		c.configMap(object, o.Object)
	case version == "v1" && kind == "Secret":
		c.secret(object, o.Object)
	case version == imagesVersion && kind == imagesKind:
		if m := readImages(c.findings, object, o.Object); m != nil {
			c.set.ImageMaps = append(c.set.ImageMaps, m)
		}
	case version == scaling.GroupVersion.String() && kind == scaling.Kind:
		if s, ok := decode[scaling.ScalingSchedule](c.findings, object, o.Object); ok {
			c.set.Schedules = append(c.set.Schedules, s)
		}
	case slices.Contains(eventKinds, version+" "+kind):
		c.set.Events = append(c.set.Events, o)
	default:
		c.other(object, version, kind)
	}
}

func (c *checker) configMap(object string, value map[string]any) {
	cm, ok := decode[corev1.ConfigMap](c.findings, object, value)
	if !ok {
		return
	}
	if _, known := configKeys[cm.Name]; known && cm.Namespace != knativeNamespace {
		// A namespace that the kustomization sets moves it: it would be obeyed by nobody.
		c.findings.refuse(object, "metadata.namespace", "is %s; Knative's settings are read from %s", cm.Namespace, knativeNamespace)
	}
	sizes := make(map[string]int, len(cm.Data))
	for key, text := range cm.Data {
		sizes[key] = len(text)
	}
	c.data(object, "binaryData", sizes, cm.BinaryData)
	c.set.ConfigMaps = append(c.set.ConfigMaps, cm)
}

func (c *checker) secret(object string, value map[string]any) {
	s, ok := decode[corev1.Secret](c.findings, object, value)
	if !ok {
		return
	}
	sizes := make(map[string]int, len(s.Data))
	for key, data := range s.Data {
		sizes[key] = len(data)
	}
	written := make(map[string][]byte, len(s.StringData))
	for key, text := range s.StringData {
		delete(sizes, key) // Kubernetes lets stringData win
		written[key] = []byte(text)
	}
	c.data(object, "stringData", sizes, written)
	for key, data := range written {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[key] = data
	}
	s.StringData = nil
	s.Type = cmp.Or(s.Type, corev1.SecretTypeOpaque)
	c.set.Secrets = append(c.set.Secrets, s)
}

// data checks the keys and the size of what a ConfigMap or a Secret holds in
// two fields; second is the name of the other one.
func (c *checker) data(object, second string, sizes map[string]int, more map[string][]byte) {
	total := 0
	for _, key := range slices.Sorted(maps.Keys(more)) {
		if _, twice := sizes[key]; twice {
			c.findings.refuse(object, join(second, key), "is in data too")
		}
		sizes[key] = len(more[key])
	}
	for _, key := range slices.Sorted(maps.Keys(sizes)) {
		total += sizes[key]
		if problems := validation.IsConfigMapKey(key); len(problems) > 0 {
			c.findings.refuse(object, join("data", key), "%s", strings.Join(problems, "; "))
		}
	}
	if total > maxFileBytes {
		c.findings.refuse(object, "data", "has %d bytes; a %s has at most %d", total, strings.Fields(object)[0], maxFileBytes)
	}
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
