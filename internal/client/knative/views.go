package knative

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/autoscaling"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/client"
)

const (
	serviceLabel  = serving.ServiceLabelKey
	revisionLabel = serving.RevisionLabelKey
	queueProxy    = "queue-proxy"
)

func readyOf(all []apis.Condition) *apis.Condition { return conditionOf(all, apis.ConditionReady) }

func conditionOf(all []apis.Condition, t apis.ConditionType) *apis.Condition {
	if i := slices.IndexFunc(all, func(c apis.Condition) bool { return c.Type == t }); i >= 0 {
		return &all[i]
	}
	return nil
}

// trouble is why a condition is not true, or empty.
func trouble(c *apis.Condition) string {
	if c == nil || c.IsTrue() {
		return ""
	}
	return because(c.Reason, c.Message)
}

func because(reason, message string) string {
	if reason == "" || message == "" {
		return cmp.Or(message, reason)
	}
	return reason + ": " + message
}

// owner is a namespace and a name in it.
type owner struct{ namespace, name string }

func serviceViews(all []servingv1.Service, pods []client.Pod) []client.Service {
	var views []client.Service
	ready := map[owner]int{}
	for _, p := range pods {
		if p.Phase == "Ready" {
			ready[owner{p.Namespace, p.Service}]++
		}
	}
	for _, o := range all {
		is := readyOf(o.Status.Conditions)
		s := client.Service{
			Namespace: o.Namespace, Name: o.Name, LatestRevision: cmp.Or(o.Status.LatestReadyRevisionName, o.Status.LatestCreatedRevisionName),
			Ready: is.IsTrue() && o.Generation == o.Status.ObservedGeneration, Reason: trouble(is), Pods: ready[owner{o.Namespace, o.Name}],
			LatestCreated: o.Status.LatestCreatedRevisionName, Created: o.CreationTimestamp.Time,
		}
		if len(o.Spec.Template.Spec.Containers) > 0 {
			s.Image = o.Spec.Template.Spec.Containers[0].Image
		}
		if o.Status.URL != nil {
			s.URL = o.Status.URL.String()
		}
		if s.Reason == "" && !s.Ready {
			s.Reason = "Knative has not looked at it yet"
		}
		views = append(views, s)
	}
	slices.SortFunc(views, func(a, b client.Service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return views
}

func revisionViews(all []servingv1.Revision, scalers []autoscalingv1alpha1.PodAutoscaler, pods []client.Pod) []client.Revision {
	var views []client.Revision
	its := map[owner][]client.Pod{}
	for _, p := range pods {
		of := owner{p.Namespace, p.Revision}
		its[of] = append(its[of], p)
	}
	scaled := map[owner]*autoscalingv1alpha1.PodAutoscaler{}
	for i := range scalers {
		scaled[owner{scalers[i].Namespace, scalers[i].Name}] = &scalers[i]
	}
	for _, o := range all {
		r := client.Revision{Namespace: o.Namespace, Name: o.Name, Service: o.Labels[serviceLabel], Concurrency: -1, Waiting: -1}
		if len(o.Spec.Containers) > 0 {
			r.Image = o.Spec.Containers[0].Image
		}
		for _, s := range o.Status.ContainerStatuses {
			if len(o.Spec.Containers) > 0 && s.Name == o.Spec.Containers[0].Name && s.ImageDigest != "" {
				r.Image = s.ImageDigest
			}
		}
		for _, p := range its[owner{r.Namespace, r.Name}] {
			switch p.Phase {
			case "Ready":
				r.Ready++
			case "Draining":
				r.Draining++
			case "Ended":
			default:
				r.Starting++
			}
		}
		r.MinScale, r.MaxScale = bound(o.Annotations, autoscaling.MinScaleAnnotation.Get), bound(o.Annotations, autoscaling.MaxScaleAnnotation.Get)
		if s := scaled[owner{o.Namespace, o.Name}]; s != nil {
			wanted(&r, s)
		}
		if not := trouble(readyOf(o.Status.Conditions)); not != "" {
			r.Why = not
		}
		views = append(views, r)
	}
	slices.SortFunc(views, func(a, b client.Revision) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return views
}

// wanted is what the autoscaler wants of a revision. It says why it wants none;
// of a number it says nothing more.
func wanted(r *client.Revision, s *autoscalingv1alpha1.PodAutoscaler) {
	if n := s.Status.DesiredScale; n != nil {
		r.Want = max(0, int(*n)) // -1: it does not know yet
	}
	active := conditionOf(s.Status.Conditions, autoscalingv1alpha1.PodAutoscalerConditionActive)
	if active == nil {
		return
	}
	r.Since = active.LastTransitionTime.Inner.Time
	switch {
	case !active.IsTrue():
		r.Why = because(active.Reason, active.Message)
	case r.Want == r.MaxScale && r.MaxScale > 0:
		r.Why = "its requests want max-scale"
	case r.Want == r.MinScale:
		r.Why = "min-scale"
	default:
		r.Why = "its requests"
	}
}

func bound(annotations map[string]string, get func(map[string]string) (string, string, bool)) int {
	_, text, _ := get(annotations)
	n, _ := strconv.Atoi(text) // none, or one that Knative has refused
	return n
}

func podViews(all []corev1.Pod) []client.Pod {
	var views []client.Pod
	for _, o := range all {
		p := client.Pod{
			Namespace: o.Namespace, Name: o.Name, Service: o.Labels[serviceLabel], Revision: o.Labels[revisionLabel],
			Phase: "Starting", Reason: stuck(&o), Address: o.Status.PodIP, Started: o.CreationTimestamp.Time, InFlight: -1,
		}
		for _, c := range o.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				p.Phase, p.Reason = "Ready", ""
				p.ReadyMs = float64(c.LastTransitionTime.Sub(p.Started).Milliseconds())
			}
		}
		if o.Status.Phase == corev1.PodFailed || o.Status.Phase == corev1.PodSucceeded { // evicted, or its spot node went away
			p.Phase, p.Reason, p.ReadyMs = "Ended", cmp.Or(because(o.Status.Reason, o.Status.Message), stuck(&o)), 0
		}
		if o.DeletionTimestamp != nil {
			p.Phase, p.Reason, p.ReadyMs = "Draining", "", 0
		}
		views = append(views, p)
	}
	slices.SortFunc(views, func(a, b client.Pod) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return views
}

// stuck is what keeps a pod from being ready, as far as Kubernetes says.
func stuck(o *corev1.Pod) string {
	for _, s := range slices.Concat(o.Status.InitContainerStatuses, o.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
			return because(w.Reason, w.Message)
		}
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf("%s ended with exit code %d", s.Name, t.ExitCode)
		}
	}
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return because(c.Reason, c.Message)
		}
	}
	return ""
}

