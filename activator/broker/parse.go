package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	brokerconfig "knative.dev/eventing/pkg/apis/config"
	duckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/feature"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	knativeduck "knative.dev/pkg/apis/duck/v1"

	"aisle.dev/aisle/activator/broker/deferral"
)

// Class is the broker class of a Broker that names none. Brokers of any class
// are served by this broker, since there is no other on the machine.
const Class = "aisle.dev/JetStream"

// OrderAnnotation on a Trigger asks for ordered delivery with the value
// "ordered": events with the same attribute partitionkey one at a time, in the
// order in which they came. It is that of Knative's Kafka broker.
const OrderAnnotation = "kafka.eventing.knative.dev/delivery.order"

// Object is a Broker, a Trigger or a PingSource.
type Object interface {
	metav1.Object
	runtime.Object
	apis.Defaultable
	apis.Validatable
	knativeduck.KRShaped
}

// Finding is something about an object that its author should know.
type Finding struct {
	Path    string // "spec.filters[0].cesql"; empty for the whole object
	Reason  string
	Refused bool // false: the field means nothing here, and is left out of account
}

// Parse types, defaults and validates a Broker, Trigger or PingSource, with
// Knative's own code and, beyond it, by what this broker can honour. The
// object is nil where a finding refuses it.
func Parse(raw *unstructured.Unstructured) (Object, []Finding) {
	var o Object
	switch kind := raw.GroupVersionKind(); kind {
	case eventingv1.SchemeGroupVersion.WithKind("Broker"):
		o = &eventingv1.Broker{}
	case eventingv1.SchemeGroupVersion.WithKind("Trigger"):
		o = &eventingv1.Trigger{}
	case sourcesv1.SchemeGroupVersion.WithKind("PingSource"):
		o = &sourcesv1.PingSource{}
	default:
		return nil, []Finding{{Reason: fmt.Sprintf("apiVersion %s, kind %s is not known here", raw.GetAPIVersion(), raw.GetKind()), Refused: true}}
	}
	p := &parser{}
	p.parse(raw, o)
	for _, f := range p.findings {
		if f.Refused {
			return nil, p.findings
		}
	}
	return o, p.findings
}

// maxName bounds a Trigger's name, since the store's names have at most 255
// characters: "trigger_", a namespace of up to 63 and "_" are part of it.
const maxName = 180

type parser struct{ findings []Finding }

func (p *parser) refuse(path, format string, args ...any) {
	p.findings = append(p.findings, Finding{path, fmt.Sprintf(format, args...), true})
}

func (p *parser) ignore(path, reason string) {
	p.findings = append(p.findings, Finding{path, reason, false})
}

// parse recovers, because Knative's validation panics on some of what it is
// to refuse.
func (p *parser) parse(raw *unstructured.Unstructured, o Object) {
	defer func() {
		if v := recover(); v != nil {
			p.refuse("", "it cannot be validated: %v", v)
		}
	}()
	text := raw.DeepCopy()
	delete(text.Object, "status") // ours to say
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(text.Object, o, true); err != nil {
		if strict, ok := runtime.AsStrictDecodingError(err); ok {
			for _, err := range strict.Errors() {
				p.refuse("", "%v", err)
			}
		} else {
			p.refuse("", "%v", err)
		}
		return
	}
	if o.GetNamespace() == "" {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	for _, problem := range apierrors.NameIsDNSSubdomain(o.GetName(), false) {
		p.refuse("metadata.name", "%s", problem)
	}
	most, why := maxName, "its namespace and name are one name in the store"
	if _, ok := o.(*eventingv1.Broker); ok {
		most, why = validation.LabelValueMaxLength, "Knative writes it in labels"
	}
	if n := len(o.GetName()); n > most {
		p.refuse("metadata.name", "it has %d characters; at most %d are possible: %s", n, most, why)
	}
	if t, ok := o.(*eventingv1.Trigger); ok {
		if err := bounded(t); err != nil { // Knative's validation parses expressions of any length
			p.refuse("spec.filters", "%v", err)
			return
		}
	}
	ctx := withDefaults(context.Background())
	o.SetDefaults(ctx)
	if o, ok := o.(*sourcesv1.PingSource); ok {
		if _, err := openPing(o); err != nil { // Knative's validation is part of it
			p.refuse("", "%v", err)
		}
		return
	}
	if err := o.Validate(ctx); err != nil {
		for _, e := range err.WrappedErrors() {
			p.refuse(strings.Join(e.Paths, ", "), "%s", strings.TrimSuffix(e.Message+": "+e.Details, ": "))
		}
	}
	switch o := o.(type) {
	case *eventingv1.Broker:
		p.delivery("spec.delivery", o.Namespace, o.Spec.Delivery)
	case *eventingv1.Trigger:
		p.trigger(o)
	}
}

func (p *parser) trigger(t *eventingv1.Trigger) {
	if t.Spec.BrokerRef != nil {
		p.refuse("spec.brokerRef", "name the Broker of the same namespace in spec.broker")
	}
	if _, err := newFilter(t); err != nil {
		e, ok := errors.AsType[*filterError](err)
		if !ok {
			e = &filterError{"spec.filters", err}
		}
		p.refuse(e.path, "%v", e.err)
	}
	if _, err := resolve(t.Spec.Subscriber, t.Namespace); err != nil {
		p.refuse("spec.subscriber", "%v", err)
	}
	p.delivery("spec.delivery", t.Namespace, t.Spec.Delivery)
	if order, ok := t.Annotations[OrderAnnotation]; ok && order != "ordered" && order != "unordered" {
		p.refuse("metadata.annotations["+OrderAnnotation+"]", "%.40q is neither ordered nor unordered", order)
	}
	if _, err := deferral.Parse(t.Annotations); err != nil {
		p.refuse("metadata", "%v", err)
	}
	if _, ok := t.Annotations[eventingv1.DependencyAnnotation]; ok {
		p.ignore("metadata.annotations["+eventingv1.DependencyAnnotation+"]", "a Trigger is ready at once here")
	}
	if _, ok := t.Annotations[eventingv1.InjectionAnnotation]; ok {
		p.ignore("metadata.annotations["+eventingv1.InjectionAnnotation+"]", "declare the Broker")
	}
}

func (p *parser) delivery(path, namespace string, d *duckv1.DeliverySpec) {
	if d == nil {
		return
	}
	if _, err := newPolicy(d); err != nil {
		p.refuse(path, "%v", err)
	}
	if d.DeadLetterSink != nil {
		if _, err := resolve(*d.DeadLetterSink, namespace); err != nil {
			p.refuse(path+".deadLetterSink", "%v", err)
		}
	}
}

// withDefaults adds what Knative ships as its settings: the delivery of
// config-br-defaults, and the delivery features that this broker has.
func withDefaults(ctx context.Context) context.Context {
	exponential := duckv1.BackoffPolicyExponential
	delivery := &duckv1.DeliverySpec{Retry: new(int32(10)), BackoffPolicy: &exponential, BackoffDelay: new("PT0.2S")}
	ctx = brokerconfig.ToContext(ctx, &brokerconfig.Config{Defaults: &brokerconfig.Defaults{
		ClusterDefaultConfig: &brokerconfig.DefaultConfig{
			DefaultBrokerClass: Class,
			BrokerConfig:       &brokerconfig.BrokerConfig{Delivery: delivery},
		},
	}})
	return feature.ToContext(ctx, feature.Flags{feature.DeliveryTimeout: feature.Enabled, feature.DeliveryRetryAfter: feature.Enabled})
}
