package acceptance

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/internal/client"
)

// What the suite reads of Kubernetes' and Knative's objects.
type (
	object struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
		DeletionTimestamp   *time.Time
		CreationTimestamp   time.Time
	}
	condition struct{ Type, Status, Reason, Message string }
	podObject struct {
		Metadata object
		Status   struct {
			Phase, PodIP string
			Conditions   []struct {
				condition
				LastTransitionTime time.Time
			}
		}
	}
	serviceObject struct {
		Metadata object
		Status   struct {
			URL, LatestCreatedRevisionName, LatestReadyRevisionName string
			Conditions                                              []condition
			ObservedGeneration                                      int64
		}
	}
	revisionObject struct {
		Metadata object
		Spec     struct{ Containers []struct{ Image string } }
		Status   struct {
			DesiredReplicas, ActualReplicas int
			Conditions                      []condition
		}
	}
)

func ready(all []condition) condition { return conditionOf(all, "Ready") }

func conditionOf(all []condition, typ string) condition {
	for _, c := range all {
		if c.Type == typ {
			return c
		}
	}
	return condition{}
}

func list[T any](ctx context.Context, c *cluster, kind string) ([]T, error) {
	path, err := resource(kind, c.namespace, "")
	if err != nil {
		return nil, err
	}
	var l struct{ Items []T }
	return l.Items, c.ask(ctx, http.MethodGet, path, "", nil, &l)
}

const (
	serviceLabel  = "serving.knative.dev/service"
	revisionLabel = "serving.knative.dev/revision"
)

// Pods implements client.Client. What a cluster does not tell (processes,
// requests in flight) stays zero.
func (c *cluster) Pods(ctx context.Context) ([]client.Pod, error) {
	all, err := list[podObject](ctx, c, "Pod")
	var pods []client.Pod
	for _, o := range all {
		p := client.Pod{
			Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Service: o.Metadata.Labels[serviceLabel], Revision: o.Metadata.Labels[revisionLabel],
			Phase: "Starting", Address: o.Status.PodIP, Started: o.Metadata.CreationTimestamp,
		}
		for _, cond := range o.Status.Conditions {
			if cond.Type == "Ready" && cond.Status == "True" {
				p.Phase, p.ReadyMs = "Ready", float64(cond.LastTransitionTime.Sub(p.Started).Milliseconds())
			}
		}
		if o.Metadata.DeletionTimestamp != nil {
			p.Phase = "Draining"
		}
		pods = append(pods, p)
	}
	return pods, err
}

// Revisions implements client.Client.
func (c *cluster) Revisions(ctx context.Context) ([]client.Revision, error) {
	all, err := list[revisionObject](ctx, c, "Revision")
	if err != nil {
		return nil, err
	}
	pods, err := c.Pods(ctx)
	var revisions []client.Revision
	for _, o := range all {
		r := client.Revision{
			Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Service: o.Metadata.Labels[serviceLabel],
			Want: o.Status.DesiredReplicas, Why: ready(o.Status.Conditions).Message,
		}
		if len(o.Spec.Containers) > 0 {
			r.Image = o.Spec.Containers[0].Image
		}
		for _, p := range pods {
			if p.Revision == r.Name {
				switch p.Phase {
				case "Ready":
					r.Ready++
				case "Draining":
					r.Draining++
				default:
					r.Starting++
				}
			}
		}
		revisions = append(revisions, r)
	}
	slices.SortFunc(revisions, func(a, b client.Revision) int { return strings.Compare(b.Name, a.Name) }) // the latest first
	return revisions, err
}

// Services implements client.Client.
func (c *cluster) Services(ctx context.Context) ([]client.Service, error) {
	all, err := list[serviceObject](ctx, c, "Service")
	if err != nil {
		return nil, err
	}
	revisions, err := c.Revisions(ctx)
	var services []client.Service
	for _, o := range all {
		cond := ready(o.Status.Conditions)
		s := client.Service{
			Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, URL: o.Status.URL, LatestRevision: o.Status.LatestCreatedRevisionName,
			Ready: cond.Status == "True", Reason: cond.Message,
		}
		for _, r := range revisions {
			if r.Service == s.Name {
				s.Pods += r.Ready
			}
		}
		services = append(services, s)
	}
	return services, err
}

// Logs implements client.Client for the container of one pod.
func (c *cluster) Logs(context.Context, io.Writer, client.LogQuery) error {
	return errors.ErrUnsupported // no test of the suite that runs here reads them
}

// Version implements client.Client.
func (c *cluster) Version(ctx context.Context) (client.Version, error) {
	var v struct{ GitVersion string }
	err := c.ask(ctx, http.MethodGet, "/version", "", nil, &v)
	return client.Version{Version: v.GitVersion, Engine: "knative", Address: c.address()}, err
}
