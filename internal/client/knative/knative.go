// Package knative is the [client.Client] of a Kubernetes cluster with Knative
// Serving, found as kubectl finds it: by a kubeconfig and a context.
//
// It reads: Knative's services, revisions and autoscalers, their pods, events
// and logs, through package objects, which also changes objects where a command
// asks for that. docs/cli-role.yaml allows just that, which a test holds it to.
// Kubernetes does not tell what a pod's requests, memory and CPU are; those are
// left out.
//
// Of client-go only the REST client and the reading of kubeconfigs are linked:
// its typed clients register every type of Kubernetes, which costs a command
// 8 ms at its start.
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
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
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
	objects                    *objects.Client
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
	rc.QPS, rc.Burst = 50, 50
	shared, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, fmt.Errorf("read the %w: context %s: %w", ErrConfig, c.context, err)
	}
	if c.objects, err = objects.New(rc, shared, c.timeout, c.explain); err != nil {
		return nil, fmt.Errorf("context %s: %w", c.context, err)
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

// Objects are the cluster's, of any namespace.
func (c *Cluster) Objects() *objects.Client { return c.objects }

// Context is the kubeconfig's.
func (c *Cluster) Context() string { return c.context }

func (c *Cluster) services(ctx context.Context) ([]servingv1.Service, error) {
	all, _, err := objects.List[servingv1.Service](ctx, c.objects, objects.Service, c.namespace, "")
	return all, err
}

func (c *Cluster) revisions(ctx context.Context) ([]servingv1.Revision, error) {
	all, _, err := objects.List[servingv1.Revision](ctx, c.objects, objects.Revision, c.namespace, "")
	return all, err
}

func (c *Cluster) autoscalers(ctx context.Context) ([]autoscalingv1alpha1.PodAutoscaler, error) {
	all, _, err := objects.List[autoscalingv1alpha1.PodAutoscaler](ctx, c.objects, objects.PodAutoscaler, c.namespace, "")
	return all, err
}

func (c *Cluster) pods(ctx context.Context) ([]corev1.Pod, error) {
	all, _, err := objects.List[corev1.Pod](ctx, c.objects, objects.Pod, c.namespace, serviceLabel)
	return all, err
}

func (c *Cluster) events(ctx context.Context) ([]corev1.Event, error) {
	all, _, err := objects.List[corev1.Event](ctx, c.objects, objects.Event, c.namespace, "")
	return all, err
}

// Services implements [client.Client].
func (c *Cluster) Services(ctx context.Context) ([]client.Service, error) {
	all, err := c.services(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	pods, err := c.pods(ctx)
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
	pods, err := c.pods(ctx)
	if err != nil {
		return nil, err
	}
	return revisionViews(all, scalers, podViews(pods)), nil
}

// Pods implements [client.Client]: those of Knative's services.
func (c *Cluster) Pods(ctx context.Context) ([]client.Pod, error) {
	all, err := c.pods(ctx)
	return podViews(all), err
}

// Events are what the cluster's controllers told, oldest first.
func (c *Cluster) Events(ctx context.Context) ([]client.Event, error) {
	all, err := c.events(ctx)
	return allEventViews(all), err
}

// Version implements [client.Client]; it fails where Knative is not installed.
func (c *Cluster) Version(ctx context.Context) (client.Version, error) {
	var v struct{ GitVersion string }
	text, err := c.objects.Raw(ctx, "/version", "ask for the version")
	if err != nil {
		return client.Version{}, err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return client.Version{}, c.explain(err, "read the version", objects.Service)
	}
	if _, err := c.objects.Raw(ctx, "/apis/"+servingv1.SchemeGroupVersion.String(), "ask for Knative"); err != nil {
		return client.Version{}, err
	}
	return client.Version{Version: v.GitVersion, Engine: "knative", Address: c.server, Context: c.context}, nil
}

// URL is where a service says that it is reached.
func (c *Cluster) URL(ctx context.Context, name string) (string, error) {
	s, err := objects.Get[servingv1.Service](ctx, c.objects, objects.Service, c.namespace, name)
	if apierrors.IsNotFound(err) {
		all, lerr := c.services(ctx) // it knows whether Knative itself is missing
		if lerr != nil {
			return "", lerr
		}
		return "", c.absent("service", name, all)
	}
	if err != nil {
		return "", err
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
func (c *Cluster) explain(err error, doing string, k objects.Kind) error {
	at := fmt.Sprintf("the cluster of context %s (%s)", c.context, c.server)
	_, isNet := errors.AsType[net.Error](err) // connections, names, handshakes
	switch {
	case errors.Is(err, objects.ErrSlow):
		return fmt.Errorf("%s did not answer within %v; is it up, and is there a way to it from here? (%w)", at, c.timeout, client.ErrNotRunning)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", doing, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s does not accept who you are; log in again, or choose another --context (on GKE: gcloud auth login, gcloud container clusters get-credentials NAME)", at)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s does not allow it: %w; docs/cli-role.yaml is a Role with what aisle asks for", at, err)
	case objects.NoKind(err):
		lacks := "Knative Serving"
		switch k.Group {
		case "":
			k = objects.Service
		case objects.Broker.Group, objects.PingSource.Group:
			lacks = "Knative Eventing"
		case objects.Schedule.Group:
			lacks = "ScalingSchedules of Aisle's controller (manifests/controller)"
		case objects.ImageMap.Group:
			return fmt.Errorf("%s has no use for an ImageMap: it pulls images", at)
		}
		return fmt.Errorf("%s has no %s (it does not know %s); install that first, or choose another --context (%w)", at, lacks, k.GroupVersion(), client.ErrNotRunning)
	case strings.Contains(err.Error(), "getting credentials: "): // by a program that the kubeconfig names; client-go has no type for it
		return fmt.Errorf("%s was not asked: %w; log in again, or choose another --context (on GKE: gcloud auth login)", at, err)
	case isNet:
		return fmt.Errorf("%s cannot be reached: %w (%w)", at, err, client.ErrNotRunning)
	}
	return fmt.Errorf("%s: %s: %w", at, doing, err)
}
