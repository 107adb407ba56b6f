package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	netv1alpha1 "knative.dev/networking/pkg/apis/networking/v1alpha1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"knative.dev/serving/pkg/reconciler/configuration/resources"
	"knative.dev/serving/pkg/reconciler/route/traffic"

	"aisle.dev/aisle/activator/engine/route"
)

// What Knative keeps in a Service's Configuration and Route, which are no
// objects here, is in the annotations of the Service's status.
const (
	generationKey = serving.ConfigurationGenerationLabelKey
	rolloutKey    = serving.GroupName + "/rollout"
)

// configurationGeneration is the number of the Service's template.
func configurationGeneration(ks *servingv1.Service) int64 {
	n, _ := strconv.ParseInt(ks.Status.Annotations[generationKey], 10, 64) // 0 where there is none
	return n
}

func setStatusAnnotation(ks *servingv1.Service, key, value string) {
	if ks.Status.Annotations == nil {
		ks.Status.Annotations = map[string]string{}
	}
	ks.Status.Annotations[key] = value
}

func rolloutOf(ks *servingv1.Service) *traffic.Rollout {
	r := new(traffic.Rollout)
	if json.Unmarshal([]byte(ks.Status.Annotations[rolloutKey]), r) != nil {
		return nil // there is none yet
	}
	return r
}

func setRollout(ks *servingv1.Service, r *traffic.Rollout) {
	text, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("engine: encode a roll-out: %v", err)) // numbers and strings
	}
	setStatusAnnotation(ks, rolloutKey, string(text))
}

// rolloutDuration is how long a gradual roll-out of the Service takes.
func rolloutDuration(ks *servingv1.Service) time.Duration {
	return (&servingv1.Route{ObjectMeta: metav1.ObjectMeta{Annotations: ks.Annotations}}).RolloutDuration()
}

// generationOf is the number of the template that a revision was made of.
func generationOf(rev *servingv1.Revision) int64 {
	n, _ := strconv.ParseInt(rev.Labels[serving.ConfigurationGenerationLabelKey], 10, 64) // of our own making
	return n
}

func serviceOf(rev *servingv1.Revision) types.NamespacedName {
	return types.NamespacedName{Namespace: rev.Namespace, Name: rev.Labels[serving.ServiceLabelKey]}
}

// isPreserved is Knative's wish of a revision to stay.
func isPreserved(rev *servingv1.Revision) bool {
	return strings.EqualFold(rev.Annotations[serving.RevisionPreservedAnnotationKey], "true")
}

// makeRevision is the revision of a Service's template, as Knative's
// Configuration controller makes it.
func makeRevision(ks *servingv1.Service, now time.Time) *servingv1.Revision {
	ks = ks.DeepCopy()
	configuration := &servingv1.Configuration{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ks.Namespace, Name: ks.Name, UID: ks.UID, Generation: configurationGeneration(ks),
			Labels:      map[string]string{serving.ServiceLabelKey: ks.Name, serving.ServiceUIDLabelKey: string(ks.UID)},
			Annotations: map[string]string{serving.RoutesAnnotationKey: ks.Name},
		},
		Spec: ks.Spec.ConfigurationSpec,
	}
	rev := resources.MakeRevision(context.Background(), configuration, now)
	rev.TypeMeta = metav1.TypeMeta{APIVersion: servingv1.SchemeGroupVersion.String(), Kind: "Revision"}
	rev.UID, rev.Generation, rev.CreationTimestamp = uuid.NewUUID(), 1, metav1.NewTime(now.Truncate(time.Second))
	// There is no Configuration to own it: the Service does.
	rev.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(ks, servingv1.SchemeGroupVersion.WithKind("Service"))}
	rev.SetRoutingState(servingv1.RoutingStatePending, now)
	rev.Status.ObservedGeneration = 1
	rev.Status.InitializeConditions()
	rev.Status.MarkResourcesAvailableUnknown(servingv1.ReasonDeploying, "")
	rev.Status.MarkContainerHealthyUnknown(servingv1.ReasonDeploying, "")
	return rev
}

func markReady(rev *servingv1.Revision) {
	rev.Status.MarkResourcesAvailableTrue()
	rev.Status.MarkContainerHealthyTrue()
}

// failure is why a pod did not become ready.
type failure struct {
	pending bool // there is no GPU for it yet
	late    bool // its progress deadline was over
	started bool // there was a process
	oom     bool // its memory limit ended it
	code    int  // of its exit, -1: none, or by a signal
	reason  string
	said    string // the end of its log
}

