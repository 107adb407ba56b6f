package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
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
		at := fmt.Sprintf("%s.envFrom[%d].configMapRef.name", r.container(), i)
		ref := from.ConfigMapRef // the only kind that the rules let through
		cm, ok := r.configMap(ref.Name)
		if !ok && (ref.Optional == nil || !*ref.Optional) {
			r.refuse(at, "%s", r.noConfigMap(ref.Name))
		}
		for _, key := range slices.Sorted(maps.Keys(cm)) {
			r.checkEnv(at, from.Prefix+key, string(cm[key]))
			env.set(from.Prefix+key, string(cm[key]))
		}
	}
	for i, v := range c.Env {
		at := fmt.Sprintf("%s.env[%d]", r.container(), i)
		value := expand(v.Value, env.lookup)
		if v.ValueFrom != nil && v.ValueFrom.ConfigMapKeyRef != nil {
			if v.Value != "" {
				r.refuse(at, "has both value and valueFrom")
			}
			var ok bool
			if value, ok = r.configMapKey(at+".valueFrom.configMapKeyRef", v.ValueFrom.ConfigMapKeyRef); !ok {
				continue
			}
		}
		r.checkEnv(at, v.Name, value)
		env.set(v.Name, value)
	}
	return env.vars
}

func (r reducer) configMapKey(at string, ref *corev1.ConfigMapKeySelector) (string, bool) {
	optional := ref.Optional != nil && *ref.Optional
	cm, ok := r.configMap(ref.Name)
	if !ok {
		if !optional {
			r.refuse(at+".name", "%s", r.noConfigMap(ref.Name))
		}
		return "", false
	}
	value, ok := cm[ref.Key]
	if !ok {
		if !optional {
			r.refuse(at+".key", "ConfigMap %s has no key %q%s", ref.Name, ref.Key, meant(ref.Key, maps.Keys(cm)))
		}
		return "", false
	}
	return string(value), true
}

// checkEnv refuses what the operating system cannot pass on.
func (r reducer) checkEnv(at, name, value string) {
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00"):
		r.refuse(at+".name", "%q is no name for an environment variable", name)
	case strings.Contains(value, "\x00"):
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

// Argv is the command with every $(NAME) replaced from the declared
// environment and from what the engine adds to it, such as PORT.
func (t *Template) Argv(added ...EnvVar) []string {
	env := environment{slices.Concat(added, t.Env)}
	argv := make([]string, len(t.Command))
	for i, arg := range t.Command {
		argv[i] = expand(arg, env.lookup)
	}
	return argv
}

// expand replaces $(NAME) as Kubernetes does: a name that is not known stays as
// it is, and $$ is a dollar sign that begins no reference.
func expand(s string, lookup func(string) (string, bool)) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "$")
		b.WriteString(before)
		switch {
		case !ok:
			return b.String()
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			s = rest[1:]
			continue
		case strings.HasPrefix(rest, "("):
			if name, after, closed := strings.Cut(rest[1:], ")"); closed {
				if value, known := lookup(name); known {
					b.WriteString(value)
				} else {
					b.WriteString("$(" + name + ")")
				}
				s = after
				continue
			}
		}
		b.WriteByte('$')
		s = rest
	}
}
