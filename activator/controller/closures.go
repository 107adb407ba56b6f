package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/scaling"
)

// The ConfigMap that tells a namespace's composer when services are closed. It
// is written ahead, so that it does not matter when kubelet brings it to a pod.
const (
	closuresName = "aisle-closures"
	closuresKey  = "closures.json"
	// closuresAhead is how far ahead it tells, and closuresRenewed how often it is
	// computed anew though no schedule has changed.
	closuresAhead   = 14 * 24 * time.Hour
	closuresRenewed = time.Hour
	// maxClosures are told of a service, and maxServices of a namespace: what a
	// ConfigMap holds (1 MiB).
	maxClosures = 64
	maxServices = 250
	// maxLooks are at the changes of a service's windows: more than one every ten
	// minutes is nobody's schedule, and may not keep other namespaces waiting.
	maxLooks = 2_000

	managedBy = "app.kubernetes.io/managed-by"
	ourName   = "aisle-controller"
)

// A closure is from when and up to when a service is closed.
type closure [2]time.Time

// closuresReconciler writes the closures of namespaces; a request names one.
type closuresReconciler struct {
	client client.Client // reads ConfigMaps from the API server, all else from the cache
	now    func() time.Time
}

// Reconcile makes a namespace's ConfigMap say what its schedules do.
func (r *closuresReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	namespace := req.Name
	var all scaling.ScalingScheduleList
	if err := r.client.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return reconcile.Result{}, fmt.Errorf("list schedules: %w", err)
	}
	said, err := closures(namespace, all.Items, r.now().Round(0))
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := r.write(ctx, namespace, said); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
			return reconcile.Result{RequeueAfter: 10 * time.Millisecond}, nil
		}
		return reconcile.Result{}, fmt.Errorf("ConfigMap %s/%s: %w", namespace, closuresName, err)
	}
	if said == nil {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: closuresRenewed}, nil
}

// closures are when services of a namespace are closed from this hour on, as JSON
// by NAMESPACE/SERVICE: a composer need not know its own namespace. nil where no
// schedule closes any.
func closures(namespace string, all []scaling.ScalingSchedule, now time.Time) ([]byte, error) {
	services := map[string][]*scaling.ScalingSchedule{}
	for i := range all {
		services[all[i].Spec.Service] = append(services[all[i].Spec.Service], &all[i])
	}
	maps.DeleteFunc(services, func(_ string, of []*scaling.ScalingSchedule) bool { return !slices.ContainsFunc(of, closes) })
	if len(services) == 0 {
		return nil, nil
	}
	if len(services) > maxServices {
		return nil, fmt.Errorf("%d services have schedules that close them, of which a namespace may have %d", len(services), maxServices)
	}
	// By the hour, so that within one the same schedules say the same.
	from := now.Truncate(closuresRenewed)
	said := map[string][]closure{}
	for name, of := range services {
		// What cannot be used is told of in that schedule's own status.
		usable := slices.DeleteFunc(compiled(of, map[string]error{}, now), func(s *schedule.Schedule) bool {
			return !slices.ContainsFunc(of, func(o *scaling.ScalingSchedule) bool { return o.Name == s.Name() && closes(o) })
		})
		spans := closed(usable, from, from.Add(closuresAhead))
		if spans != nil {
			said[namespace+"/"+name] = spans
		}
	}
	return json.Marshal(said)
}

// closed are the first closures from one time up to another.
func closed(schedules []*schedule.Schedule, from, to time.Time) []closure {
	var spans []closure
	for looks := 0; looks < maxLooks && from.Before(to) && len(spans) < maxClosures; looks++ {
		b, next := schedule.At(schedule.Base{}, 0, schedules, from)
		if b.Closed {
			next = b.Opens // past all windows that keep it closed one after the other
		}
		if next.IsZero() || next.After(to) {
			next = to
		}
		if b.Closed {
			spans = append(spans, closure{from, next})
		}
		from = next
	}
	return spans
}

// closes says whether a schedule that stays has a window that closes its service.
func closes(o *scaling.ScalingSchedule) bool {
	closed := func(w scaling.Window) bool { return w.Closed }
	return o.DeletionTimestamp.IsZero() && (slices.ContainsFunc(o.Spec.Windows, closed) ||
		slices.ContainsFunc(o.Spec.Exceptions, func(e scaling.Exception) bool { return slices.ContainsFunc(e.Windows, closed) }))
}

// write makes the ConfigMap say it; nil: there is to be none.
func (r *closuresReconciler) write(ctx context.Context, namespace string, said []byte) error {
	m := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: closuresName}}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(&m), &m)
	switch {
	case apierrors.IsNotFound(err) && said == nil:
		return nil
	case apierrors.IsNotFound(err):
		m.Labels = map[string]string{managedBy: ourName}
		m.Data = map[string]string{closuresKey: string(said)}
		return r.client.Create(ctx, &m)
	case err != nil:
		return err
	case m.Labels[managedBy] != ourName:
		return fmt.Errorf("it is not ours (label %s: %q); rename it, or delete it", managedBy, m.Labels[managedBy])
	case said == nil:
		return client.IgnoreNotFound(r.client.Delete(ctx, &m))
	case m.Data[closuresKey] == string(said):
		return nil
	}
	m.Data = map[string]string{closuresKey: string(said)}
	return r.client.Update(ctx, &m)
}
