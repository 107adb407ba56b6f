package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"aisle.dev/aisle/internal/expansion"
)

// environment gives the declared environment in the order in which Kubernetes
// builds it: what the image brings, envFrom, env. A later value of a name
// replaces an earlier one, and may refer to those before it.
func (r reducer) environment(c corev1.Container, mapped []ImageEnv) []EnvVar {
	var env environment
	for _, v := range mapped {
		env.set(v.Name, v.Value)
	}
	for i, from := range c.EnvFrom {
		at := fmt.Sprintf("%s.envFrom[%d]", r.container(), i)
		var data map[string][]byte
		if ref := from.SecretRef; ref != nil { // exactly one of the two, says Knative's validation
			data = r.all(at+".secretRef", kindSecret, ref.Name, ref.Optional)
		} else {
			data = r.all(at+".configMapRef", kindConfigMap, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		}
		for _, key := range slices.Sorted(maps.Keys(data)) {
			r.checkEnv(at, from.Prefix+key, string(data[key]))
			env.set(from.Prefix+key, string(data[key]))
		}
	}
	for i, v := range c.Env {
		at := fmt.Sprintf("%s.env[%d]", r.container(), i)
		value := expansion.Expand(v.Value, env.lookup)
		if v.ValueFrom != nil {
			if v.Value != "" {
				r.refuse(at, "has both value and valueFrom")
			}
			var ok bool
			if value, ok = r.valueFrom(at+".valueFrom", v.ValueFrom); !ok {
				continue
			}
		}
		r.checkEnv(at, v.Name, value)
		env.set(v.Name, value)
	}
	return env.vars
}

// all is what an object holds that an environment is taken from.
func (r reducer) all(at, kind, name string, optional *bool) map[string][]byte {
	data, ok := r.data(kind, name)
	if !ok && (optional == nil || !*optional) {
		r.refuse(at+".name", "%s", r.absent(kind, name))
	}
	return data
}

// valueFrom is a value that stands elsewhere; without one the variable is not
// set.
func (r reducer) valueFrom(at string, from *corev1.EnvVarSource) (string, bool) {
	switch {
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		return r.value(at+".configMapKeyRef", kindConfigMap, ref.Name, ref.Key, ref.Optional)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		return r.value(at+".secretKeyRef", kindSecret, ref.Name, ref.Key, ref.Optional)
	case from.FieldRef != nil:
		return r.field(at+".fieldRef", from.FieldRef)
	}
	r.refuse(at, "names no source")
	return "", false
}

func (r reducer) value(at, kind, name, key string, optional *bool) (string, bool) {
	must := optional == nil || !*optional
	data, ok := r.data(kind, name)
	if !ok {
		if must {
			r.refuse(at+".name", "%s", r.absent(kind, name))
		}
		return "", false
	}
	value, ok := data[key]
	if !ok && must {
		r.refuse(at+".key", "%s", noKey(kind, name, key, data))
	}
	return string(value), ok
}

// field is what a process on one machine can know of itself as a pod.
func (r reducer) field(at string, ref *corev1.ObjectFieldSelector) (string, bool) {
	if ref.APIVersion != "" && ref.APIVersion != "v1" {
		r.refuse(at+".apiVersion", "is %q; want v1", ref.APIVersion)
		return "", false
	}
	switch ref.FieldPath {
	case "metadata.name":
		return PodName, true
	case "metadata.namespace":
		return r.namespace, true
	case "status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs":
		return "127.0.0.1", true // where pods listen and are asked
	}
	r.refuse(at+".fieldPath", "%q: %s; there are metadata.name, metadata.namespace, status.podIP and status.hostIP", ref.FieldPath, notPodInfo)
	return "", false
}

// checkEnv refuses what the operating system cannot pass on.
func (r reducer) checkEnv(at, name, value string) {
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00"):
		r.refuse(at+".name", "%q is no name for an environment variable", name)
	case strings.Contains(strings.ReplaceAll(value, PodName, ""), "\x00"):
		r.refuse(at, "the value of %s has a NUL byte", name)
	}
}

type environment struct{ vars []EnvVar }

func (e *environment) set(name, value string) {
	for i := range e.vars {
		if e.vars[i].Name == name {
			e.vars[i].Value = value
			return
		}
	}
	e.vars = append(e.vars, EnvVar{name, value})
}

func (e *environment) lookup(name string) (string, bool) {
	for _, v := range e.vars {
		if v.Name == name {
			return v.Value, true
		}
	}
	return "", false
}
