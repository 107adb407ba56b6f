package knative

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/client"
)

// Describe implements [client.Describer].
func (c *Cluster) Describe(ctx context.Context, kind, name string) (client.Description, error) {
	if ns, rest, ok := strings.Cut(name, "/"); ok {
		return c.In(ns).Describe(ctx, kind, rest)
	}
	services, err := c.services(ctx)
	if err != nil {
		return client.Description{}, err
	}
	revisions, err := c.revisions(ctx)
	if err != nil {
		return client.Description{}, err
	}
	scalers, err := c.autoscalers(ctx)
	if err != nil {
		return client.Description{}, err
	}
	pods, err := c.pods(ctx)
	if err != nil {
		return client.Description{}, err
	}
	views := podViews(pods)
	d, err := client.Pick(kind, c.namespace, name, serviceViews(services, views), revisionViews(revisions, scalers, views), views)
	if err != nil {
		return d, err
	}
	at := c.In(d.Namespace)
	events, err := at.events(ctx)
	if err != nil {
		d.Missing = append(d.Missing, err.Error())
	}
	begin := []string{name}
	switch kind {
	case client.KindService:
		i := slices.IndexFunc(services, func(s servingv1.Service) bool { return s.Namespace == d.Namespace && s.Name == name })
		d.Conditions = conditionViews("", services[i].Status.Conditions)
		for _, t := range services[i].Status.Traffic {
			share := client.Share{Revision: t.RevisionName, Tag: t.Tag}
			if t.Percent != nil {
				share.Percent = *t.Percent
			}
			d.Traffic = append(d.Traffic, share)
		}
		begin = nil // "title" is no part of "title-de"
		for _, r := range d.Revisions {
			begin = append(begin, r.Name)
		}
	case client.KindRevision:
		d.Conditions = revisionConditions(revisions, scalers, d.Namespace, name)
	case client.KindPod:
		i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Namespace == d.Namespace && p.Name == name })
		for _, cond := range pods[i].Status.Conditions {
			d.Conditions = append(d.Conditions, client.Condition{Type: string(cond.Type), Status: string(cond.Status), Reason: cond.Reason, Message: cond.Message, Since: cond.LastTransitionTime.Time})
		}
	}
	d.Events = eventViews(events, d.Namespace, name, begin)
	d.Model = declared(revisions, d)
	d.Listen(func(p client.Pod) (begin, end string, err error) {
		i := slices.IndexFunc(pods, func(o corev1.Pod) bool { return o.Namespace == p.Namespace && o.Name == p.Name })
		return at.words(ctx, &pods[i])
	})
	return d, ctx.Err()
}

func revisionConditions(revisions []servingv1.Revision, scalers []autoscalingv1alpha1.PodAutoscaler, namespace, name string) []client.Condition {
	var all []client.Condition
	for _, r := range revisions {
		if r.Namespace == namespace && r.Name == name {
			all = append(all, conditionViews("", r.Status.Conditions)...)
		}
	}
	for _, s := range scalers { // its Ready says nothing that the revision's does not
		if s.Namespace == namespace && s.Name == name {
			own := slices.DeleteFunc(slices.Clone(s.Status.Conditions), func(c apis.Condition) bool { return c.Type == apis.ConditionReady })
			all = append(all, conditionViews("Autoscaler", own)...)
		}
	}
	return all
}

// declared is the MODEL_DIGEST of the revision that is described, or of the
// service's latest one.
func declared(revisions []servingv1.Revision, d client.Description) string {
	name := ""
	switch {
	case d.Service != nil:
		name = d.Service.LatestRevision
	case len(d.Revisions) > 0:
		name = d.Revisions[0].Name
	}
	for _, r := range revisions {
		if r.Namespace != d.Namespace || r.Name != name {
			continue
		}
		for _, c := range r.Spec.Containers {
			for _, e := range c.Env {
				if e.Name == "MODEL_DIGEST" {
					return e.Value
				}
			}
		}
	}
	return ""
}
