package controller

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"knative.dev/serving/pkg/apis/serving"
)

// pods follows the pods of all Knative Services: how long each took to get
// ready, and how many seconds they and their GPUs have been there.
//
// A pod counts from when it has a node, up to when it is gone or has ended: that
// is how long its node is kept for it. What was before the controller ran is not
// counted, so its counters begin at zero, as a counter that starts anew must.
type pods struct {
	now func() time.Time
	// started is called for each pod that was seen from its creation until it was
	// ready for the first time.
	started func(service types.NamespacedName, revision string, took time.Duration)

	mu    sync.Mutex // guards all below
	known map[types.UID]*pod
	used  map[types.NamespacedName]*usage
}

// pod is one that is there.
type pod struct {
	service  types.NamespacedName
	revision string
	gpus     int64
	seen     time.Time
	starting bool      // seen since its creation, and not ready yet
	running  time.Time // since when it counts; zero: it does not
}

// usage is what a service's pods have used, but for those that are there.
type usage struct {
	pods, gpus time.Duration
	last       time.Time // when it had a pod last
}

// usageKept is how long a service's counters are told after its last pod.
const usageKept = 24 * time.Hour

func newPods(now func() time.Time, started func(types.NamespacedName, string, time.Duration)) *pods {
	return &pods{now: now, started: started, known: map[types.UID]*pod{}, used: map[types.NamespacedName]*usage{}}
}

// OnAdd is client-go's ResourceEventHandler, like OnUpdate and OnDelete.
func (p *pods) OnAdd(obj any, listed bool) {
	if o, ok := obj.(*corev1.Pod); ok {
		p.see(o, !listed)
	}
}

// OnUpdate is told of a pod that changed.
func (p *pods) OnUpdate(_, obj any) {
	if o, ok := obj.(*corev1.Pod); ok {
		p.see(o, false)
	}
}

// OnDelete is told of a pod that has gone, or that was gone when pods were
// listed anew.
func (p *pods) OnDelete(obj any) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	if o, ok := obj.(*corev1.Pod); ok {
		p.gone(o.UID)
	}
}

// see takes a pod as it is now; created: it was not there before.
func (p *pods) see(o *corev1.Pod, created bool) {
	now := p.now()
	p.mu.Lock()
	is := p.known[o.UID]
	if is == nil {
		is = &pod{
			service:  types.NamespacedName{Namespace: o.Namespace, Name: o.Labels[serving.ServiceLabelKey]},
			revision: o.Labels[serving.RevisionLabelKey], gpus: gpus(o), seen: now, starting: created,
		}
		p.known[o.UID] = is
	}
	ended := o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed
	switch {
	case ended:
		p.stop(is, now)
	case o.Spec.NodeName != "" && is.running.IsZero():
		is.running = now
	}
	ready, took := readyAt(o), time.Duration(0)
	if is.starting && !ready.IsZero() {
		is.starting = false
		// The API server's times are whole seconds; what was seen is finer, and
		// too short where a watch was behind.
		took = max(now.Sub(is.seen), ready.Sub(o.CreationTimestamp.Time))
	}
	p.mu.Unlock()
	if took > 0 {
		p.started(is.service, is.revision, took)
	}
}

func (p *pods) gone(id types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if is := p.known[id]; is != nil {
		p.stop(is, p.now())
		delete(p.known, id)
	}
}

// stop counts what a pod has used. p.mu is held.
func (p *pods) stop(is *pod, now time.Time) {
	if is.running.IsZero() {
		return
	}
	u := p.used[is.service]
	if u == nil {
		u = &usage{}
		p.used[is.service] = u
	}
	u.add(is, now)
	is.running = time.Time{}
}

func (u *usage) add(is *pod, now time.Time) {
	ran := max(now.Sub(is.running), 0)
	u.pods += ran
	u.gpus += ran * time.Duration(is.gpus)
	u.last = now
}

// totals are the seconds up to now, those of pods that are there included.
func (p *pods) totals() map[types.NamespacedName]usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	all := map[types.NamespacedName]usage{}
	for service, u := range p.used {
		all[service] = *u
	}
	for _, is := range p.known {
		if !is.running.IsZero() {
			u := all[is.service]
			u.add(is, now)
			all[is.service] = u
		}
	}
	for service, u := range all {
		if now.Sub(u.last) > usageKept {
			delete(p.used, service)
			delete(all, service)
		}
	}
	return all
}

var (
	podSeconds = prometheus.NewDesc("aisle_pod_seconds_total",
		"Seconds that pods of a Knative Service had a node, added up over its pods; counted while the controller runs.", ofService, nil)
	gpuSeconds = prometheus.NewDesc("aisle_gpu_seconds_total",
		"The same, times the GPUs that each pod asks for.", ofService, nil)
)

// Describe is prometheus.Collector's.
func (p *pods) Describe(ch chan<- *prometheus.Desc) {
	ch <- podSeconds
	ch <- gpuSeconds
}

// Collect is prometheus.Collector's.
func (p *pods) Collect(ch chan<- prometheus.Metric) {
	for service, u := range p.totals() {
		ch <- prometheus.MustNewConstMetric(podSeconds, prometheus.CounterValue, u.pods.Seconds(), service.Namespace, service.Name)
		ch <- prometheus.MustNewConstMetric(gpuSeconds, prometheus.CounterValue, u.gpus.Seconds(), service.Namespace, service.Name)
	}
}

// readyAt is when a pod got ready; zero: it is not.
func readyAt(o *corev1.Pod) time.Time {
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// gpus is what a pod asks for of resources that are called some vendor's gpu.
func gpus(o *corev1.Pod) int64 {
	var n int64
	for _, c := range o.Spec.Containers {
		for name, quantity := range c.Resources.Limits {
			if strings.HasSuffix(string(name), "/gpu") {
				n += quantity.Value()
			}
		}
	}
	return n
}

// stripPod leaves of a pod what is read here: it is all that the cache keeps.
func stripPod(obj any) (any, error) {
	o, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	s := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: o.Name, Namespace: o.Namespace, UID: o.UID, ResourceVersion: o.ResourceVersion, CreationTimestamp: o.CreationTimestamp,
		Labels: map[string]string{serving.ServiceLabelKey: o.Labels[serving.ServiceLabelKey], serving.RevisionLabelKey: o.Labels[serving.RevisionLabelKey]},
	}}
	s.Spec.NodeName = o.Spec.NodeName
	s.Status.Phase = o.Status.Phase
	for _, c := range o.Spec.Containers {
		if limits := c.Resources.Limits; gpus(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{c}}}) > 0 {
			s.Spec.Containers = append(s.Spec.Containers, corev1.Container{Resources: corev1.ResourceRequirements{Limits: limits}})
		}
	}
	if i := slices.IndexFunc(o.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady }); i >= 0 {
		c := o.Status.Conditions[i]
		s.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime}}
	}
	return s, nil
}
