package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/internal/client"
)

// serviceViews are the services as the command line's tables show them.
func (c *control) serviceViews() []client.Service {
	byService := map[types.NamespacedName][]*revision{}
	for _, r := range c.running() {
		name := types.NamespacedName{Namespace: r.spec.Namespace, Name: r.spec.Service}
		byService[name] = append(byService[name], r)
	}
	all := []client.Service{}
	for _, ks := range list[*servingv1.Service](c.store, objects.Services) {
		running := byService[types.NamespacedName{Namespace: ks.Namespace, Name: ks.Name}]
		all = append(all, serviceView(ks, running))
	}
	return all
}

// serviceView is one of them. It is ready unless a reason is known why a
// request would fail, or why what was asked for last does not serve.
func serviceView(ks *servingv1.Service, running []*revision) client.Service {
	v := client.Service{
		Namespace: ks.Namespace, Name: ks.Name, URL: ks.Status.URL.String(), Ready: true,
		LatestRevision: cmp.Or(ks.Status.LatestReadyRevisionName, ks.Status.LatestCreatedRevisionName),
		LatestCreated:  ks.Status.LatestCreatedRevisionName, Created: ks.CreationTimestamp.Time, Image: ks.Spec.Template.Spec.Containers[0].Image,
	}
	if ready := ks.Status.GetCondition(servingv1.ServiceConditionReady); ready.IsFalse() {
		v.Ready, v.Reason = false, strings.TrimSpace(ready.GetMessage())
	}
	for _, r := range running {
		r.mu.Lock()
		count := r.count()
		v.Pods += count.Ready
		if r.trouble != "" && count.Ready == 0 && r.reached {
			v.Ready, v.Reason = false, r.trouble
			if r.failures > 1 {
				v.Reason = fmt.Sprintf("%d pods failed in a row, the last one: %s", r.failures, r.trouble)
			}
		}
		r.mu.Unlock()
	}
	return v
}

// revisionViews are the revisions as the tables show them, those at rest and
// out of reach too.
func (c *control) revisionViews() []client.Revision {
	all := []client.Revision{}
	running := map[string]bool{}
	for _, r := range c.running() {
		all = append(all, r.view())
		running[r.spec.Namespace+"/"+r.name] = true
	}
	for _, rev := range list[*servingv1.Revision](c.store, objects.Revisions) {
		if !running[rev.Namespace+"/"+rev.Name] {
			all = append(all, client.Revision{
				Namespace: rev.Namespace, Name: rev.Name, Service: serviceOf(rev).Name,
				Image: rev.Spec.Containers[0].Image, Why: "no route leads to it",
			})
		}
	}
	slices.SortStableFunc(all, func(a, b client.Revision) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return all
}

// count counts the pods by phase. REQUIRES: r.mu is held.
func (r *revision) count() client.Revision {
	v := client.Revision{
		Namespace: r.spec.Namespace, Name: r.name, Service: r.spec.Service, Image: r.spec.Image,
		Want: r.decision.Want, Why: r.decision.Why, Since: r.since,
		MinScale: r.decider.MinScale(), MaxScale: r.decider.MaxScale(),
	}
	for _, p := range r.pods {
		switch p.phase {
		case phasePending, phaseStarting, phaseUnready:
			v.Starting++
		case phaseReady:
			v.Ready++
		case phaseDraining:
			v.Draining++
		}
	}
	return v
}

// view is how the revision stands, for those who ask.
func (r *revision) view() client.Revision {
	waiting, held := r.lane.Counts()
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.count()
	v.Waiting, v.Concurrency = waiting, float64(waiting+held)
	return v
}
