package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/activator/engine/kube"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/internal/manifest"
	"aisle.dev/aisle/internal/scaling"
)

// Apply implements [kube.Backend]: it takes an object as it is written, in the
// place of the one of its name, and makes what it describes run. What is wrong
// with it is a [*manifest.Invalid].
func (c *control) Apply(by access.Caller, raw *unstructured.Unstructured, dry bool) (made manifest.Object, created bool, warnings []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apply(raw, dry, audit.Entry{Way: by.Way, By: by.Name, Did: "applied"})
}

// apply is Apply; cause is what is on record where that changes bounds.
// REQUIRES: c.mu is held.
func (c *control) apply(raw *unstructured.Unstructured, dry bool, cause audit.Entry) (made manifest.Object, created bool, warnings []string, err error) {
	known := c.known()
	set, err := manifest.Check([]*unstructured.Unstructured{raw}, known)
	if err != nil {
		return nil, false, nil, err
	}
	for _, i := range set.Ignored {
		warnings = append(warnings, fmt.Sprintf("%s: ignored on one machine: %s", i.Path, i.Reason))
	}
	o := set.Objects()[0]
	if event, ok := o.(*unstructured.Unstructured); ok {
		whole, ignored, err := admitEvent(event)
		if err != nil {
			return nil, false, nil, err
		}
		for _, i := range ignored {
			warnings = append(warnings, fmt.Sprintf("%s: %s", i.Path, i.Reason))
		}
		o = whole
	}
	key := objects.KeyOf(o)
	old := c.store.Get(key)
	if s, ok := o.(*scaling.ScalingSchedule); ok {
		before, _ := old.(*scaling.ScalingSchedule)
		others := c.schedules.of(types.NamespacedName{Namespace: s.Namespace, Name: s.Spec.Service})
		if _, err := admitSchedule(s, before, others, c.schedules.clock.Now()); err != nil {
			return nil, false, nil, err
		}
	}
	if err := kube.Fresh(raw, old); err != nil {
		return nil, false, nil, err
	}
	if ks, ok := o.(*servingv1.Service); ok {
		if err := c.engine.checkServices([]*servingv1.Service{ks}, append(known.Services, ks), known.Sources(), c.deciders); err != nil {
			return nil, false, nil, &manifest.Invalid{Problems: []manifest.Problem{{Object: key.String(), Reason: err.Error()}}}
		}
		if err := c.engine.machine.Lacks(); err != nil && limited(ks) {
			warnings = append(warnings, fmt.Sprintf("%s: %v", unenforced, err))
		}
	}
	made = c.engine.admit(o, old, time.Now())
	origin, _ := c.store.Origin(key)
	if dry || old != nil && !origin.Orphan && equality.Semantic.DeepEqual(old, made) {
		return made, old == nil, warnings, nil
	}
	if origin.Orphan {
		origin = objects.Origin{} // the folder has it no more: from here on it is whose who applies it
	}
	if err := c.store.Write(objects.Change{Key: key, Object: made, Origin: origin}); err != nil {
		return nil, false, nil, err
	}
	err = c.changed(key, old == nil, cause)
	return c.store.Get(key), old == nil, warnings, err
}

// Delete implements [kube.Backend].
func (c *control) Delete(by access.Caller, key objects.Key) (gone manifest.Object, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remove(key, audit.Entry{Way: by.Way, By: by.Name, Did: "deleted"})
}

