// Package objects keeps the engine's Kubernetes objects: in memory for who
// asks, on disk for the next engine, and for a while as a history for who
// watches.
//
// It guarantees that
//   - what [Store.Write] has returned for is on disk, each object whole: a crash
//     leaves the old one or the new one;
//   - an object that it has given out is never changed: who changes one
//     replaces it;
//   - resource versions only grow, over restarts too, so that a watcher that
//     has missed something is told so ([ErrTooOld]) and never left behind;
//   - it is bounded: in the number of objects, their sizes, and the history.
//
// It neither understands nor checks objects (internal/manifest does), and a
// write is of one writer at a time: two that read, change and write the same
// object must agree between themselves.
package objects

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/manifest"
	"aisle.dev/aisle/internal/scaling"
)

// Resource is one kind of objects.
type Resource struct {
	schema.GroupVersionResource
	Kind string
	// Live objects say what runs now. They are not on disk.
	Live bool
	// Made objects are the engine's own; nobody applies them.
	Made bool
	new  func() manifest.Object
}

// The resources that there are.
var (
	Services    = Resource{GroupVersionResource: servingv1.SchemeGroupVersion.WithResource("services"), Kind: "Service", new: func() manifest.Object { return new(servingv1.Service) }}
	Revisions   = Resource{GroupVersionResource: servingv1.SchemeGroupVersion.WithResource("revisions"), Kind: "Revision", Made: true, new: func() manifest.Object { return new(servingv1.Revision) }}
	ConfigMaps  = Resource{GroupVersionResource: corev1.SchemeGroupVersion.WithResource("configmaps"), Kind: "ConfigMap", new: func() manifest.Object { return new(corev1.ConfigMap) }}
	Secrets     = Resource{GroupVersionResource: corev1.SchemeGroupVersion.WithResource("secrets"), Kind: "Secret", new: func() manifest.Object { return new(corev1.Secret) }}
	Pods        = Resource{GroupVersionResource: corev1.SchemeGroupVersion.WithResource("pods"), Kind: "Pod", Live: true, Made: true, new: func() manifest.Object { return new(corev1.Pod) }}
	Schedules   = Resource{GroupVersionResource: scaling.GroupVersion.WithResource(scaling.Resource), Kind: scaling.Kind, new: func() manifest.Object { return new(scaling.ScalingSchedule) }}
	Brokers     = raw("eventing.knative.dev", "brokers", "Broker")
	Triggers    = raw("eventing.knative.dev", "triggers", "Trigger")
	PingSources = raw("sources.knative.dev", "pingsources", "PingSource")
	ImageMaps   = Resource{GroupVersionResource: schema.GroupVersionResource{Group: "aisle.dev", Version: "v1alpha1", Resource: "imagemaps"}, Kind: "ImageMap", new: func() manifest.Object { return new(manifest.ImageMap) }}

	// All is in the order in which objects find what they refer to.
	All = []Resource{ConfigMaps, Secrets, ImageMaps, Services, Revisions, Pods, Schedules, Brokers, Triggers, PingSources}
)

func raw(group, plural, kind string) Resource {
	return Resource{GroupVersionResource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: plural}, Kind: kind, new: func() manifest.Object { return new(unstructured.Unstructured) }}
}

// ResourceOf is the resource of an object's kind.
func ResourceOf(o manifest.Object) (Resource, bool) {
	gvk := o.GetObjectKind().GroupVersionKind()
	for _, r := range All {
		if r.Kind == gvk.Kind && r.GroupVersion() == gvk.GroupVersion() {
			return r, true
		}
	}
	return Resource{}, false
}

// Key is which object is meant.
type Key struct {
	schema.GroupVersionResource
	Namespace, Name string
}

// Key is that of one of the resource's objects.
func (r Resource) Key(namespace, name string) Key {
	return Key{r.GroupVersionResource, namespace, name}
}

// KeyOf is an object's key. Its kind must be a known one.
func KeyOf(o manifest.Object) Key {
	r, ok := ResourceOf(o)
	if !ok {
		panic(fmt.Sprintf("objects: of an unknown kind: %v", o.GetObjectKind().GroupVersionKind()))
	}
	return r.Key(o.GetNamespace(), o.GetName())
}

func (k Key) String() string { return k.GroupResource().String() + " " + k.Namespace + "/" + k.Name }

// Bounds of what is kept.
const (
	MaxObjects = 20_000
	MaxBytes   = 4 << 20 // of one object
	MaxHistory = 512     // changes that a watcher may have missed
)

// ErrTooOld means that the history no longer has what came after a version:
// list anew.
var ErrTooOld = errors.New("the resource version is too old")

// Origin is where an object comes from, as far as the next start must know.
type Origin struct {
	// Folder is the digest of what the folder of `aisle up` said of the object
	// when it was applied from there last; empty for an object that never was.
	Folder string `json:"folder,omitempty"`
	// Orphan is an object that the folder no longer has, and that a Revision
	// still needs.
	Orphan bool `json:"orphan,omitempty"`
}

type record struct {
	Origin
	object manifest.Object
}

// Event is one change.
type Event struct {
	Type    Type
	Key     Key
	Object  manifest.Object // after the change; of a deletion what was there last
	Before  manifest.Object // what was there; nil where nothing was
	version int64
}