func conditionViews(prefix string, all []apis.Condition) []client.Condition {
	var views []client.Condition
	for _, c := range all {
		views = append(views, client.Condition{Type: prefix + string(c.Type), Status: string(c.Status), Reason: c.Reason, Message: c.Message, Since: c.LastTransitionTime.Inner.Time})
	}
	return views
}

// eventViews are the last events of objects that are named, or whose name
// begins with one that is named: a revision's Deployment, its pods.
func eventViews(all []corev1.Event, namespace string, exactly string, begin []string) []client.Event {
	its := slices.DeleteFunc(slices.Clone(all), func(e corev1.Event) bool {
		name := e.InvolvedObject.Name
		is := name == exactly || slices.ContainsFunc(begin, func(b string) bool { return name == b || strings.HasPrefix(name, b+"-") })
		return e.InvolvedObject.Namespace != namespace || !is
	})
	views := allEventViews(its)
	return views[max(0, len(views)-maxEvents):]
}

// allEventViews are events, oldest first.
func allEventViews(all []corev1.Event) []client.Event {
	var views []client.Event
	for _, e := range all {
		count := max(1, int(e.Count))
		if e.Series != nil {
			count = int(e.Series.Count)
		}
		views = append(views, client.Event{Type: e.Type, Object: e.InvolvedObject.Kind + " " + e.InvolvedObject.Name, Reason: e.Reason, Message: e.Message, Count: count, Last: lastSeen(&e)})
	}
	slices.SortStableFunc(views, func(a, b client.Event) int { return a.Last.Compare(b.Last) })
	return views
}

// maxEvents of a description.
const maxEvents = 15

func lastSeen(e *corev1.Event) time.Time {
	if e.Series != nil {
		return e.Series.LastObservedTime.Time
	}
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time, e.FirstTimestamp.Time} {
		if !t.IsZero() {
			return t
		}
	}
	return e.CreationTimestamp.Time
}
