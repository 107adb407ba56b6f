package objects

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"aisle.dev/aisle/internal/scaling"
)

// Kind is a kind of object as a server knows it.
type Kind struct {
	Group, Version string
	Name           string   // "Service"
	Plural         string   // as in paths
	Short          []string // what people call it besides
	Everywhere     bool     // it has no namespace
}

// Kinds that Aisle is made of, and those that a cluster makes of them.
var (
	Service       = Kind{Group: "serving.knative.dev", Version: "v1", Name: "Service", Plural: "services", Short: []string{"svc", "ksvc"}}
	Revision      = Kind{Group: "serving.knative.dev", Version: "v1", Name: "Revision", Plural: "revisions", Short: []string{"rev"}}
	Pod           = Kind{Version: "v1", Name: "Pod", Plural: "pods", Short: []string{"po"}}
	ConfigMap     = Kind{Version: "v1", Name: "ConfigMap", Plural: "configmaps", Short: []string{"cm"}}
	Secret        = Kind{Version: "v1", Name: "Secret", Plural: "secrets"}
	Broker        = Kind{Group: "eventing.knative.dev", Version: "v1", Name: "Broker", Plural: "brokers"}
	Trigger       = Kind{Group: "eventing.knative.dev", Version: "v1", Name: "Trigger", Plural: "triggers"}
	PingSource    = Kind{Group: "sources.knative.dev", Version: "v1", Name: "PingSource", Plural: "pingsources"}
	ImageMap      = Kind{Group: "aisle.dev", Version: "v1alpha1", Name: "ImageMap", Plural: "imagemaps"}
	Schedule      = Kind{Group: scaling.GroupVersion.Group, Version: scaling.GroupVersion.Version, Name: scaling.Kind, Plural: scaling.Resource, Short: []string{"ss", "schedule", "schedules"}}
	PodAutoscaler = Kind{Group: "autoscaling.internal.knative.dev", Version: "v1alpha1", Name: "PodAutoscaler", Plural: "podautoscalers"}
	Event         = Kind{Version: "v1", Name: "Event", Plural: "events", Short: []string{"ev"}}
)

// Kinds are those that the engine keeps and that people name.
var Kinds = []Kind{Service, Revision, Pod, Broker, Trigger, PingSource, Schedule, ConfigMap, Secret, ImageMap}

// Named finds a kind by what people call it: "svc", "Services",
// "service.serving.knative.dev".
func Named(name string) (Kind, bool) {
	name = strings.ToLower(name)
	i := slices.IndexFunc(Kinds, func(k Kind) bool {
		if short, group, ok := strings.Cut(name, "."); ok {
			return (short == k.Singular() || short == k.Plural) && (group == k.Group || group == k.Version+"."+k.Group)
		}
		return name == k.Singular() || name == k.Plural || slices.Contains(k.Short, name)
	})
	if i < 0 {
		return Kind{}, false
	}
	return Kinds[i], true
}

// Of finds the kind of an object by what it says of itself.
func Of(apiVersion, kind string) (Kind, bool) {
	i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.Name == kind && k.GroupVersion().String() == apiVersion })
	if i < 0 {
		return Kind{}, false
	}
	return Kinds[i], true
}

// Singular is the kind in messages: "service".
func (k Kind) Singular() string { return strings.ToLower(k.Name) }

// Full is the kind with its group, which no other has: "service.serving.knative.dev".
func (k Kind) Full() string { return strings.TrimSuffix(k.Singular()+"."+k.Group, ".") }

// GroupVersion is the kind's apiVersion.
func (k Kind) GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: k.Group, Version: k.Version}
}
