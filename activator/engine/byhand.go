package engine

import (
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/hand"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/scaling"
)

var _ hand.Backend = (*control)(nil)

// State implements [hand.Backend].
func (c *control) State(namespace, service string) (hand.State, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state(types.NamespacedName{Namespace: namespace, Name: service})
}

// state is what bounds a service. REQUIRES: c.mu is held.
func (c *control) state(name types.NamespacedName) (hand.State, bool) {
	s := hand.State{Now: c.schedules.clock.Now(), Hand: c.engine.audit.Hand(name.Namespace, name.Name)}
	if c.store.Get(objects.Services.Key(name.Namespace, name.Name)) == nil {
		return s, false
	}
	if live, _ := c.aim(name, c.services[name]); live != nil {
		s.Base.Min, s.Base.Max = live.own()
	}
	if at := c.schedules.services[name]; at != nil {
		s.Lead = at.lead
		for _, of := range at.all {
			if o, ok := c.store.Get(objects.Schedules.Key(name.Namespace, of.Name())).(*scaling.ScalingSchedule); ok {
				s.Schedules = append(s.Schedules, o)
			}
		}
	}
	return s, true
}

// Services implements [hand.Backend].
func (c *control) Services() []string {
	var names []string
	for _, ks := range list[*servingv1.Service](c.store, objects.Services) {
		names = append(names, ks.Namespace+"/"+ks.Name)
	}
	return names
}

// Update implements [hand.Backend].
func (c *control) Update(namespace, service string, change func(hand.State) (hand.Change, error)) (hand.State, error) {
	name := types.NamespacedName{Namespace: namespace, Name: service}
	key := objects.Schedules.Key(namespace, scaling.HandName(service))
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.store.Get(key).(*scaling.ScalingSchedule); ok && o.Spec.Service != service {
		return hand.State{}, problem.New(http.StatusUnprocessableEntity, "the schedule %s, which bounds set by hand are written to, is one of the service %s; give that another name", o.Name, o.Spec.Service)
	}
	before, _ := c.state(name)
	wanted, err := change(before)
	if err != nil {
		return hand.State{}, err
	}
	if wanted.Schedule == nil {
		_, err = c.remove(key, wanted.Entry)
	} else {
		var content map[string]any
		if content, err = runtime.DefaultUnstructuredConverter.ToUnstructured(wanted.Schedule); err != nil {
			return hand.State{}, fmt.Errorf("scale %s: %w", name, err)
		}
		delete(content, "status")
		_, _, _, err = c.apply(&unstructured.Unstructured{Object: content}, false, wanted.Entry)
	}
	after, _ := c.state(name)
	return after, err
}