func markFailed(rev *servingv1.Revision, why failure) {
	message := why.reason
	if why.said != "" {
		message = strings.TrimSpace(why.said)
	}
	switch {
	case why.pending:
		if rev.Status.GetCondition(servingv1.RevisionConditionContainerHealthy).IsFalse() {
			return // it ran and failed: that says more than that its next try waits
		}
		rev.Status.MarkResourcesAvailableFalse(corev1.PodReasonUnschedulable, strings.ReplaceAll(why.reason, "%", "%%"))
	case why.late:
		rev.Status.MarkResourcesAvailableFalse(servingv1.ReasonProgressDeadlineExceeded, strings.ReplaceAll(why.reason, "%", "%%"))
	case !why.started:
		rev.Status.MarkContainerHealthyFalse(servingv1.ReasonContainerMissing, why.reason)
	case why.oom:
		rev.Status.MarkContainerHealthyFalse("OOMKilled", why.reason)
	case why.code > 0:
		rev.Status.MarkContainerHealthyFalse(servingv1.ExitCodeReason(int32(why.code)), servingv1.RevisionContainerExitingMessage(message))
	default:
		rev.Status.MarkContainerHealthyFalse("NotReady", servingv1.RevisionContainerExitingMessage(message))
	}
}

func markActive(rev *servingv1.Revision, ready, want int) {
	rev.Status.ActualReplicas, rev.Status.DesiredReplicas = new(int32(ready)), new(int32(want))
	switch {
	case ready > 0:
		rev.Status.MarkActiveTrue()
	case want > 0:
		rev.Status.MarkActiveUnknown("Queued", "Requests to the target are being buffered as resources are provisioned.")
	default:
		rev.Status.MarkActiveFalse("NoTraffic", "The target is not receiving traffic.")
	}
}

// tell writes into a Service's status how it stands: what Knative's
// controllers of Configuration, Route and Service make of it. err is why there
// is no new plan.
func (e *Engine) tell(ks *servingv1.Service, latest, ready *servingv1.Revision, plan *route.Plan, err error) {
	ks.Status.ObservedGeneration = ks.Generation
	ks.Status.InitializeConditions()

	configuration := new(servingv1.ConfigurationStatus)
	configuration.InitializeConditions()
	if ready != nil {
		configuration.LatestReadyRevisionName = ready.Name
	}
	configuration.SetLatestCreatedRevisionName(latest.Name)
	if ready != nil {
		configuration.SetLatestReadyRevisionName(ready.Name)
	}
	if c := latest.Status.GetCondition(servingv1.RevisionConditionReady); c.IsFalse() {
		configuration.MarkLatestCreatedFailed(latest.Name, c.GetMessage())
	}
	ks.Status.PropagateConfigurationStatus(configuration)

	routed := new(servingv1.RouteStatus)
	routed.InitializeConditions()
	routed.URL = e.urlOf(ks, "")
	routed.Address = &duckv1.Addressable{URL: apis.HTTP(ks.Name + "." + ks.Namespace + "." + clusterDomain)}
	routed.MarkTLSNotEnabled(servingv1.ExternalDomainTLSNotEnabledMessage)
	if plan != nil {
		for _, t := range plan.Traffic {
			if t.Tag != "" {
				t.URL = e.urlOf(ks, t.Tag)
			}
			routed.Traffic = append(routed.Traffic, t)
		}
	}
	if missing, ok := errors.AsType[*route.Missing](err); ok {
		markMissing(routed, ks, missing)
	} else {
		routed.MarkTrafficAssigned()
		ingress := netv1alpha1.IngressStatus{}
		ingress.InitializeConditions()
		ingress.MarkNetworkConfigured()
		ingress.MarkLoadBalancerReady(nil, nil)
		routed.PropagateIngressStatus(ingress)
		if !plan.Next.IsZero() {
			routed.MarkIngressRolloutInProgress()
		}
	}
	ks.Status.PropagateRouteStatus(routed)
}

func markMissing(routed *servingv1.RouteStatus, ks *servingv1.Service, m *route.Missing) {
	switch {
	case m.Revision == "":
		if ks.Status.GetCondition(servingv1.ServiceConditionConfigurationsReady).IsFalse() {
			routed.MarkConfigurationFailed(ks.Name)
		} else {
			routed.MarkConfigurationNotReady(ks.Name)
		}
	case !m.Known:
		routed.MarkMissingTrafficTarget("Revision", m.Revision)
	case m.Failed:
		routed.MarkRevisionFailed(m.Revision)
	default:
		routed.MarkRevisionNotReady(m.Revision)
	}
}

// markSpoilt says that a revision that requests go to cannot run: its
// annotations are none that today's settings allow.
func markSpoilt(ks *servingv1.Service, why error) {
	ks.GetConditionSet().Manage(&ks.Status).MarkFalse(servingv1.ServiceConditionRoutesReady, "RevisionInvalid", "%v; change the Service or config-autoscaler", why)
}

// urlOf is where a service, or one of its tags, is reached.
func (e *Engine) urlOf(ks *servingv1.Service, tag string) *apis.URL {
	host := hostOf(ks.Namespace, ks.Name, tag)
	if _, port, err := net.SplitHostPort(e.version.Address); err == nil {
		host += ":" + port
	}
	return apis.HTTP(host)
}
