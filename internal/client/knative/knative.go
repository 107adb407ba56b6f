// Package knative is the [client.Client] of a Kubernetes cluster with Knative
// Serving, found as kubectl finds it: by a kubeconfig and a context.
//
// It reads: Knative's services, revisions and autoscalers, their pods, events
// and logs. docs/cli-role.yaml allows just that, which a test holds it to. A
// list is bounded, and so is the time of every request that is no stream.
// Kubernetes does not tell what a pod's requests, memory and CPU are; those are
// left out.
//
// Only client-go's REST client is linked, with a scheme of the few types that
// are read: its typed clients register every type of Kubernetes, which costs a
// command 8 ms at its start.
package knative

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/problem"
)

// Options say which cluster is meant, as kubectl's flags do.
type Options struct {
	Kubeconfig string        // a file that must be there, or empty
	Files      []string      // read where Kubeconfig is empty: those of $KUBECONFIG, or ~/.kube/config
	Context    string        // empty: the current one
	Namespace  string        // empty: the context's, else "default"
	Timeout    time.Duration // of a request that is no stream; 0: 15 s
}

// ErrConfig is in the chain of an error of the kubeconfig or its contexts.
var ErrConfig = errors.New("kubeconfig")

// Cluster is one cluster, as one user sees one namespace of it.
type Cluster struct {
	context, namespace, server string
	timeout                    time.Duration

	core, serving, autoscaling *rest.RESTClient
}

var (
	_ client.Client    = (*Cluster)(nil)
	_ client.Describer = (*Cluster)(nil)
)

// load reads the kubeconfig's files.
func (o Options) load() (*clientcmdapi.Config, *clientcmd.ClientConfigLoadingRules, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: o.Kubeconfig, Precedence: o.Files}
	config, err := rules.Load()
	if err != nil {
		return nil, nil, fmt.Errorf("read the %w: %w", ErrConfig, err)
	}
	return config, rules, nil
}

// Contexts names those of the kubeconfig.
func Contexts(o Options) ([]string, error) {
	config, _, err := o.load()
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(config.Contexts)), nil
}

// choose finds the context that is meant.
func (o Options) choose(config *clientcmdapi.Config) (string, error) {
	from := cmp.Or(o.Kubeconfig, strings.Join(o.Files, ", "))
	there := strings.Join(slices.Sorted(maps.Keys(config.Contexts)), ", ")
	name := cmp.Or(o.Context, config.CurrentContext)
	switch {
	case there == "":
		return "", fmt.Errorf("there is no context in the %w (%s); say which file: --kubeconfig FILE", ErrConfig, from)
	case name == "":
		return "", fmt.Errorf("the %w (%s) has no current context; choose one with --context: %s", ErrConfig, from, there)
	case config.Contexts[name] == nil:
		return "", fmt.Errorf("there is no context %q in the %w (%s); there are: %s", name, ErrConfig, from, there)
	}
	return name, nil
}

// Open reads the kubeconfig. It does not connect.
func Open(o Options) (*Cluster, error) {
	file, rules, err := o.load()
	if err != nil {
		return nil, err
	}
	name, err := o.choose(file)
	if err != nil {
		return nil, err
	}
	config := clientcmd.NewNonInteractiveClientConfig(*file, name, &clientcmd.ConfigOverrides{}, rules)
	c := &Cluster{context: name, namespace: o.Namespace, timeout: cmp.Or(o.Timeout, 15*time.Second)}
	if c.namespace == "" {
		if c.namespace, _, err = config.Namespace(); err != nil {
			return nil, fmt.Errorf("read the %w: context %s: %w", ErrConfig, c.context, err)
		}
	}
	rc, err := config.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the %w: context %s: %w", ErrConfig, c.context, err)
	}
	c.server = rc.Host // as it is shown
	if u, err := url.Parse(rc.Host); err == nil {
		c.server = u.Redacted()
	}
	rc.UserAgent, rc.QPS, rc.Burst, rc.WarningHandler = "aisle", 50, 50, rest.NoWarnings{}
	shared, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, fmt.Errorf("read the %w: context %s: %w", ErrConfig, c.context, err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, servingv1.AddToScheme, autoscalingv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	rc.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	for _, api := range []struct {
		path string
		gv   schema.GroupVersion
		into **rest.RESTClient
	}{{"/api", corev1.SchemeGroupVersion, &c.core}, {"/apis", servingv1.SchemeGroupVersion, &c.serving}, {"/apis", autoscalingv1alpha1.SchemeGroupVersion, &c.autoscaling}} {
		its := rest.CopyConfig(rc)
		its.APIPath, its.GroupVersion = api.path, &api.gv
		if *api.into, err = rest.RESTClientForConfigAndClient(its, shared); err != nil {
			return nil, fmt.Errorf("context %s: %w", c.context, err)
		}
	}
	return c, nil
}

