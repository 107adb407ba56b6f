package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"aisle.dev/aisle/internal/scaling"
)

// finalizer keeps a schedule until Revisions have what was found on them.
const finalizer = "scaling.aisle.dev/restore"

// longestSleep bounds how late a change can be where the clock jumps or the
// machine is suspended: timers run by a clock that shows neither. To look again
// reads the cache and asks the API server nothing.
const longestSleep = time.Minute

// reconciler sets the bounds of services; a request names one.
type reconciler struct {
	client  client.Client // reads from the cache
	live    client.Reader // asks the API server
	events  events.EventRecorder
	leads   *leads
	metrics *metrics
	log     *slog.Logger
	now     func() time.Time
}

// Reconcile makes the bounds hold that the service's schedules ask for now.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	service := req.NamespacedName
	var schedules scaling.ScalingScheduleList
	if err := r.client.List(ctx, &schedules, client.InNamespace(service.Namespace), client.MatchingFields{byService: service.Name}); err != nil {
		return reconcile.Result{}, fmt.Errorf("list schedules: %w", err)
	}
	if len(schedules.Items) == 0 {
		r.leads.forget(service)
		r.metrics.forget(service)
		return reconcile.Result{}, nil
	}
	var own []*scaling.ScalingSchedule
	for i := range schedules.Items {
		own = append(own, &schedules.Items[i])
	}
	r.leads.recall(service, own)
	now := r.now().Round(0)
	p, err := r.settle(ctx, service, own, now)
	switch {
	case apierrors.IsConflict(err):
		return reconcile.Result{RequeueAfter: 10 * time.Millisecond}, nil // somebody wrote meanwhile: look again
	case err != nil:
		r.metrics.errors.WithLabelValues(service.Namespace, service.Name).Inc()
		return reconcile.Result{}, err
	}
	r.metrics.hold(service, p)
	sleep := longestSleep
	if !p.next.IsZero() {
		sleep = min(sleep, max(p.next.Sub(r.now()), time.Millisecond))
	}
	return reconcile.Result{RequeueAfter: sleep}, nil
}

// settle decides by the cache. Where that is to do something it decides again by
// what the API server has: the cache may not know yet what was done a moment ago,
// and what it takes for found could be what was set.
func (r *reconciler) settle(ctx context.Context, service types.NamespacedName, schedules []*scaling.ScalingSchedule, now time.Time) (plan, error) {
	learned := r.leads.of(service)
	v, err := r.look(ctx, r.client, service, schedules)
	if err != nil {
		return plan{}, err
	}
	p := decide(v, learned, now)
	if !acts(v, p) {
		return p, r.say(ctx, v, p, p.keep, nil, now)
	}
	if v.schedules, err = again(ctx, r.live, v.schedules); err != nil {
		return p, err
	}
	if v, err = r.look(ctx, r.live, service, v.schedules); err != nil {
		return p, err
	}
	p = decide(v, learned, now)
	if err := r.prepare(ctx, v, p); err != nil {
		return p, err
	}
	if err := r.carryOut(ctx, v, p); err != nil {
		if apierrors.IsConflict(err) {
			return p, err
		}
		return p, errors.Join(err, r.say(ctx, v, p, p.hold, err, now))
	}
	if err := r.say(ctx, v, p, p.keep, nil, now); err != nil {
		return p, err
	}
	return p, r.release(ctx, v)
}

// look reads the service, which the cache has, and the Revisions that matter:
// those that get requests, and those that something was found on.
func (r *reconciler) look(ctx context.Context, from client.Reader, name types.NamespacedName, schedules []*scaling.ScalingSchedule) (view, error) {
	v := view{schedules: schedules, revisions: map[string]*metav1.PartialObjectMetadata{}, podless: map[string]bool{}}
	var names []string
	var service servingv1.Service
	switch err := r.client.Get(ctx, name, &service); {
	case err == nil:
		v.service = &service
		for _, t := range service.Status.Traffic {
			names = append(names, t.RevisionName)
		}
	case !apierrors.IsNotFound(err):
		return v, fmt.Errorf("read service %s: %w", name, err)
	}
	for _, s := range schedules {
		for _, f := range s.Status.Found {
			names = append(names, f.Revision)
		}
	}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		rev := newRevision()
		switch err := from.Get(ctx, types.NamespacedName{Namespace: name.Namespace, Name: n}, rev); {
		case err == nil:
			v.revisions[n] = rev
			if v.podless[n], err = r.podless(ctx, rev); err != nil {
				return v, err
			}
		case !apierrors.IsNotFound(err):
			return v, fmt.Errorf("read revision %s: %w", n, err)
		}
	}
	return v, nil
}

