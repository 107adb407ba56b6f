package broker

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	duckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	knativeduck "knative.dev/pkg/apis/duck/v1"
)

// Tell fills in the status of objects, which are those applied last, as it is
// now, with Knative's conditions.
func (b *Broker) Tell(objects []Object) {
	c := b.config.Load()
	for _, o := range objects {
		switch o := o.(type) {
		case *eventingv1.Broker:
			b.tellBroker(o, c)
		case *eventingv1.Trigger:
			b.tellTrigger(o, c)
		case *sourcesv1.PingSource:
			b.tellPing(o, c)
		}
	}
}

// Knative's reasons why something is not resolved (pkg/reconciler/broker).
const (
	noSubscriber = "Unable to get the Subscriber's URI"
	noDeadLetter = "Unable to get the dead letter sink's URI"
	noSink       = "NotFound"
)

// resolved is nil if what a ref names is there. A URI may lead anywhere.
func (b *Broker) resolved(t target, c *config) error {
	switch s := b.opts.Subscribers; {
	case !t.named:
	case t.broker.Name != "":
		if c.brokers[t.broker] == nil {
			return fmt.Errorf("there is no Broker %s; apply it", t.broker)
		}
	case s != nil && !s.Exists(t.service):
		return fmt.Errorf("there is no Service %s; apply it", t.service)
	}
	return nil
}

// tellBroker says that the Broker serves.
func (b *Broker) tellBroker(o *eventingv1.Broker, c *config) {
	s := &o.Status
	s.InitializeConditions()
	s.ObservedGeneration = o.Generation
	s.SetAddress(&knativeduck.Addressable{URL: &apis.URL{Scheme: "http", Host: IngressHost, Path: "/" + o.Namespace + "/" + o.Name}})
	manage := o.GetConditionSet().Manage(s)
	for _, c := range []apis.ConditionType{eventingv1.BrokerConditionIngress, eventingv1.BrokerConditionTriggerChannel, eventingv1.BrokerConditionFilter, eventingv1.BrokerConditionEventPoliciesReady} {
		manage.MarkTrue(c)
	}
	s.MarkDeadLetterSinkNotConfigured()
	if o.Spec.Delivery != nil && o.Spec.Delivery.DeadLetterSink != nil {
		sink, err := resolve(*o.Spec.Delivery.DeadLetterSink, o.Namespace)
		if err == nil {
			err = b.resolved(sink, c)
		}
		if err != nil {
			s.MarkDeadLetterSinkResolvedFailed(noDeadLetter, "%v", err)
		} else {
			s.MarkDeadLetterSinkResolvedSucceeded(sink.status())
		}
	}
}

// tellTrigger says whether the Trigger delivers.
func (b *Broker) tellTrigger(o *eventingv1.Trigger, c *config) {
	s := &o.Status
	s.InitializeConditions()
	t := c.triggers[types.NamespacedName{Namespace: o.Namespace, Name: o.Name}]
	if t == nil {
		kept := ""
		for _, p := range b.parkedBrokers() {
			if p.broker == o.Namespace+"/"+o.Spec.Broker {
				kept = fmt.Sprintf("; %d events that it had yet to deliver are kept for its return until %s", p.events(), p.until.UTC().Format(time.RFC3339))
			}
		}
		s.MarkBrokerFailed("BrokerDoesNotExist", "Broker %q does not exist%s", o.Spec.Broker, kept)
		return
	}
	s.ObservedGeneration = o.Generation
	s.SubscriberURI = (*apis.URL)(t.subscriber.url)
	manage := o.GetConditionSet().Manage(s)
	for _, c := range []apis.ConditionType{eventingv1.TriggerConditionBroker, eventingv1.TriggerConditionSubscribed, eventingv1.TriggerConditionDependency, eventingv1.TriggerConditionSubscriberResolved, eventingv1.TriggerConditionOIDCIdentityCreated} {
		manage.MarkTrue(c)
	}
	if v, ok := b.standing.Load(t.name); ok {
		manage.MarkFalse(Progressing, v.(standing).reason, "%s", v.(standing).message)
	}
	if err := b.resolved(t.subscriber, c); err != nil {
		s.SubscriberURI = nil
		s.MarkSubscriberResolvedFailed(noSubscriber, "%v", err)
	}
	s.MarkDeadLetterSinkNotConfigured()
	if t.sink == nil {
		return
	}
	if err := b.resolved(*t.sink, c); err != nil {
		s.MarkDeadLetterSinkResolvedFailed(noDeadLetter, "%v", err)
		return
	}
	s.DeliveryStatus = t.sink.status()
	s.MarkDeadLetterSinkResolvedSucceeded()
}

// tellPing says whether the PingSource ticks.
func (b *Broker) tellPing(o *sourcesv1.PingSource, c *config) {
	s := &o.Status
	s.InitializeConditions()
	s.ObservedGeneration = o.Generation
	to, err := resolve(o.Spec.Sink, o.Namespace)
	if err == nil {
		err = b.resolved(to, c)
	}
	if err != nil {
		s.MarkNoSink(noSink, "%v", err)
	} else {
		s.MarkSink(&knativeduck.Addressable{URL: (*apis.URL)(to.url)})
	}
	o.GetConditionSet().Manage(s).MarkTrue(sourcesv1.PingSourceConditionDeployed)
	s.MarkOIDCIdentityCreatedSucceeded()
	s.CloudEventAttributes = []knativeduck.CloudEventAttributes{{
		Type: sourcesv1.PingSourceEventType, Source: sourcesv1.PingSourceSource(o.Namespace, o.Name),
	}}
}

func (t target) status() duckv1.DeliveryStatus {
	return duckv1.DeliveryStatus{DeadLetterSinkURI: (*apis.URL)(t.url)}
}
