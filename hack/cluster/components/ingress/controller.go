package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"knative.dev/networking/pkg/apis/networking"
	"knative.dev/networking/pkg/apis/networking/v1alpha1"
	netclient "knative.dev/networking/pkg/client/clientset/versioned"
	netinformers "knative.dev/networking/pkg/client/informers/externalversions"
	netlisters "knative.dev/networking/pkg/client/listers/networking/v1alpha1"
)

// A controller turns Ingress objects into a table.
type controller struct {
	log             *slog.Logger
	class, internal string
	knative         netclient.Interface
	kubeWatch       informers.SharedInformerFactory
	knativeWatch    netinformers.SharedInformerFactory
	objects         netlisters.IngressLister
	services        corelisters.ServiceLister
	slices          discoverylisters.EndpointSliceLister
	changed         chan struct{} // holds one token: changes meanwhile are one change
	table           atomic.Pointer[table]
}

func newController(log *slog.Logger, kube kubernetes.Interface, knative netclient.Interface, class, internal string) *controller {
	c := &controller{
		log: log, class: class, internal: internal, knative: knative, changed: make(chan struct{}, 1),
		kubeWatch: informers.NewSharedInformerFactory(kube, 0), knativeWatch: netinformers.NewSharedInformerFactory(knative, 0),
	}
	c.objects = c.knativeWatch.Networking().V1alpha1().Ingresses().Lister()
	c.services = c.kubeWatch.Core().V1().Services().Lister()
	c.slices = c.kubeWatch.Discovery().V1().EndpointSlices().Lister()
	c.table.Store(&table{})
	return c
}

// start begins to watch, and returns once what there is has been seen.
func (c *controller) start(ctx context.Context) error {
	tell := func(any) {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
	if _, err := c.knativeWatch.Networking().V1alpha1().Ingresses().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: tell, UpdateFunc: func(_, o any) { tell(o) }, DeleteFunc: tell,
	}); err != nil {
		return err
	}
	c.kubeWatch.Start(ctx.Done())
	c.knativeWatch.Start(ctx.Done())
	c.kubeWatch.WaitForCacheSync(ctx.Done())
	c.knativeWatch.WaitForCacheSync(ctx.Done())
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.sync(ctx)
}

// run syncs at each change until ctx ends.
func (c *controller) run(ctx context.Context) error {
	var again <-chan time.Time
	for {
		select {
		case <-c.changed:
		case <-again:
		case <-ctx.Done():
			c.kubeWatch.Shutdown()
			c.knativeWatch.Shutdown()
			return nil
		}
		again = nil
		if err := c.sync(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("sync", "error", err) // a conflict, most often
			again = time.After(200 * time.Millisecond)
		}
	}
}

// sync builds the table and then reports what it holds as ready: never before.
func (c *controller) sync(ctx context.Context) error {
	all, err := c.objects.List(labels.Everything())
	if err != nil {
		return err
	}
	var own []*v1alpha1.Ingress
	for _, o := range all {
		if o.Annotations[networking.IngressClassAnnotationKey] == c.class && o.DeletionTimestamp == nil {
			own = append(own, o)
		}
	}
	next := newTable(own)
	c.table.Store(&next)
	var errs []error
	for _, o := range own {
		if o.IsReady() && o.Status.ObservedGeneration == o.Generation {
			continue
		}
		o = o.DeepCopy()
		o.Status.InitializeConditions()
		o.Status.MarkNetworkConfigured()
		balancer := []v1alpha1.LoadBalancerIngressStatus{{DomainInternal: c.internal}}
		o.Status.MarkLoadBalancerReady(balancer, balancer)
		o.Status.ObservedGeneration = o.Generation
		if _, err := c.knative.NetworkingV1alpha1().Ingresses(o.Namespace).UpdateStatus(ctx, o, metav1.UpdateOptions{}); err != nil {
			errs = append(errs, fmt.Errorf("status of %s/%s: %w", o.Namespace, o.Name, err))
		}
	}
	return errors.Join(errs...)
}

// endpoints gives the ready addresses behind a split, and whether they speak
// HTTP/2 without TLS.
func (c *controller) endpoints(s *v1alpha1.IngressBackendSplit) (addresses []string, h2c bool) {
	service, err := c.services.Services(s.ServiceNamespace).Get(s.ServiceName)
	if err != nil {
		return nil, false
	}
	var port *corev1.ServicePort
	for i, p := range service.Spec.Ports {
		if p.Name == s.ServicePort.StrVal || p.Port == s.ServicePort.IntVal {
			port = &service.Spec.Ports[i]
		}
	}
	if port == nil {
		return nil, false
	}
	h2c = port.Name == networking.ServicePortNameH2C || (port.AppProtocol != nil && *port.AppProtocol == "kubernetes.io/h2c")
	of := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service.Name})
	all, err := c.slices.EndpointSlices(service.Namespace).List(of)
	if err != nil {
		return nil, false
	}
	for _, slice := range all {
		for _, p := range slice.Ports {
			if p.Port == nil || p.Name == nil || *p.Name != port.Name {
				continue
			}
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready != nil && !*e.Conditions.Ready {
					continue
				}
				for _, a := range e.Addresses {
					addresses = append(addresses, net.JoinHostPort(a, strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	return addresses, h2c
}