// podless is whether a Revision that began at zero has no pod now.
func (r *reconciler) podless(ctx context.Context, rev *metav1.PartialObjectMetadata) (bool, error) {
	if _, initial, _ := autoscaling.InitialScaleAnnotation.Get(rev.Annotations); initial != "0" {
		return false, nil
	}
	var pods corev1.PodList
	err := r.client.List(ctx, &pods, client.InNamespace(rev.Namespace), client.MatchingLabels{serving.RevisionLabelKey: rev.Name}, client.Limit(1))
	if err != nil {
		return false, fmt.Errorf("list pods of revision %s: %w", rev.Name, err)
	}
	return len(pods.Items) == 0, nil
}

// again reads schedules anew. One that is gone, or another of its name, is left
// out: its event comes.
func again(ctx context.Context, from client.Reader, schedules []*scaling.ScalingSchedule) ([]*scaling.ScalingSchedule, error) {
	var all []*scaling.ScalingSchedule
	for _, s := range schedules {
		var is scaling.ScalingSchedule
		switch err := from.Get(ctx, client.ObjectKeyFromObject(s), &is); {
		case err == nil && is.Spec.Service == s.Spec.Service:
			all = append(all, &is)
		case err != nil && !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("read schedule %s: %w", s.Name, err)
		}
	}
	return all, nil
}

// acts says whether a plan is more than what is said of it in status.
func acts(v view, p plan) bool {
	return len(p.changes) > 0 || slices.ContainsFunc(v.schedules, func(s *scaling.ScalingSchedule) bool {
		if !s.DeletionTimestamp.IsZero() {
			return controllerutil.ContainsFinalizer(s, finalizer)
		}
		return !controllerutil.ContainsFinalizer(s, finalizer) || !equality.Semantic.DeepEqual(s.Status.Found, p.keep)
	})
}

// prepare writes down what was found before anything is changed, in every
// schedule that stays: one of them may be deleted and the others still know it.
func (r *reconciler) prepare(ctx context.Context, v view, p plan) error {
	for _, s := range v.schedules {
		if !s.DeletionTimestamp.IsZero() {
			continue
		}
		was := s.DeepCopy()
		if controllerutil.AddFinalizer(s, finalizer) {
			if err := r.client.Patch(ctx, s, locked(was)); err != nil {
				return fmt.Errorf("schedule %s: add finalizer: %w", s.Name, err)
			}
			was = s.DeepCopy()
		}
		if equality.Semantic.DeepEqual(s.Status.Found, p.hold) {
			continue
		}
		s.Status.Found = p.hold
		if err := r.client.Status().Patch(ctx, s, locked(was)); err != nil {
			return fmt.Errorf("schedule %s: write down what was found: %w", s.Name, err)
		}
	}
	return nil
}

// locked patches an object only as long as nobody else has written it.
func locked(was client.Object) client.Patch {
	return client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})
}

// carryOut patches the Revisions.
func (r *reconciler) carryOut(ctx context.Context, v view, p plan) error {
	for _, c := range p.changes {
		switch err := r.change(ctx, v, c); {
		case apierrors.IsNotFound(err): // it went; what was found goes with the next look
		case err != nil:
			if !apierrors.IsConflict(err) {
				r.tell(v, "Warning", "BoundsNotSet", "revision %s: %v", c.revision.Name, err)
			}
			return err
		default:
			r.changed(v, c)
		}
	}
	return nil
}

