package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// Template is one Revision, reduced to what one machine honours: what a
// process needs to be a pod of it.
type Template struct {
	Namespace, Service, Revision string
	Annotations                  map[string]string // what activator/scale reads

	ContainerConcurrency int64         // 0: no limit
	Timeout              time.Duration // of one request, in all
	ResponseStartTimeout time.Duration // until the first byte of the answer; 0: only Timeout
	IdleTimeout          time.Duration // without a byte of the answer; 0: only Timeout
	GracePeriod          time.Duration // from SIGTERM to SIGKILL; Knative takes Timeout

	Image string // as in the manifest
	// Command is what runs, before $(NAME) in it is replaced: see [Template.Argv].
	// A relative first element is relative to the project's root.
	Command []string
	Env     []EnvVar // in order, references expanded, names unique
	Mounts  []Mount
	H2C     bool // the pod speaks HTTP/2 without TLS
	// Readiness is never nil: Knative's default is a TCP connection.
	Readiness *Probe
}

// EnvVar is one declared environment variable.
type EnvVar struct{ Name, Value string }

// Mount is a ConfigMap volume: these files belong at Path, read-only.
type Mount struct {
	Path  string            // absolute and clean, as in the manifest
	Files map[string][]byte // by slash-separated path below Path
}

// Probe is a readiness probe. With HTTPGet nil it is a TCP connection to the
// pod's port.
type Probe struct {
	HTTPGet          *HTTPGet
	InitialDelay     time.Duration
	Timeout          time.Duration // of one attempt; 0 where the manifest sets no period
	SuccessThreshold int           // at least 1
}

// HTTPGet asks for a path; any status from 200 to 399 is ready.
type HTTPGet struct {
	Path    string
	Host    string // the Host header, where httpHeaders has one
	Headers []Header
}

// Header is one request header.
type Header struct{ Name, Value string }

// Sources are what a Revision may refer to.
type Sources struct {
	ConfigMaps map[types.NamespacedName]*corev1.ConfigMap
	Secrets    map[types.NamespacedName]*corev1.Secret
	Images     []*ImageMap // the first that has an image counts
}

// Reduce gives what one machine needs of a Revision that has been defaulted and
// validated. What it refers to and is not there is an [*Invalid], and the
// Template then lacks that alone.
func (s Sources) Reduce(rev *servingv1.Revision) (*Template, error) {
	var f findings
	r := reducer{Sources: s, findings: &f, object: "Revision " + rev.Namespace + "/" + rev.Name, at: "spec", namespace: rev.Namespace}
	t := r.reduce(&rev.Spec)
	t.Service, t.Revision = rev.Labels["serving.knative.dev/service"], rev.Name
	t.Annotations = maps.Clone(rev.Annotations)
	return &t, f.err("")
}

// reducer takes from a valid revision what one machine needs.
type reducer struct {
	Sources
	findings  *findings
	object    string
	at        string // the path of the revision's spec
	namespace string
}

func (r reducer) refuse(at, format string, args ...any) {
	r.findings.refuse(r.object, at, format, args...)
}

// container is the path of the one container.
func (r reducer) container() string { return r.at + ".containers[0]" }

func (r reducer) reduce(spec *servingv1.RevisionSpec) Template {
	c := spec.Containers[0]
	seconds := func(n *int64) time.Duration {
		if n == nil {
			return 0
		}
		return time.Duration(*n) * time.Second
	}
	argv, mapped := r.command(c.Image)
	if len(c.Command) > 0 {
		argv = c.Command
	}
	return Template{
		Namespace:            r.namespace,
		ContainerConcurrency: *cmp.Or(spec.ContainerConcurrency, new(int64)),
		Timeout:              seconds(spec.TimeoutSeconds),
		ResponseStartTimeout: seconds(spec.ResponseStartTimeoutSeconds),
		IdleTimeout:          seconds(spec.IdleTimeoutSeconds),
		GracePeriod:          seconds(spec.TimeoutSeconds),
		Image:                c.Image,
		Command:              slices.Concat(argv, c.Args),
		H2C:                  len(c.Ports) > 0 && c.Ports[0].Name == "h2c",
		Env:                  r.environment(c, mapped),
		Mounts:               r.mounts(spec.Volumes, c.VolumeMounts),
		Readiness:            r.probe(c),
	}
}

// mounts gives the files of the ConfigMap volumes.
func (r reducer) mounts(volumes []corev1.Volume, mounts []corev1.VolumeMount) []Mount {
	files := make(map[string]map[string][]byte)
	for i, v := range volumes {
		at := fmt.Sprintf("%s.volumes[%d].configMap", r.at, i)
		cm := v.ConfigMap // the only kind that the rules let through
		data, ok := r.configMap(cm.Name)
		if !ok && (cm.Optional == nil || !*cm.Optional) {
			r.refuse(at+".name", "%s", r.noConfigMap(cm.Name))
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
			r.refuse(fmt.Sprintf("%s.volumeMounts[%d].mountPath", r.container(), i), "must not contain a colon")
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

// configMap is the data of a ConfigMap; binary data lies with the rest.
func (r reducer) configMap(name string) (map[string][]byte, bool) {
	cm, ok := r.ConfigMaps[types.NamespacedName{Namespace: r.namespace, Name: name}]
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

func (r reducer) noConfigMap(name string) string {
	names := func(yield func(string) bool) {
		for key := range r.ConfigMaps {
			if key.Namespace == r.namespace && !yield(key.Name) {
				return
			}
		}
	}
	return fmt.Sprintf("there is no ConfigMap %s/%s%s", r.namespace, name, meant(name, names))
}

func (r reducer) probe(c corev1.Container) *Probe {
	p, at := c.ReadinessProbe, r.container()+".readinessProbe"
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
