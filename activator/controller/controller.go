// Package controller makes ScalingSchedules hold in a cluster: it sets the
// bounds of Knative Services on their live Revisions, by the clock.
//
// What holds:
//   - Bounds are the annotations min-scale and max-scale of the Revision with the
//     largest share of the Service's traffic (among equals the newest), set in one
//     patch. Knative (1.21 and later) carries them to its autoscaler at once, with
//     no new Revision and no pod started anew. Nothing else of a Revision is
//     touched: that would roll its pods.
//   - What was found on a Revision is written into the status of the Service's
//     schedules before the Revision is patched, and given back when no window
//     holds, when requests go to another Revision, and when the last schedule
//     expires or is deleted (a finalizer waits for that). Killed anywhere, it goes
//     on from there: bounds are computed anew from what is declared and what was
//     found, never from what was set.
//   - Between changes nothing is asked of the API server. Each service is looked
//     at again when its bounds change by the clock, when an object does, and once
//     a minute, for clocks that jump.
//   - A closed service keeps no pods, and the namespace's ConfigMap
//     aisle-closures says so, up to two weeks ahead, to who asks services: a
//     composer. Nothing here refuses requests.
//   - One replica acts at a time (leader election).
//
// What Knative makes of it: a Revision that began at zero (initial-scale 0) and
// has never had a pod gets no pod by a floor until its first request, since the
// autoscaler has no figures of it (kpa/scaler.go, desiredScale < 0). The
// condition NotEnforced says so while it has no pod.
//
// It decides nothing of what windows mean (activator/schedule), starts no pods,
// and does not look at what kind of service it is.
package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"aisle.dev/aisle/internal/scaling"
)

// Options say how a controller runs.
type Options struct {
	// Metrics and Probes are the addresses of /metrics, and of /healthz and
	// /readyz; "0": none.
	Metrics, Probes string
	// LeaderNamespace is where replicas agree on who acts; empty: there is one.
	LeaderNamespace string
	Log             *slog.Logger
	// Registry takes the controller's metrics. /metrics tells controller-runtime's.
	Registry prometheus.Registerer
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// byService is the cache's index of schedules by the service that they bound.
const byService = "spec.service"

// workers are how many services are settled at once: 1,000 whose windows begin
// at the same time wait for the API server's answers, not for each other.
const workers = 8

// New makes a controller of a cluster. It acts when it is started.
func New(cluster *rest.Config, o Options) (manager.Manager, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	// The API server's own limits are by user (priority and fairness); ones here
	// besides would make the morning's windows late.
	cluster = rest.CopyConfig(cluster)
	cluster.QPS = -1
	mgr, err := manager.New(cluster, manager.Options{
		Scheme: scheme,
		Cache:  cacheOptions(),
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.ConfigMap{}}}},
		Logger: logr.FromSlogHandler(o.Log.Handler()),
		// Several controllers may run in one process (a test's), one after the other.
		Controller:                    config.Controller{SkipNameValidation: new(true)},
		Metrics:                       server.Options{BindAddress: o.Metrics},
		HealthProbeBindAddress:        o.Probes,
		LeaderElection:                o.LeaderNamespace != "",
		LeaderElectionNamespace:       o.LeaderNamespace,
		LeaderElectionID:              ourName,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, err
	}
	if err := mgr.AddHealthzCheck("alive", healthz.Ping); err != nil {
		return nil, err
	}
	if err := mgr.AddReadyzCheck("alive", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, setUp(mgr, o)
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := servingv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	scheme.AddKnownTypes(scaling.GroupVersion, &scaling.ScalingSchedule{}, &scaling.ScalingScheduleList{})
	metav1.AddToGroupVersion(scheme, scaling.GroupVersion)
	return scheme, nil
}