// Type is of a change, as watches call it.
type Type string

// The types.
const (
	Added    Type = "ADDED"
	Modified Type = "MODIFIED"
	Deleted  Type = "DELETED"
)

// Store keeps objects.
type Store struct {
	dir string

	writing sync.Mutex // held while files are written; taken before mu

	mu      sync.Mutex // guards what follows; a leaf: nothing is called or written under it
	records map[Key]record
	version int64
	history []Event       // the newest last
	begin   int64         // the history has all that came after this version
	changed chan struct{} // closed, and replaced, at every change
}

// Change is to put an object, or with Object nil to delete it.
type Change struct {
	Key    Key
	Object manifest.Object
	Origin Origin
}

// Put is the change that keeps an object. Its origin stays what it was.
func (s *Store) Put(o manifest.Object) Change {
	k := KeyOf(o)
	origin, _ := s.Origin(k)
	return Change{k, o, origin}
}

// Get gives an object, or nil.
func (s *Store) Get(k Key) manifest.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[k].object
}

// Origin gives where an object comes from; false: it is not there.
func (s *Store) Origin(k Key) (Origin, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[k]
	return r.Origin, ok
}

// List gives a resource's objects by namespace and name, of all namespaces if
// namespace is empty, and the version from which on to watch.
func (s *Store) List(r Resource, namespace string) ([]manifest.Object, int64) {
	s.mu.Lock()
	var all []manifest.Object
	for k, rec := range s.records {
		if k.GroupVersionResource == r.GroupVersionResource && (namespace == "" || k.Namespace == namespace) {
			all = append(all, rec.object)
		}
	}
	version := s.version
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b manifest.Object) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return all, version
}

// Keys are those of all objects, in no order.
func (s *Store) Keys() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.records))
}

// Since gives what has changed after a version, the version of now, and a
// channel that is closed at the next change.
func (s *Store) Since(version int64) (events []Event, now int64, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version < s.begin || version > s.version {
		return nil, 0, nil, ErrTooOld
	}
	i := len(s.history)
	for i > 0 && s.history[i-1].version > version {
		i--
	}
	return slices.Clone(s.history[i:]), s.version, s.changed, nil
}

// Write makes changes, on disk and then for all to see; it sets the objects'
// resource versions. With an error nothing is to be seen of them, and what is
// on disk is the old or the new of each object.
func (s *Store) Write(changes ...Change) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	version, left := s.version, MaxObjects-len(s.records)
	for _, c := range changes {
		if _, there := s.records[c.Key]; !there && c.Object != nil {
			left--
		}
	}
	s.mu.Unlock()
	if left < 0 {
		return fmt.Errorf("the engine keeps at most %d objects; delete some first", MaxObjects)
	}
	for _, c := range changes {
		version++
		if c.Object != nil {
			c.Object.SetResourceVersion(strconv.FormatInt(version, 10))
		}
	}
	if err := s.save(changes); err != nil {
		return fmt.Errorf("keep objects: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		s.apply(c)
	}
	return nil
}

// Show makes changes for all to see and for no disk: of Live objects, and of
// what another engine would find out anew. Like a write it must not race with
// another change of the same object.
func (s *Store) Show(changes ...Change) {
	s.writing.Lock() // between a write's version and its being seen nothing may come
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		if c.Object != nil {
			c.Object.SetResourceVersion(strconv.FormatInt(s.version+1, 10))
		}
		s.apply(c)
	}
}

// apply makes one change seen. REQUIRES: s.mu is held.
func (s *Store) apply(c Change) {
	old, there := s.records[c.Key]
	if c.Object == nil && !there {
		s.version++
		return
	}
	s.version++
	e := Event{Key: c.Key, Object: c.Object, Before: old.object, version: s.version}
	switch {
	case c.Object == nil:
		e.Type, e.Object = Deleted, last(old.object, s.version)
		delete(s.records, c.Key)
	case there:
		e.Type = Modified
		s.records[c.Key] = record{c.Origin, c.Object}
	default:
		e.Type = Added
		s.records[c.Key] = record{c.Origin, c.Object}
	}
	if len(s.history) == MaxHistory {
		s.begin = s.history[0].version
		s.history = append(s.history[:0], s.history[1:]...)
	}
	s.history = append(s.history, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

// last is an object as it is told of when it goes.
func last(o manifest.Object, version int64) manifest.Object {
	o = o.DeepCopyObject().(manifest.Object)
	o.SetResourceVersion(strconv.FormatInt(version, 10))
	return o
}

// Among is the change as who sees some objects alone is told of it: one that
// is no longer among them is deleted, as Kubernetes has it. False: it is none
// of theirs.
func (e Event) Among(seen func(manifest.Object) bool) (Event, bool) {
	was, is := e.Before != nil && seen(e.Before), e.Type != Deleted && seen(e.Object)
	switch {
	case was && is:
		e.Type = Modified
	case is:
		e.Type = Added
	case was && e.Type != Deleted:
		e.Type, e.Object = Deleted, last(e.Before, e.version)
	}
	return e, was || is
}

// first is a version that no earlier engine can have given out: time goes on
// faster than objects change.
func first(largest int64, now time.Time) int64 { return max(largest+1, now.UnixMicro()) }