// change patches a Revision. Its first patch is refused where somebody has
// written it since it was read. Mostly that is Knative, of its status: then what
// was found is still right, and it is tried again.
func (r *reconciler) change(ctx context.Context, v view, c change) error {
	rev := c.revision.DeepCopy()
	for tries := 0; ; tries++ {
		version := ""
		if c.taken != nil {
			version = rev.ResourceVersion
		}
		data, err := c.set.patch(version)
		if err != nil {
			return err
		}
		err = r.client.Patch(ctx, rev, client.RawPatch(types.MergePatchType, data))
		if c.taken == nil || !apierrors.IsConflict(err) || tries == 5 {
			if err != nil {
				return fmt.Errorf("patch revision %s: %w", c.revision.Name, err)
			}
			return nil
		}
		rev = newRevision()
		if err := r.live.Get(ctx, client.ObjectKeyFromObject(c.revision), rev); err != nil {
			return err
		}
		if foundOn(rev) != *c.taken {
			return errors.Join(err, r.disown(ctx, v, *c.taken))
		}
	}
}

// disown takes back that something was found on a Revision, since it is that no
// more and the Revision was not patched.
func (r *reconciler) disown(ctx context.Context, v view, f scaling.Found) error {
	for _, s := range v.schedules {
		was := s.DeepCopy()
		s.Status.Found = slices.DeleteFunc(s.Status.Found, func(o scaling.Found) bool { return o == f })
		if len(s.Status.Found) == len(was.Status.Found) {
			continue
		}
		if err := r.client.Status().Patch(ctx, s, locked(was)); err != nil {
			return err
		}
	}
	return nil
}

// changed tells of a change that was made.
func (r *reconciler) changed(v view, c change) {
	var set []string
	for _, key := range slices.Sorted(maps.Keys(c.set)) {
		value := "removed"
		if c.set[key] != nil {
			value = *c.set[key]
		}
		set = append(set, strings.TrimPrefix(key, autoscaling.GroupName+"/")+" "+value)
	}
	bounds := strings.Join(set, ", ")
	r.tell(v, "Normal", "BoundsSet", "revision %s: %s, because %s", c.revision.Name, bounds, c.why)
	name := v.schedules[0].Spec.Service
	r.metrics.changes.WithLabelValues(c.revision.Namespace, name).Inc()
	r.log.Info("bounds set", "namespace", c.revision.Namespace, "service", name, "revision", c.revision.Name, "set", bounds, "because", c.why)
}

// tell makes an Event of the service, or of its schedules where there is none.
func (r *reconciler) tell(v view, kind, reason, note string, args ...any) {
	const most = 1000 // bytes; the API server takes 1024
	text := fmt.Sprintf(note, args...)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	if v.service != nil {
		r.events.Eventf(v.service, v.schedules[0], kind, reason, "Patch", "%s", text)
		return
	}
	for _, s := range v.schedules {
		r.events.Eventf(s, nil, kind, reason, "Patch", "%s", text)
	}
}

// say writes the status of each schedule that differs from what it says.
func (r *reconciler) say(ctx context.Context, v view, p plan, found []scaling.Found, failed error, now time.Time) error {
	for _, s := range v.schedules {
		if !s.DeletionTimestamp.IsZero() {
			continue
		}
		was := s.DeepCopy()
		s.Status = statusOf(s, p, found, failed, now)
		r.leads.keep(client.ObjectKey{Namespace: s.Namespace, Name: s.Spec.Service}, s)
		if equality.Semantic.DeepEqual(was.Status, s.Status) {
			continue
		}
		if err := r.client.Status().Patch(ctx, s, locked(was)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("schedule %s: write status: %w", s.Name, err)
		}
	}
	return nil
}

// release lets go of schedules that were deleted.
func (r *reconciler) release(ctx context.Context, v view) error {
	for _, s := range v.schedules {
		was := s.DeepCopy()
		if s.DeletionTimestamp.IsZero() || !controllerutil.RemoveFinalizer(s, finalizer) {
			continue
		}
		if err := r.client.Patch(ctx, s, locked(was)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("schedule %s: remove finalizer: %w", s.Name, err)
		}
	}
	return nil
}