// In is the same cluster, another namespace; "" is all of them.
func (c *Cluster) In(namespace string) *Cluster {
	other := *c
	other.namespace = namespace
	return &other
}

// Namespace is the one that names are looked up in.
func (c *Cluster) Namespace() string { return c.namespace }

// Context is the kubeconfig's.
func (c *Cluster) Context() string { return c.context }

// Bounds of a list.
const (
	pageSize   = 500
	maxObjects = 10_000
)

// listing is a list of Kubernetes' types.
type listing interface {
	runtime.Object
	metav1.ListInterface
}

// list reads a whole list, page by page.
func list[L listing, T any](ctx context.Context, c *Cluster, from *rest.RESTClient, resource, selector string, fresh func() L, items func(L) []T) (all []T, version string, err error) {
	next := ""
	for {
		req := from.Get().NamespaceIfScoped(c.namespace, c.namespace != "").Resource(resource).Param("limit", fmt.Sprint(pageSize))
		if selector != "" {
			req.Param("labelSelector", selector)
		}
		if next != "" {
			req.Param("continue", next)
		}
		page := fresh()
		if err := c.within(ctx, func(ctx context.Context) error { return req.Do(ctx).Into(page) }); err != nil {
			return nil, "", c.explain(err, "list "+resource)
		}
		all = append(all, items(page)...)
		if next = page.GetContinue(); next == "" {
			return all, page.GetResourceVersion(), nil
		}
		if len(all) >= maxObjects {
			return nil, "", fmt.Errorf("there are more than %d %s; choose a namespace with -n", maxObjects, resource)
		}
	}
}

// within bounds a request in time.
func (c *Cluster) within(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errSlow)
	defer cancel()
	err := ask(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		return errSlow
	}
	return err
}

var errSlow = errors.New("no answer in time")

func (c *Cluster) services(ctx context.Context) ([]servingv1.Service, error) {
	all, _, err := list(ctx, c, c.serving, "services", "", func() *servingv1.ServiceList { return new(servingv1.ServiceList) }, func(l *servingv1.ServiceList) []servingv1.Service { return l.Items })
	return all, err
}

func (c *Cluster) revisions(ctx context.Context) ([]servingv1.Revision, error) {
	all, _, err := list(ctx, c, c.serving, "revisions", "", func() *servingv1.RevisionList { return new(servingv1.RevisionList) }, func(l *servingv1.RevisionList) []servingv1.Revision { return l.Items })
	return all, err
}

func (c *Cluster) autoscalers(ctx context.Context) ([]autoscalingv1alpha1.PodAutoscaler, error) {
	all, _, err := list(ctx, c, c.autoscaling, "podautoscalers", "", func() *autoscalingv1alpha1.PodAutoscalerList { return new(autoscalingv1alpha1.PodAutoscalerList) },
		func(l *autoscalingv1alpha1.PodAutoscalerList) []autoscalingv1alpha1.PodAutoscaler { return l.Items })
	return all, err
}

func (c *Cluster) pods(ctx context.Context) (all []corev1.Pod, version string, err error) {
	return list(ctx, c, c.core, "pods", serviceLabel, func() *corev1.PodList { return new(corev1.PodList) }, func(l *corev1.PodList) []corev1.Pod { return l.Items })
}

func (c *Cluster) events(ctx context.Context) ([]corev1.Event, error) {
	all, _, err := list(ctx, c, c.core, "events", "", func() *corev1.EventList { return new(corev1.EventList) }, func(l *corev1.EventList) []corev1.Event { return l.Items })
	return all, err
}

