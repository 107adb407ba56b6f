package broker

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// IngressHost is where Brokers are reached from within a cluster, as
// http://IngressHost/NAMESPACE/BROKER.
const IngressHost = "broker-ingress.knative-eventing.svc.cluster.local"

// target is where events go.
type target struct {
	url     *url.URL
	broker  types.NamespacedName // set where it is one of ours
	service types.NamespacedName // set where a ref names it
	named   bool                 // a ref names it: the object must be there
}

// resolve gives the address of a subscriber or a sink in namespace: that of a
// Knative Service or a Broker by its ref, or a URI, which is relative to the
// ref where there are both.
func resolve(d duckv1.Destination, namespace string) (target, error) {
	var t target
	if d.CACerts != nil || d.Audience != nil {
		return t, errors.New("CACerts and audience are not supported: subscribers are reached in clear text, on this machine")
	}
	if d.Ref == nil {
		if d.URI == nil {
			return t, errors.New("it has neither ref nor uri")
		}
		t.url = d.URI.URL()
		if (t.url.Scheme != "http" && t.url.Scheme != "https") || t.url.Host == "" {
			return t, fmt.Errorf("the uri %.200q is not an absolute URL with http or https", d.URI)
		}
		return t.atBroker(), nil
	}
	if d.Ref.Namespace != "" {
		namespace = d.Ref.Namespace
	}
	group, _, _ := strings.Cut(d.Ref.APIVersion, "/")
	if d.Ref.Group != "" {
		group = d.Ref.Group
	}
	t.named = true
	switch group + " " + d.Ref.Kind {
	case "serving.knative.dev Service", "v1 Service":
		t.service = types.NamespacedName{Namespace: namespace, Name: d.Ref.Name}
		t.url = &url.URL{Scheme: "http", Host: d.Ref.Name + "." + namespace + ".svc.cluster.local", Path: "/"}
	case "eventing.knative.dev Broker":
		t.url = &url.URL{Scheme: "http", Host: IngressHost, Path: "/" + namespace + "/" + d.Ref.Name}
	default:
		return t, fmt.Errorf("the ref is to apiVersion %.80s, kind %.80s; a Knative Service, a Broker, or a uri is reached from here", d.Ref.APIVersion, d.Ref.Kind)
	}
	if d.URI != nil {
		t.url = t.url.ResolveReference(d.URI.URL())
	}
	return t.atBroker(), nil
}

// atBroker notes which of our Brokers the URL is the address of.
func (t target) atBroker() target {
	if t.url.Hostname() == IngressHost {
		t.broker, _ = brokerOf(t.url.Path)
	}
	return t
}

// brokerOf reads an ingress path, /NAMESPACE/BROKER.
func brokerOf(path string) (types.NamespacedName, bool) {
	namespace, name, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, true
}