// setUp adds to a manager what the controller consists of.
func setUp(mgr manager.Manager, o Options) error {
	ctx := context.Background() // of the index alone, which waits for nothing
	err := mgr.GetFieldIndexer().IndexField(ctx, &scaling.ScalingSchedule{}, byService, func(o client.Object) []string {
		return []string{o.(*scaling.ScalingSchedule).Spec.Service}
	})
	if err != nil {
		return err
	}
	m, err := newMetrics(o.Registry)
	if err != nil {
		return err
	}
	learned := make(chan event.GenericEvent, 1024)
	r := &reconciler{
		client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder(ourName),
		leads: newLeads(o.Now, o.Log), metrics: m, log: o.Log, now: o.Now,
	}
	followed := newPods(o.Now, func(service types.NamespacedName, revision string, took time.Duration) {
		if !r.leads.observe(service, revision, took) {
			return
		}
		select {
		case learned <- event.GenericEvent{Object: &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: service.Name}}}:
		default: // the next look at the service shows it
		}
	})
	if err := o.Registry.Register(followed); err != nil {
		return err
	}
	// As all that is added so, it runs on the one replica that acts: two would
	// count each pod twice.
	err = mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		informer, err := mgr.GetCache().GetInformer(ctx, &corev1.Pod{})
		if err != nil {
			return fmt.Errorf("follow pods: %w", err)
		}
		_, err = informer.AddEventHandler(followed)
		return err
	}))
	if err != nil {
		return err
	}
	options := controller.Options{
		MaxConcurrentReconciles: workers,
		// A change that failed is due: it is tried again within a minute.
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, time.Minute),
	}
	err = builder.ControllerManagedBy(mgr).Named("bounds").WithOptions(options).
		Watches(&scaling.ScalingSchedule{}, enqueue(func(o client.Object) string { return o.(*scaling.ScalingSchedule).Spec.Service })).
		Watches(&servingv1.Service{}, enqueue(client.Object.GetName), builder.WithPredicates(predicate.Funcs{UpdateFunc: trafficMoved})).
		WatchesMetadata(newRevision(), enqueue(func(o client.Object) string { return o.GetLabels()[serving.ServiceLabelKey] }),
			builder.WithPredicates(predicate.AnnotationChangedPredicate{})).
		WatchesRawSource(source.Channel(learned, enqueue(client.Object.GetName))).
		Complete(r)
	if err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).Named("closures").
		Watches(&scaling.ScalingSchedule{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetNamespace()}}}
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(&closuresReconciler{client: mgr.GetClient(), now: o.Now})
}

// enqueue makes a request for the service that an object belongs to.
func enqueue(service func(client.Object) string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		name := service(o)
		if name == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
	})
}

func trafficMoved(e event.UpdateEvent) bool {
	was, is := e.ObjectOld.(*servingv1.Service), e.ObjectNew.(*servingv1.Service)
	shares := func(s *servingv1.Service) map[string]int64 {
		all := map[string]int64{}
		for _, t := range s.Status.Traffic {
			if t.Percent != nil {
				all[t.RevisionName] += *t.Percent
			}
		}
		return all
	}
	return !maps.Equal(shares(was), shares(is))
}

// newRevision is a Revision of which only the metadata is read.
func newRevision() *metav1.PartialObjectMetadata {
	r := &metav1.PartialObjectMetadata{}
	r.SetGroupVersionKind(servingv1.SchemeGroupVersion.WithKind("Revision"))
	return r
}

// cacheOptions keep in memory what is read, of what is listed and watched.
func cacheOptions() cache.Options {
	ofRevision, err := labels.NewRequirement(serving.RevisionLabelKey, selection.Exists, nil)
	if err != nil {
		panic(err) // of constants
	}
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&scaling.ScalingSchedule{}: {Transform: stripSchedule},
		&servingv1.Service{}:       {Transform: stripService},
		newRevision():              {Transform: stripRevision},
		&corev1.Pod{}:              {Transform: stripPod, Label: labels.NewSelector().Add(*ofRevision)},
	}}
}

func stripSchedule(obj any) (any, error) {
	if o, ok := obj.(*scaling.ScalingSchedule); ok {
		o.ManagedFields, o.Annotations = nil, nil
	}
	return obj, nil
}

func stripService(obj any) (any, error) {
	o, ok := obj.(*servingv1.Service)
	if !ok {
		return obj, nil
	}
	s := &servingv1.Service{TypeMeta: o.TypeMeta, ObjectMeta: metav1.ObjectMeta{Name: o.Name, Namespace: o.Namespace, UID: o.UID, ResourceVersion: o.ResourceVersion}}
	for _, t := range o.Status.Traffic {
		s.Status.Traffic = append(s.Status.Traffic, servingv1.TrafficTarget{RevisionName: t.RevisionName, Percent: t.Percent})
	}
	return s, nil
}

func stripRevision(obj any) (any, error) {
	o, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj, nil
	}
	s := newRevision()
	s.ObjectMeta = metav1.ObjectMeta{
		Name: o.Name, Namespace: o.Namespace, UID: o.UID, ResourceVersion: o.ResourceVersion, CreationTimestamp: o.CreationTimestamp,
		Labels: map[string]string{serving.ServiceLabelKey: o.Labels[serving.ServiceLabelKey], serving.ConfigurationGenerationLabelKey: o.Labels[serving.ConfigurationGenerationLabelKey]},
	}
	// Others of Knative's change with routes: who watches is told of these alone.
	for _, key := range slices.Concat(autoscaling.MinScaleAnnotation, autoscaling.MaxScaleAnnotation, autoscaling.InitialScaleAnnotation) {
		if value, ok := o.Annotations[key]; ok {
			metav1.SetMetaDataAnnotation(&s.ObjectMeta, key, value)
		}
	}
	return s, nil
}
