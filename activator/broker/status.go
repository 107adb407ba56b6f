package broker

import (
	"k8s.io/apimachinery/pkg/types"
	duckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/apis"
	knativeduck "knative.dev/pkg/apis/duck/v1"
)

// brokerStatus says that the Broker serves, with Knative's conditions.
func brokerStatus(o *eventingv1.Broker, name types.NamespacedName) {
	s := &o.Status
	s.InitializeConditions()
	s.ObservedGeneration = o.Generation
	s.SetAddress(&knativeduck.Addressable{URL: &apis.URL{Scheme: "http", Host: IngressHost, Path: "/" + name.Namespace + "/" + name.Name}})
	manage := o.GetConditionSet().Manage(s)
	for _, c := range []apis.ConditionType{eventingv1.BrokerConditionIngress, eventingv1.BrokerConditionTriggerChannel, eventingv1.BrokerConditionFilter, eventingv1.BrokerConditionEventPoliciesReady} {
		manage.MarkTrue(c)
	}
	s.MarkDeadLetterSinkNotConfigured()
	if o.Spec.Delivery != nil && o.Spec.Delivery.DeadLetterSink != nil {
		if sink, err := resolve(*o.Spec.Delivery.DeadLetterSink, o.Namespace); err == nil {
			s.MarkDeadLetterSinkResolvedSucceeded(sink.status())
		}
	}
}

// triggerStatus says that the Trigger delivers, likewise.
func triggerStatus(o *eventingv1.Trigger, t *trigger) {
	s := &o.Status
	s.ObservedGeneration = o.Generation
	s.SubscriberURI = (*apis.URL)(t.subscriber.url)
	manage := o.GetConditionSet().Manage(s)
	for _, c := range []apis.ConditionType{eventingv1.TriggerConditionBroker, eventingv1.TriggerConditionSubscribed, eventingv1.TriggerConditionDependency, eventingv1.TriggerConditionSubscriberResolved, eventingv1.TriggerConditionOIDCIdentityCreated} {
		manage.MarkTrue(c)
	}
	s.MarkDeadLetterSinkNotConfigured()
	if t.sink != nil {
		s.DeliveryStatus = t.sink.status()
		s.MarkDeadLetterSinkResolvedSucceeded()
	}
}

func (t target) status() duckv1.DeliveryStatus {
	return duckv1.DeliveryStatus{DeadLetterSinkURI: (*apis.URL)(t.url)}
}
