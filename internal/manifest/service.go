package manifest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// validate defaults and validates a Service by Knative's own code, and gives
// the image of its container. That code is called on hostile objects: a panic
// of it is a problem of the object's.
func (l *loader) validate(object string, ks *servingv1.Service) (image string) {
	defer func() {
		if r := recover(); r != nil {
			l.findings.refuse(object, "", "Knative's validation fails on it: %v", r)
		}
	}()
	containers := ks.Spec.Template.Spec.Containers
	if len(containers) > 1 {
		l.findings.refuse(object, template+".containers", "cannot be honoured on one machine: %d containers: %s", len(containers), onlyOne)
		return ""
	}
	if len(ks.Spec.Traffic) > 1 {
		l.findings.refuse(object, "spec.traffic", "cannot be honoured on one machine: %s", noSplit)
	}
	if len(containers) == 1 {
		image = containers[0].Image
		// ko puts its own reference here before a cluster sees the manifest.
		containers[0].Image = strings.TrimPrefix(image, koScheme)
	}
	ctx := apis.WithinCreate(l.settings.context())
	ks.SetDefaults(ctx)
	l.report(object, ks.Validate(ctx))
	return image
}

// report takes Knative's errors apart. Its warnings are about a cluster's
// security defaults.
func (l *loader) report(object string, err *apis.FieldError) {
	err = err.Filter(apis.ErrorLevel)
	if err == nil {
		return
	}
	for _, e := range err.WrappedErrors() {
		reason := e.Message
		if e.Details != "" {
			reason += ": " + e.Details
		}
		l.findings.refuse(object, strings.Join(e.Paths, ", "), "%s", strings.Join(strings.Fields(reason), " "))
	}
}

// reducer takes from a valid Service what one machine needs.
type reducer struct {
	*loader
	object  string
	service *servingv1.Service
	image   string
}

const containerPath = template + ".containers[0]"

func (r reducer) refuse(at, format string, args ...any) {
	r.findings.refuse(r.object, at, format, args...)
}

func (r reducer) reduce() Service {
	spec := r.service.Spec.Template.Spec
	c := spec.Containers[0]
	seconds := func(n *int64) time.Duration {
		if n == nil {
			return 0
		}
		return time.Duration(*n) * time.Second
	}
	argv, mapped := r.images.command(r.findings, r.object, containerPath+".image", r.image)
	if len(c.Command) > 0 {
		argv = c.Command
	}
	s := Service{
		Namespace:            cmp.Or(r.service.Namespace, "default"),
		Name:                 r.service.Name,
		Annotations:          maps.Clone(r.service.Spec.Template.Annotations),
		ContainerConcurrency: *spec.ContainerConcurrency,
		Timeout:              seconds(spec.TimeoutSeconds),
		ResponseStartTimeout: seconds(spec.ResponseStartTimeoutSeconds),
		IdleTimeout:          seconds(spec.IdleTimeoutSeconds),
		GracePeriod:          seconds(spec.TimeoutSeconds),
		Image:                r.image,
		Command:              slices.Concat(argv, c.Args),
		H2C:                  len(c.Ports) > 0 && c.Ports[0].Name == "h2c",
	}
	s.Env = r.environment(s.Namespace, c, mapped)
	s.Mounts = r.mounts(s.Namespace, spec.Volumes, c.VolumeMounts)
	s.Readiness = r.probe(c)
	s.Digest = r.digest(s.Command, mapped)
	return s
}

