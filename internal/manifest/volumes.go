package manifest

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Mount is a volume as the container is to see it at Path.
type Mount struct {
	Path   string // absolute and clean, as in the manifest
	Volume string // its name: what is mounted twice is one volume
	// Files, by slash-separated path below Path, come from ConfigMaps and
	// Secrets. They are for reading.
	Files map[string][]byte
	Modes map[string]fs.FileMode // of those Files for which one is declared
	Empty bool                   // an emptyDir: the pod may write to it, and it goes with the pod
}

// The kinds that hold data for pods.
const (
	kindConfigMap = "ConfigMap"
	kindSecret    = "Secret"
)

// mounts gives the files of the volumes.
func (r reducer) mounts(volumes []corev1.Volume, mounts []corev1.VolumeMount) []Mount {
	written := make(map[string]Mount)
	for i, v := range volumes {
		at := fmt.Sprintf("%s.volumes[%d]", r.at, i)
		m := Mount{Volume: v.Name, Files: map[string][]byte{}, Modes: map[string]fs.FileMode{}}
		switch {
		case v.EmptyDir != nil:
			m.Empty = true
		case v.ConfigMap != nil:
			s := v.ConfigMap
			r.files(m, volumeSource{at + ".configMap", "name", kindConfigMap, s.Name, s.Items, s.Optional, s.DefaultMode})
		case v.Secret != nil:
			s := v.Secret
			r.files(m, volumeSource{at + ".secret", "secretName", kindSecret, s.SecretName, s.Items, s.Optional, s.DefaultMode})
		case v.Projected != nil:
			for j, s := range v.Projected.Sources {
				at := fmt.Sprintf("%s.projected.sources[%d]", at, j)
				switch {
				case s.ConfigMap != nil:
					r.files(m, volumeSource{at + ".configMap", "name", kindConfigMap, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, v.Projected.DefaultMode})
				case s.Secret != nil:
					r.files(m, volumeSource{at + ".secret", "name", kindSecret, s.Secret.Name, s.Secret.Items, s.Secret.Optional, v.Projected.DefaultMode})
				}
			}
		}
		written[v.Name] = m
	}
	var out []Mount
	for i, vm := range mounts {
		at := fmt.Sprintf("%s.volumeMounts[%d]", r.container(), i)
		if strings.Contains(vm.MountPath, ":") {
			r.refuse(at+".mountPath", "must not contain a colon")
		}
		m := written[vm.Name]
		if m.Empty && vm.ReadOnly {
			r.findings.ignore(r.object, at+".readOnly", "the pod owns its emptyDir, and may write to it")
		}
		m.Path = path.Clean(vm.MountPath)
		out = append(out, m)
	}
	return out
}

// volumeSource is a ConfigMap or Secret as a volume names it.
type volumeSource struct {
	at, field  string // where it is, and the field there that has the name
	kind, name string
	items      []corev1.KeyToPath
	optional   *bool
	mode       *int32
}

// files adds a source's files to a mount.
func (r reducer) files(m Mount, s volumeSource) {
	optional := s.optional != nil && *s.optional
	data, ok := r.data(s.kind, s.name)
	if !ok {
		if !optional {
			r.refuse(s.at+"."+s.field, "%s", r.absent(s.kind, s.name))
		}
		return
	}
	add := func(at, name string, content []byte, mode *int32) {
		if _, twice := m.Files[name]; twice {
			r.refuse(at, "%q is there twice", name)
			return
		}
		m.Files[name] = content
		if mode == nil {
			return
		}
		if *mode < 0 || *mode > 0o777 {
			r.refuse(at, "the mode of %q is %#o; it must lie between 0 and 0777", name, *mode)
			return
		}
		m.Modes[name] = fs.FileMode(*mode) | 0o400 // a pod can read what is mounted
	}
	if len(s.items) == 0 {
		for key, content := range data {
			add(s.at, key, content, s.mode)
		}
		return
	}
	for i, item := range s.items {
		at := fmt.Sprintf("%s.items[%d]", s.at, i)
		name := path.Clean(item.Path)
		if !filepath.IsLocal(item.Path) || name == "." {
			r.refuse(at+".path", "%q must be a relative path without \"..\"", item.Path)
			continue
		}
		content, ok := data[item.Key]
		if !ok {
			if !optional {
				r.refuse(at+".key", "%s", noKey(s.kind, s.name, item.Key, data))
			}
			continue
		}
		mode := item.Mode
		if mode == nil {
			mode = s.mode
		}
		add(at+".path", name, content, mode)
	}
}

// data is what a ConfigMap or a Secret holds; binary data lies with the rest.
func (r reducer) data(kind, name string) (map[string][]byte, bool) {
	key := types.NamespacedName{Namespace: r.namespace, Name: name}
	if kind == kindSecret {
		s, ok := r.Secrets[key]
		if !ok {
			return nil, false
		}
		return s.Data, true
	}
	cm, ok := r.ConfigMaps[key]
	if !ok {
		return nil, false
	}
	data := maps.Clone(cm.BinaryData)
	if data == nil {
		data = make(map[string][]byte, len(cm.Data))
	}
	for key, value := range cm.Data {
		data[key] = []byte(value)
	}
	return data, true
}

// absent says that there is no such object, and which one may be meant.
func (r reducer) absent(kind, name string) string {
	names := func(yield func(string) bool) {
		for key := range r.ConfigMaps {
			if kind == kindConfigMap && key.Namespace == r.namespace && !yield(key.Name) {
				return
			}
		}
		for key := range r.Secrets {
			if kind == kindSecret && key.Namespace == r.namespace && !yield(key.Name) {
				return
			}
		}
	}
	return fmt.Sprintf("there is no %s %s/%s%s", kind, r.namespace, name, meant(name, names))
}

func noKey(kind, name, key string, data map[string][]byte) string {
	return fmt.Sprintf("%s %s has no key %q%s", kind, name, key, meant(key, maps.Keys(data)))
}

// unnamed lists the mounts that a process cannot find: nothing is mounted on
// one machine, but a path in the environment or an argument leads to the files.
func (r reducer) unnamed(t Template) {
	for i, m := range t.Mounts {
		leads := func(value string) bool {
			return value == m.Path || strings.HasPrefix(value, strings.TrimSuffix(m.Path, "/")+"/")
		}
		named := false
		for _, v := range t.Env {
			named = named || leads(v.Value)
		}
		for _, arg := range t.Command {
			named = named || leads(arg)
		}
		if !named {
			r.findings.ignore(r.object, fmt.Sprintf("%s.volumeMounts[%d]", r.container(), i), fmt.Sprintf(
				"no environment value and no argument is a path at or below %s, so the process cannot know where its files are on this machine", m.Path))
		}
	}
}
