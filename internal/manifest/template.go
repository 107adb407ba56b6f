package manifest

import (
	"cmp"
	"maps"
	"slices"
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
	// Command is what runs, before $(NAME) in it is replaced from the environment
	// (internal/expansion). A relative first element is relative to the
	// project's root.
	Command []string
	Env     []EnvVar // in order, references expanded, names unique
	Mounts  []Mount
	H2C     bool // the pod speaks HTTP/2 without TLS
	// Readiness is never nil: Knative's default is a TCP connection. The others
	// may be.
	Startup, Readiness, Liveness *Probe
	Limits                       Limits
}

// PodName stands in an environment value for the name of the pod, which is
// known when one is started. No real value has a NUL byte.
const PodName = "\x00metadata.name\x00"

// EnvVar is one declared environment variable.
type EnvVar struct{ Name, Value string }

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
	t := Template{
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
		Startup:              r.probe("startupProbe", c, c.StartupProbe),
		Readiness:            r.probe("readinessProbe", c, c.ReadinessProbe),
		Liveness:             r.probe("livenessProbe", c, c.LivenessProbe),
		Limits:               r.limits(c.Resources),
	}
	r.unnamed(t)
	return t
}
