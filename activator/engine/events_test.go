package engine

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/engine/route"
	"aisle.dev/aisle/internal/manifest"
)

// The broker delivers as much at once as ready pods take, one event to a
// service at zero, and leaves hosts of others to themselves; what waits for it
// is load of the revisions by their shares, within the bound of the proxy's
// own line.
func TestSubscribers(t *testing.T) {
	old, latest := calling(t, &manifest.Template{Timeout: time.Minute, ContainerConcurrency: 3}), calling(t, &manifest.Template{Timeout: time.Minute})
	c := new(control)
	c.routes.Store(&table{"one.default": {shares: []route.Share{{Revision: "a", Percent: 75}, {Revision: "b", Percent: 25}}, revisions: []*revision{old, latest}}})
	places := func(want int) {
		t.Helper()
		if got := c.Places("one.default.svc.cluster.local"); got != want {
			t.Errorf("%d places, want %d", got, want)
		}
	}
	places(1)
	old.pods = append(old.pods, open(t, old, "127.0.0.1:1"), open(t, old, "127.0.0.1:2"))
	places(6)
	latest.pods = append(latest.pods, open(t, latest, "127.0.0.1:3"))
	places(106) // Knative's default target of requests at once
	if got := c.Places("elsewhere.example"); got != 0 {
		t.Errorf("%d places at a host of others", got)
	}
	c.Waiting("elsewhere.example", 5)
	for waiting, want := range map[int][2]int64{0: {0, 0}, 8: {6, 2}, 1 << 40: {queueDepth * 3 / 4, queueDepth / 4}} {
		c.Waiting("one.default.localhost:8080", waiting)
		if got := [2]int64{old.backlog.Load(), latest.backlog.Load()}; got != want {
			t.Errorf("%d waiting: %v, want %v", waiting, got, want)
		}
	}
}

// eventing has a Trigger and a clock to the Service one, and the Trigger's dead
// letters go to the Service two.
const eventing = `
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: shop}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: sort}
spec:
  broker: shop
  subscriber: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: one}}
  delivery: {deadLetterSink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: two}}}
---
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {name: clock}
spec:
  schedule: "0 0 1 1 *"
  sink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: one}}
`

// eventful is [controlling] with a broker, until the test ends.
func eventful(t *testing.T, manifests string) *control {
	t.Helper()
	c := controlling(t, t.TempDir(), manifests)
	t.Cleanup(func() {
		c.engine.events.rest()
		c.stop()
		if err := c.engine.events.close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.startEvents(); err != nil {
		t.Fatal(err)
	}
	return c
}

// untrue are the conditions of an object that are not true, by their types.
func untrue(t *testing.T, c *control, r objects.Resource, name string) map[string]string {
	t.Helper()
	o := c.store.Get(r.Key("default", name)).(*unstructured.Unstructured)
	conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string]string{}
	for _, v := range conditions {
		if v := v.(map[string]any); v["status"] != "True" {
			message, _ := v["message"].(string)
			bad[v["type"].(string)] = message
		}
	}
	return bad
}

// Who sends to a Service that is not there is not ready, says why, and becomes
// ready when it comes.
func TestResolved(t *testing.T) {
	c := eventful(t, settings+"---"+eventing)
	apply := func(text string) {
		t.Helper()
		if _, _, _, err := c.Apply(access.Caller{}, read(t, text)[0], false); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if _, err := c.Delete(access.Caller{}, objects.Services.Key("default", name)); err != nil {
			t.Fatal(err)
		}
	}
	says := func(r objects.Resource, name string, want map[string]string) {
		t.Helper()
		got := untrue(t, c, r, name)
		delete(got, "Ready")
		right := len(got) == len(want)
		for condition, part := range want {
			right = right && strings.Contains(got[condition], part)
		}
		if !right {
			t.Errorf("%s %s: conditions %v, want %v", r.Kind, name, got, want)
		}
		if ready := untrue(t, c, r, name)["Ready"]; (ready != "") != (len(want) > 0) {
			t.Errorf("%s %s: ready is %q", r.Kind, name, ready)
		}
	}
	two := strings.ReplaceAll(oneService("1"), "name: one", "name: two")
	says(objects.Triggers, "sort", map[string]string{"SubscriberResolved": "default/one", "DeadLetterSinkResolved": "default/two"})
	says(objects.PingSources, "clock", map[string]string{"SinkProvided": "default/one"})
	apply(oneService("1"))
	says(objects.Triggers, "sort", map[string]string{"DeadLetterSinkResolved": "default/two"})
	says(objects.PingSources, "clock", nil)
	apply(two)
	says(objects.Triggers, "sort", nil)
	remove("one")
	says(objects.Triggers, "sort", map[string]string{"SubscriberResolved": "default/one"})
	says(objects.PingSources, "clock", map[string]string{"SinkProvided": "default/one"})
}