// digest tells revisions apart. It covers the template as Knative would store
// it, so that changing another part of the Service makes no new revision.
func (r reducer) digest(argv []string, mapped []imageEnv) string {
	h := sha256.New()
	// Encoding a decoded object does not fail.
	if err := json.NewEncoder(h).Encode(struct {
		Template servingv1.RevisionTemplateSpec
		Image    string
		Command  []string
		Env      []imageEnv
	}{r.service.Spec.Template, r.image, argv, mapped}); err != nil {
		panic(fmt.Sprintf("manifest: encode template of %s: %v", r.object, err))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// mounts gives the files of the ConfigMap volumes.
func (r reducer) mounts(namespace string, volumes []corev1.Volume, mounts []corev1.VolumeMount) []Mount {
	files := make(map[string]map[string][]byte)
	for i, v := range volumes {
		at := fmt.Sprintf("%s.volumes[%d].configMap", template, i)
		cm := v.ConfigMap // the only kind that the rules let through
		data, ok := r.configMap(namespace, cm.Name)
		if !ok && (cm.Optional == nil || !*cm.Optional) {
			r.refuse(at+".name", "%s", r.noConfigMap(namespace, cm.Name))
			continue
		}
		files[v.Name] = data
		if len(cm.Items) > 0 {
			files[v.Name] = r.items(at, data, cm)
		}
	}
	var out []Mount
	for i, m := range mounts {
		if strings.Contains(m.MountPath, ":") {
			r.refuse(fmt.Sprintf("%s.volumeMounts[%d].mountPath", containerPath, i), "must not contain a colon")
		}
		out = append(out, Mount{Path: path.Clean(m.MountPath), Files: maps.Clone(files[m.Name])})
	}
	return out
}

func (r reducer) items(at string, data map[string][]byte, cm *corev1.ConfigMapVolumeSource) map[string][]byte {
	out := make(map[string][]byte)
	for i, item := range cm.Items {
		at := fmt.Sprintf("%s.items[%d]", at, i)
		name := path.Clean(item.Path)
		if !filepath.IsLocal(item.Path) || name == "." {
			r.refuse(at+".path", "%q must be a relative path without \"..\"", item.Path)
			continue
		}
		if _, twice := out[name]; twice {
			r.refuse(at+".path", "%q is there twice", item.Path)
			continue
		}
		content, ok := data[item.Key]
		if !ok {
			if cm.Optional == nil || !*cm.Optional {
				r.refuse(at+".key", "ConfigMap %s has no key %q%s", cm.Name, item.Key, meant(item.Key, maps.Keys(data)))
			}
			continue
		}
		out[name] = content
	}
	return out
}

func (r reducer) configMap(namespace, name string) (ConfigMap, bool) {
	cm, ok := r.maps[types.NamespacedName{Namespace: namespace, Name: name}]
	return cm, ok
}

func (r reducer) noConfigMap(namespace, name string) string {
	names := func(yield func(string) bool) {
		for key := range r.maps {
			if key.Namespace == namespace && !yield(key.Name) {
				return
			}
		}
	}
	return fmt.Sprintf("there is no ConfigMap %s/%s%s", namespace, name, meant(name, names))
}

func (r reducer) probe(c corev1.Container) *Probe {
	p, at := c.ReadinessProbe, containerPath+".readinessProbe"
	seconds := func(n int32) time.Duration { return time.Duration(n) * time.Second }
	out := &Probe{
		InitialDelay:     seconds(p.InitialDelaySeconds),
		Timeout:          seconds(p.TimeoutSeconds),
		SuccessThreshold: int(p.SuccessThreshold),
	}
	declared := int32(8080) // Knative's default
	if len(c.Ports) > 0 && c.Ports[0].ContainerPort != 0 {
		declared = c.Ports[0].ContainerPort
	}
	checkPort := func(at string, port int32) {
		if port != 0 && port != declared {
			r.refuse(at, "%d is not the container's port, %d; only that one gets a port here, in PORT", port, declared)
		}
	}
	if p.TCPSocket != nil {
		checkPort(at+".tcpSocket.port", p.TCPSocket.Port.IntVal)
	}
	if get := p.HTTPGet; get != nil {
		checkPort(at+".httpGet.port", get.Port.IntVal)
		if get.Scheme != "" && get.Scheme != corev1.URISchemeHTTP {
			r.refuse(at+".httpGet.scheme", "%q: pods speak plain HTTP", get.Scheme)
		}
		out.HTTPGet = &HTTPGet{Path: "/" + strings.TrimPrefix(get.Path, "/")}
		for _, h := range get.HTTPHeaders {
			if strings.EqualFold(h.Name, "Host") {
				out.HTTPGet.Host = h.Value
				continue
			}
			out.HTTPGet.Headers = append(out.HTTPGet.Headers, Header{h.Name, h.Value})
		}
	}
	return out
}
