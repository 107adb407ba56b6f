// Package manifest reads Knative manifests for one machine.
//
// [Build] and [Read] give the objects of a kustomize folder and of a file as
// they are written. [Check] turns such objects into what Kubernetes would keep
// of them: of their own types, defaulted and validated by Knative's own code
// under the settings at hand (config-autoscaler, config-defaults,
// config-features, config-gc). [Load] does both. [Sources.Reduce] is a step of
// its own, since old Revisions are reduced again whenever what they refer to
// has changed: it gives what a process needs to be a pod of a Revision.
//
// Guarantees:
//   - Every field of a Service is honoured, or listed in [Set].Ignored with the
//     reason, or refused with its path. The rules are one table, and a test
//     walks Knative's and Kubernetes' types to see that it has them all.
//   - An unknown field is an error with its path, and with the name that was
//     probably meant.
//   - All that is wrong is reported at once, as [*Invalid].
//   - Nothing is fetched, run or written: no remote bases, no plug-ins. Files
//     are read below one root, and their number, size and depth are bounded.
//   - The same objects give the same Set, in the same order.
//
// An image reference ko://IMPORT/PATH/NAME runs bin/NAME. What runs in place of
// any other image is said in an [ImageMap]: images.yaml, beside the
// kustomization and not among its resources.
//
//	apiVersion: aisle.dev/v1alpha1
//	kind: ImageMap
//	images:
//	  - image: registry.example/team/scorer:1.2
//	    command: [/usr/bin/python3, scorer/serve.py] # relative to the project's root
//	    env: # before what the Service declares, as the image's own would be
//	      - {name: PYTHONUNBUFFERED, value: "1"}
//
// Non-goals: running anything, remembering what was there before, and the
// insides of Brokers, Triggers and PingSources, which go through as they are
// (activator/broker knows them), and what a ScalingSchedule's fields mean
// (activator/schedule does).
package manifest

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/scaling"
)

// Object is an object of Kubernetes'.
type Object interface {
	runtime.Object
	metav1.Object
}

// Set is valid objects, those of a kind by namespace and name.
type Set struct {
	Services   []*servingv1.Service // their images as written: ko://..., too
	ConfigMaps []*corev1.ConfigMap  // Knative's own too, in the namespace knative-serving
	Secrets    []*corev1.Secret
	ImageMaps  []*ImageMap
	Schedules  []*scaling.ScalingSchedule   // their shape alone was looked at
	Events     []*unstructured.Unstructured // Brokers, Triggers and PingSources: not looked into
	Settings   *Settings                    // out of the ConfigMaps
	Ignored    []Ignored
}

// Ignored is a field or an object that means nothing on one machine.
type Ignored struct {
	Object string // "Service default/title"
	Path   string // "spec.template.spec.containers[0].resources"; empty for a whole object
	Reason string
}

// Objects are the set's objects in an order in which each finds what it refers
// to when they are applied one after the other.
func (s *Set) Objects() []Object {
	var all []Object
	for _, o := range s.ConfigMaps {
		all = append(all, o)
	}
	for _, o := range s.Secrets {
		all = append(all, o)
	}
	for _, o := range s.ImageMaps {
		all = append(all, o)
	}
	for _, o := range s.Services {
		all = append(all, o)
	}
	for _, o := range s.Schedules {
		all = append(all, o)
	}
	for _, o := range s.Events {
		all = append(all, o)
	}
	return all
}

// Sources are what the set's Services may refer to.
func (s *Set) Sources() Sources {
	src := Sources{ConfigMaps: map[types.NamespacedName]*corev1.ConfigMap{}, Secrets: map[types.NamespacedName]*corev1.Secret{}, Images: s.ImageMaps}
	for _, o := range s.ConfigMaps {
		src.ConfigMaps[nameOf(o)] = o
	}
	for _, o := range s.Secrets {
		src.Secrets[nameOf(o)] = o
	}
	return src
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// byName compares objects by namespace and name.
func byName[O metav1.Object](a, b O) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}

// over puts the newer objects in the place of those of the same name.
func over[O metav1.Object](old, newer []O) []O {
	all := slices.Clone(newer)
	for _, o := range old {
		if !slices.ContainsFunc(newer, func(n O) bool { return nameOf(n) == nameOf(o) }) {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, byName)
	return all
}