// remove is Delete; cause is what is on record where that changes bounds.
// REQUIRES: c.mu is held.
func (c *control) remove(key objects.Key, cause audit.Entry) (gone manifest.Object, err error) {
	gone = c.store.Get(key)
	if gone == nil {
		return nil, nil
	}
	rev, _ := gone.(*servingv1.Revision)
	var s *service // of the revision
	if rev != nil {
		s = c.services[serviceOf(rev)]
		if rev.GetRoutingState() != servingv1.RoutingStateReserve || s != nil && s.running[rev.Name] != nil {
			return nil, fmt.Errorf("revision %s has a share of its service's requests, a tag, or pods, or is still to be proven: %w", rev.Name, kube.ErrInUse)
		}
	}
	if err := c.store.Write(objects.Change{Key: key}); err != nil {
		return nil, err
	}
	if s != nil {
		s.revisions = slices.DeleteFunc(s.revisions, func(r *servingv1.Revision) bool { return r.Name == rev.Name })
	}
	return gone, c.changed(key, true, cause)
}

// changed makes what follows from an object happen; other says that it has
// come or gone, cause what is on record of that. REQUIRES: c.mu is held.
func (c *control) changed(key objects.Key, other bool, cause audit.Entry) error {
	switch key.GroupVersionResource {
	case objects.Services.GroupVersionResource:
		err := c.follow(types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
		if other { // Triggers and PingSources may lead there
			err = errors.Join(err, c.engine.events.tell(c.store))
		}
		return err
	case objects.Revisions.GroupVersionResource:
		return c.prune()
	case objects.ConfigMaps.GroupVersionResource, objects.Secrets.GroupVersionResource, objects.ImageMaps.GroupVersionResource:
		return c.refresh()
	case objects.Schedules.GroupVersionResource:
		return c.reschedule(key, cause)
	}
	if isEvent(key) {
		return c.engine.events.apply(c.ctx, c.store)
	}
	return nil
}

// checkServices refuses Services that could not run: better now than when the
// first request waits. all are those that are there.
func (e *Engine) checkServices(some, all []*servingv1.Service, src manifest.Sources, deciders *scale.Config) error {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Namespace + "/" + s.Name
	}
	var errs []error
	for _, ks := range some {
		numbered := ks.DeepCopy()
		setStatusAnnotation(numbered, generationKey, "1")
		t, err := src.Reduce(makeRevision(numbered, time.Now()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_, err = scale.New(scale.Revision{Namespace: t.Namespace, Name: t.Revision, Annotations: t.Annotations, ContainerConcurrency: t.ContainerConcurrency}, deciders)
		for _, err := range []error{err, e.checkCommand(t), checkComposition(t, names)} {
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// checkCommand refuses a service whose program is not there: better now than
// when its first request waits.
func (e *Engine) checkCommand(t *manifest.Template) error {
	path := t.Command[0]
	if !filepath.IsAbs(path) {
		path = filepath.Join(e.opts.Root, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("service %s/%s: its image %s is the program %s, which is not there; build it first (make build)", t.Namespace, t.Service, t.Image, path)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("service %s/%s: %s is not an executable file", t.Namespace, t.Service, path)
	}
	return nil
}

// admit gives a new object what an API server gives it, and what stays of the
// one in whose place it comes.
func (e *Engine) admit(o, old manifest.Object, now time.Time) manifest.Object {
	o = o.DeepCopyObject().(manifest.Object)
	o.SetManagedFields(nil)
	o.SetOwnerReferences(nil)
	o.SetFinalizers(nil)
	o.SetDeletionTimestamp(nil)
	o.SetUID(uuid.NewUUID())
	o.SetCreationTimestamp(metav1.NewTime(now.Truncate(time.Second)))
	o.SetGeneration(1)
	o.SetResourceVersion("")
	if old != nil {
		o.SetUID(old.GetUID())
		o.SetCreationTimestamp(old.GetCreationTimestamp())
		o.SetGeneration(old.GetGeneration())
		o.SetResourceVersion(old.GetResourceVersion())
	}
	switch o := o.(type) {
	case *servingv1.Service:
		o.Status = servingv1.ServiceStatus{}
		before, _ := old.(*servingv1.Service)
		if before == nil {
			// Where an older layout of the data directory had counted so far.
			n := e.counted[o.Namespace+"/"+o.Name] + 1
			setStatusAnnotation(o, generationKey, strconv.FormatInt(n, 10))
			break
		}
		before.Status.DeepCopyInto(&o.Status)
		if !equality.Semantic.DeepEqual(before.Spec, o.Spec) {
			o.Generation++
		}
		if !equality.Semantic.DeepEqual(before.Spec.Template, o.Spec.Template) {
			setStatusAnnotation(o, generationKey, strconv.FormatInt(configurationGeneration(before)+1, 10))
		}
	case *scaling.ScalingSchedule:
		o.Status = scaling.Status{}
		if before, ok := old.(*scaling.ScalingSchedule); ok {
			before.Status.DeepCopyInto(&o.Status)
			if !equality.Semantic.DeepEqual(before.Spec, o.Spec) {
				o.Generation++
			}
		}
	case *unstructured.Unstructured:
		delete(o.Object, "status")
		if before, ok := old.(*unstructured.Unstructured); ok {
			if status, ok := before.Object["status"]; ok {
				o.Object["status"] = status
			}
			if !equality.Semantic.DeepEqual(before.Object["spec"], o.Object["spec"]) {
				o.SetGeneration(o.GetGeneration() + 1)
			}
		}
	case *corev1.ConfigMap, *corev1.Secret, *manifest.ImageMap:
		o.SetGeneration(0) // Kubernetes counts none of them
	}
	return o
}

// sync applies a folder: what it has and had not when it was last applied, and
// the end of what it had. What somebody has applied since stays as it is.
func (c *control) sync(set *manifest.Set) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	var changes []objects.Change
	there := map[objects.Key]bool{}
	for _, o := range set.Objects() {
		key := objects.KeyOf(o)
		there[key] = true
		text, err := json.Marshal(o)
		if err != nil {
			return fmt.Errorf("encode %s: %w", key, err)
		}
		sum := sha256.Sum256(text)
		digest := hex.EncodeToString(sum[:])
		if origin, ok := c.store.Origin(key); ok && origin.Folder == digest && !origin.Orphan {
			continue
		}
		old := c.store.Get(key)
		if was, ok := old.(*scaling.ScalingSchedule); ok && was.Spec.Service != o.(*scaling.ScalingSchedule).Spec.Service {
			old = nil // one of another service is another schedule
		}
		changes = append(changes, objects.Change{Key: key, Object: c.engine.admit(o, old, now), Origin: objects.Origin{Folder: digest}})
	}
	for _, key := range c.store.Keys() {
		origin, _ := c.store.Origin(key)
		switch {
		case origin.Folder == "" || there[key] || origin.Orphan:
		case key.GroupVersionResource == objects.ConfigMaps.GroupVersionResource, key.GroupVersionResource == objects.Secrets.GroupVersionResource:
			// A revision that requests still go to may need it: see prune.
			origin.Orphan = true
			changes = append(changes, objects.Change{Key: key, Object: c.store.Get(key).DeepCopyObject().(manifest.Object), Origin: origin})
		default:
			changes = append(changes, objects.Change{Key: key})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return c.store.Write(changes...)
}

// prune deletes the ConfigMaps and Secrets that the folder no longer has and no
// revision needs any more. REQUIRES: c.mu is held.
func (c *control) prune() error {
	used := map[objects.Key]bool{}
	for name, s := range c.services {
		for _, r := range s.revisions {
			configMaps, secrets := manifest.References(&r.Spec)
			for _, n := range configMaps {
				used[objects.ConfigMaps.Key(name.Namespace, n)] = true
			}
			for _, n := range secrets {
				used[objects.Secrets.Key(name.Namespace, n)] = true
			}
		}
	}
	var changes []objects.Change
	for _, key := range c.store.Keys() {
		if origin, _ := c.store.Origin(key); origin.Orphan && !used[key] {
			changes = append(changes, objects.Change{Key: key})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	if err := c.store.Write(changes...); err != nil {
		return err
	}
	return c.refresh()
}
