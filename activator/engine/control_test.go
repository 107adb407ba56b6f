package engine

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/activator/engine/clock/clocktest"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/activator/engine/slots"
	"aisle.dev/aisle/activator/engine/usage"
	"aisle.dev/aisle/internal/manifest"
)

// settings let services begin at zero. A later revision has to prove itself,
// and never does: its program ends at once.
const settings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler, namespace: knative-serving}
data: {allow-zero-initial-scale: "true", initial-scale: "0"}
---
apiVersion: aisle.dev/v1alpha1
kind: ImageMap
metadata: {name: images}
images: [{image: test.example/one, command: [/bin/true]}]
`

// oneService is a Service with a variable.
func oneService(version string) string {
	return strings.ReplaceAll(`
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: one}
spec: {template: {spec: {containers: [{image: test.example/one, env: [{name: VERSION, value: "N"}]}]}}}
`, "N", version)
}

func read(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	raw, err := manifest.Read("the test", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// controlling runs a control on a folder of objects after it has applied
// manifests as `aisle up` does. It must be stopped.
func controlling(t *testing.T, dir, manifests string) *control {
	t.Helper()
	return controllingAt(t, clocktest.At(time.Now()), dir, t.TempDir(), manifests)
}

// controllingAt does so by a clock, with lead times and the audit log in a folder.
func controllingAt(t *testing.T, now *clocktest.Clock, dir, leads, manifests string) *control {
	t.Helper()
	registry := prometheus.NewRegistry()
	metrics, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{opts: Options{DataDir: t.TempDir(), Registry: registry}, log: slog.New(slog.DiscardHandler), metrics: metrics, gpus: slots.New([]string{"0"}), hurry: make(chan struct{})}
	if e.machine, _, err = pod.NewMachine(t.TempDir(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.machine.Close)
	if e.usage, err = usage.Open(t.TempDir(), usage.System(), e.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.usage.Close)
	if e.audit, err = audit.Open(leads); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.audit.Close() }) // what it has written is synced
	store, damaged, err := objects.Open(dir)
	if err != nil || len(damaged) > 0 {
		t.Fatal(err, damaged)
	}
	e.control, e.events = newControl(t.Context(), e, store, newSchedules(now, newLeads(leads, now.Now, e.log))), &events{engine: e}
	set, err := manifest.Check(read(t, manifests), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.control.sync(set); err != nil {
		t.Fatal(err)
	}
	if err := e.control.start(); err != nil {
		t.Fatal(err)
	}
	return e.control
}

// versions are the templates of the Service's revisions, by their names.
func versions(c *control) map[string]string {
	all := map[string]string{}
	for _, rev := range list[*servingv1.Revision](c.store, objects.Revisions) {
		all[rev.Name] = rev.Spec.Containers[0].Env[0].Value
	}
	return all
}

// The revisions of a Service that was deleted are not those of the next of its
// name, where a crash came before they were deleted too.
func TestRevisionsOfAnEarlierService(t *testing.T) {
	dir := t.TempDir()
	c := controlling(t, dir, settings+"---"+oneService("old"))
	if _, _, _, err := c.Apply(access.Caller{}, read(t, oneService("older"))[0], false); err != nil {
		t.Fatal(err)
	}
	c.stop()
	if got := versions(c); len(got) != 2 {
		t.Fatalf("revisions %v, want two", got)
	}
	key := objects.Services.Key("default", "one")
	if err := os.Remove(filepath.Join(dir, key.GroupResource().String(), "default", "one.json")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and it stays so
		c = controlling(t, dir, settings+"---"+oneService("new"))
		if got := versions(c); len(got) != 1 || got["one-00001"] != "new" {
			t.Errorf("revisions %v, want one of the new template", got)
		}
		r := c.services[types.NamespacedName{Namespace: "default", Name: "one"}].running["one-00001"]
		if r == nil || r.object.Spec.Containers[0].Env[0].Value != "new" {
			t.Error("another one runs")
		}
		c.stop()
	}
}

// What somebody applies is theirs, and no longer what a folder has left behind.
func TestApplyOfWhatTheFolderHasLeftBehind(t *testing.T) {
	const settled = `
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {a: b}
`
	dir := t.TempDir()
	uses := strings.Replace(oneService("1"), "env:", "envFrom: [{configMapRef: {name: words}}], env:", 1)
	controlling(t, dir, settings+"---"+settled+"---"+uses).stop()
	c := controlling(t, dir, settings+"---"+strings.ReplaceAll(settled+"---"+uses, "words", "others"))
	defer c.stop()
	key := objects.ConfigMaps.Key("default", "words")
	if origin, ok := c.store.Origin(key); !ok || !origin.Orphan {
		t.Fatalf("it is not kept for the revision: %+v, %v", origin, ok)
	}
	if _, _, _, err := c.Apply(access.Caller{}, read(t, settled)[0], false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(access.Caller{}, objects.Services.Key("default", "one")); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.store.Get(key).(*corev1.ConfigMap); !ok {
		t.Error("what was applied is gone with the revision that used it")
	}
}

// proven waits until the only Service's first revision is ready, and gives its
// runner.
func proven(t *testing.T, c *control) *revision {
	t.Helper()
	for {
		found, version := c.store.List(objects.Revisions, "default")
		if len(found) == 1 && found[0].(*servingv1.Revision).IsReady() {
			break
		}
		_, now, changed, err := c.store.Since(version)
		if err != nil {
			t.Fatal(err)
		}
		if now == version {
			<-changed
		}
	}
	c.mu.Lock() // it follows from what has been seen
	defer c.mu.Unlock()
	return c.services[types.NamespacedName{Namespace: "default", Name: "one"}].running["one-00001"]
}

// A revision that nothing leads to is given up when the last request has left
// it, though that one waited for a pod of another revision; and events that are
// another revision's keep no pod of it.
func TestGivenUpAfterTheLastRequest(t *testing.T) {
	c := controlling(t, t.TempDir(), settings+"---"+oneService("1"))
	r := proven(t, c)
	c.stop() // from here on the test decides for it
	if !r.gate.enter() {
		t.Fatal("it takes no requests")
	}
	r.backlog.Store(7)
	r.reach(false)
	now := time.Now()
	next := r.decide(now)
	if s, _ := c.current(r); s == nil || !next.After(now) {
		t.Fatalf("given up with a request in it (%v), or not looked at again (%v)", s == nil, next)
	}
	if n := r.backlog.Load(); n != 0 {
		t.Errorf("%d events wait for it", n)
	}
	r.gate.leave()
	next = r.decide(next)
	if s, _ := c.current(r); s != nil || !next.IsZero() {
		t.Errorf("it is kept (%v) and looked at again (%v)", s != nil, next)
	}
}

// GPUs are not given back to a revision that is no more.
func TestSwapBackToADeletedService(t *testing.T) {
	onGPU := strings.Replace(oneService("1"), "env:", "resources: {limits: {nvidia.com/gpu: 1}}, env:", 1)
	c := controlling(t, t.TempDir(), settings+"---"+onGPU)
	defer c.stop()
	before := proven(t, c)
	gpus := c.engine.gpus
	claim := gpus.Ask("default/one-00002-pod", 1)
	after := &revision{givers: []*revision{before}}
	if _, err := c.Delete(access.Caller{}, objects.Services.Key("default", "one")); err != nil {
		t.Fatal(err)
	}
	<-before.ended
	c.swapBack(after, claim)
	claim.Release()
	next := gpus.Ask("default/next", 1)
	defer next.Release()
	select {
	case <-next.Granted():
	default:
		t.Errorf("a pod of another service %s", next.Pending())
	}
}

// Who watches Brokers is told of the one that was applied, and not of all.
func TestApplyTellsOfOneBroker(t *testing.T) {
	const broker = `{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: NAME}}`
	c := controlling(t, t.TempDir(), settings+"---"+oneService("1"))
	c.engine.opts.DataDir, c.engine.opts.Registry = t.TempDir(), prometheus.NewRegistry()
	defer func() {
		c.engine.events.rest()
		c.stop()
		if err := c.engine.events.close(); err != nil {
			t.Error(err)
		}
	}()
	apply := func(name string) {
		t.Helper()
		if _, _, _, err := c.Apply(access.Caller{}, read(t, strings.ReplaceAll(broker, "NAME", name))[0], false); err != nil {
			t.Fatal(err)
		}
	}
	apply("first")
	first := c.store.Get(objects.Brokers.Key("default", "first")).(*unstructured.Unstructured).DeepCopy()
	conditions, _, _ := unstructured.NestedSlice(first.Object, "status", "conditions")
	for _, of := range conditions {
		of.(map[string]any)["lastTransitionTime"] = "2026-01-01T00:00:00Z" // long ago
	}
	if err := unstructured.SetNestedSlice(first.Object, conditions, "status", "conditions"); err != nil {
		t.Fatal(err)
	}
	c.store.Show(c.store.Put(first))
	_, version := c.store.List(objects.Brokers, "")
	apply("second")
	events, _, _, err := c.store.Since(version)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Key.Name == "first" {
			t.Errorf("%s %s: nothing has changed", e.Type, e.Key)
		}
	}
	if ready, _, _ := unstructured.NestedSlice(c.store.Get(objects.Brokers.Key("default", "second")).(*unstructured.Unstructured).Object, "status", "conditions"); len(ready) == 0 {
		t.Error("the second has no conditions")
	}
}

// That limits are not enforced is told of Services that have some.
func TestLimited(t *testing.T) {
	for limits, want := range map[string]bool{
		"": false, "resources: {requests: {memory: 64Mi}}": false, `resources: {limits: {"nvidia.com/gpu": "1"}}`: false,
		"resources: {limits: {cpu: 500m}}": true, "resources: {limits: {memory: 64Mi}}": true,
	} {
		text := strings.Replace(oneService("1"), "env: [", limits+", env: [", 1)
		if limits == "" {
			text = oneService("1")
		}
		set, err := manifest.Check(read(t, settings+"---"+text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := limited(set.Services[0]); got != want {
			t.Errorf("%q is limited: %v", limits, got)
		}
	}
}

// What could not be written is written when it can be.
func TestUnsaved(t *testing.T) {
	dir := t.TempDir()
	c := controlling(t, dir, settings+"---"+oneService("1"))
	t.Cleanup(c.stop)
	name := types.NamespacedName{Namespace: "default", Name: "one"}
	folder := filepath.Join(dir, objects.Revisions.GroupResource().String())
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil { // no file can be made within
		t.Fatal(err)
	}
	c.proven(c.services[name].running["one-00001"])
	c.save()
	c.mu.Lock()
	if c.unsaved.timer == nil || c.unsaved.wait <= firstSave {
		t.Errorf("nothing is tried again: %+v", c.unsaved)
	}
	c.mu.Unlock()
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder+".away", folder); err != nil {
		t.Fatal(err)
	}
	c.save()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsaved.keys != nil || c.unsaved.timer != nil {
		t.Errorf("left: %+v", c.unsaved)
	}
	kept, _, err := objects.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if rev := kept.Get(objects.Revisions.Key("default", "one-00001")).(*servingv1.Revision); !rev.IsReady() {
		t.Errorf("the disk has %+v", rev.Status)
	}
}

// An engine at another port says so of every Service, and writes none of them.
func TestAnotherPort(t *testing.T) {
	dir := t.TempDir()
	c := controlling(t, dir, settings+"---"+oneService("1"))
	defer c.stop()
	proven(t, c)
	key := objects.Services.Key("default", "one")
	file := filepath.Join(dir, key.GroupResource().String(), "default", "one.json")
	at := func(address string) (url, kept string) {
		t.Helper()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.engine.version.Address = address
		if err := c.follow(one); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return c.store.Get(key).(*servingv1.Service).Status.URL.String(), string(text)
	}
	_, before := at("127.0.0.1:8080")
	url, after := at("127.0.0.1:9090")
	if url != "http://one.default.localhost:9090" || after != before {
		t.Errorf("it is at %s, and kept\n%s\nwhere there was\n%s", url, after, before)
	}
}

// A Service whose revision the settings do not allow any more says so after a
// restart, and serves again once they do.
func TestSpoiltBySettings(t *testing.T) {
	dir := t.TempDir()
	limited := func(most string) string {
		return strings.Replace(settings, `initial-scale: "0"}`, `initial-scale: "0", max-scale: "`+most+`"}`, 1)
	}
	bounded := "---" + strings.Replace(oneService("1"), "template: {", `template: {metadata: {annotations: {autoscaling.knative.dev/min-scale: "3"}}, `, 1)
	for _, tt := range []struct {
		most   string
		status corev1.ConditionStatus
		says   string
	}{
		{"0", corev1.ConditionUnknown, ""},
		{"2", corev1.ConditionFalse, "revision one-00001 cannot run: scale revision default/one-00001: min-scale 3 is above max-scale 2; change the Service or config-autoscaler"},
		{"4", corev1.ConditionUnknown, ""},
	} {
		c := controlling(t, dir, limited(tt.most)+bounded)
		ready := c.store.Get(objects.Services.Key("default", "one")).(*servingv1.Service).Status.GetCondition(apis.ConditionReady)
		if ready.Status != tt.status || !strings.Contains(ready.Message, tt.says) {
			t.Errorf("max-scale %s: Ready is %+v", tt.most, ready)
		}
		if runs := c.services[one].running["one-00001"] != nil; runs == (tt.status == corev1.ConditionFalse) {
			t.Errorf("max-scale %s: it runs: %v", tt.most, runs)
		}
		c.stop()
	}
}