// Services implements [client.Client].
func (c *Cluster) Services(ctx context.Context) ([]client.Service, error) {
	all, err := c.services(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	pods, _, err := c.pods(ctx)
	if err != nil {
		return nil, err
	}
	return serviceViews(all, podViews(pods)), nil
}

// Revisions implements [client.Client].
func (c *Cluster) Revisions(ctx context.Context) ([]client.Revision, error) {
	all, err := c.revisions(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	scalers, err := c.autoscalers(ctx)
	if err != nil {
		return nil, err
	}
	pods, _, err := c.pods(ctx)
	if err != nil {
		return nil, err
	}
	return revisionViews(all, scalers, podViews(pods)), nil
}

// Pods implements [client.Client]: those of Knative's services.
func (c *Cluster) Pods(ctx context.Context) ([]client.Pod, error) {
	all, _, err := c.pods(ctx)
	return podViews(all), err
}

// Version implements [client.Client]; it fails where Knative is not installed.
func (c *Cluster) Version(ctx context.Context) (client.Version, error) {
	var v struct{ GitVersion string }
	err := c.within(ctx, func(ctx context.Context) error {
		text, err := c.core.Get().AbsPath("/version").DoRaw(ctx)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &v)
	})
	if err != nil {
		return client.Version{}, c.explain(err, "ask for the version")
	}
	err = c.within(ctx, func(ctx context.Context) error {
		_, err := c.serving.Get().AbsPath("/apis/" + servingv1.SchemeGroupVersion.String()).DoRaw(ctx)
		return err
	})
	if err != nil {
		return client.Version{}, c.explain(err, "ask for Knative")
	}
	return client.Version{Version: v.GitVersion, Engine: "knative", Address: c.server, Context: c.context}, nil
}

// URL is where a service says that it is reached.
func (c *Cluster) URL(ctx context.Context, name string) (string, error) {
	var s servingv1.Service
	err := c.within(ctx, func(ctx context.Context) error {
		return c.serving.Get().Namespace(c.namespace).Resource("services").Name(name).Do(ctx).Into(&s)
	})
	if apierrors.IsNotFound(err) {
		all, lerr := c.services(ctx) // it knows whether Knative itself is missing
		if lerr != nil {
			return "", lerr
		}
		return "", c.absent("service", name, all)
	}
	if err != nil {
		return "", c.explain(err, "get service "+name)
	}
	if s.Status.URL == nil {
		why := "Knative has not said why"
		if cond := readyOf(s.Status.Conditions); cond != nil && cond.Message != "" {
			why = cond.Message
		}
		return "", fmt.Errorf("the service %s in namespace %s has no URL yet: %s; see: aisle --context %s -n %s describe service %s", name, c.namespace, why, c.context, c.namespace, name)
	}
	return s.Status.URL.String(), nil
}

// absent is the error of a name that nothing has.
func (c *Cluster) absent(what, name string, services []servingv1.Service) error {
	there := "there are none in it (another one: -n NAMESPACE)"
	if len(services) > 0 {
		var names []string
		for _, s := range services {
			names = append(names, s.Name)
		}
		there = "its services are: " + strings.Join(names, ", ")
	}
	return problem.New(http.StatusNotFound, "there is no %s %q in namespace %s of context %s; %s", what, name, c.namespace, c.context, there)
}

// Reach says what to do where a service's URL cannot be dialled from here.
func (c *Cluster) Reach() string {
	return fmt.Sprintf(`reach the cluster's ingress with --gateway HOST:PORT or $AISLE_GATEWAY, for example after
  kubectl --context %s -n kourier-system port-forward service/kourier 8081:80
with --gateway localhost:8081 (with Istio -n istio-system service/istio-ingressgateway, with Contour -n contour-external service/envoy)`, c.context)
}

// explain turns an API server's error into what the user can do about it.
func (c *Cluster) explain(err error, doing string) error {
	at := fmt.Sprintf("the cluster of context %s (%s)", c.context, c.server)
	_, isNet := errors.AsType[net.Error](err) // connections, names, handshakes
	switch {
	case errors.Is(err, errSlow):
		return fmt.Errorf("%s did not answer within %v; is it up, and is there a way to it from here? (%w)", at, c.timeout, client.ErrNotRunning)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", doing, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s does not accept who you are; log in again, or choose another --context (on GKE: gcloud auth login, gcloud container clusters get-credentials NAME)", at)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s does not allow it: %w; docs/cli-role.yaml is a Role with what aisle asks for", at, err)
	case apierrors.IsNotFound(err) && noResource(err):
		return fmt.Errorf("%s has no Knative Serving (it does not know %s); install that first, or choose another --context (%w)", at, servingv1.SchemeGroupVersion, client.ErrNotRunning)
	case strings.Contains(err.Error(), "getting credentials: "): // by a program that the kubeconfig names; client-go has no type for it
		return fmt.Errorf("%s was not asked: %w; log in again, or choose another --context (on GKE: gcloud auth login)", at, err)
	case isNet:
		return fmt.Errorf("%s cannot be reached: %w (%w)", at, err, client.ErrNotRunning)
	}
	return fmt.Errorf("%s: %s: %w", at, doing, err)
}

// noResource tells a kind that the API server does not know from an object that
// is not there: the latter is named.
func noResource(err error) bool {
	s, ok := errors.AsType[*apierrors.StatusError](err)
	return ok && (s.ErrStatus.Details == nil || s.ErrStatus.Details.Name == "")
}
