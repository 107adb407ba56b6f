package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// api is a place's Kubernetes protocol, over plain HTTP: that of a cluster's API
// server, or of the engine's socket.
type api struct {
	namespace string // of the services that tests name
	server    string
	token     string
	http      *http.Client
	image     string // of the fixture
	ours      bool   // Knative's own settings may be changed
}

func (c *api) objects() *api { return c }

// errNotFound is in the chain of a 404.
var errNotFound = errors.New("not found")

// ask sends one request to the API server and decodes its answer.
func (c *api) ask(ctx context.Context, method, path, contentType string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w", method, path, errNotFound)
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	case into == nil:
		return nil
	}
	return json.Unmarshal(text, into)
}

// resource gives the path of an object, or of its kind's list without a name.
func resource(kind, namespace, name string) (string, error) {
	const rbac = "/apis/rbac.authorization.k8s.io/v1"
	groups := map[string]string{
		"Namespace": "/api/v1", "Node": "/api/v1", "ConfigMap": "/api/v1", "Pod": "/api/v1", "NetworkPolicy": "/apis/networking.k8s.io/v1",
		"Service": "/apis/serving.knative.dev/v1", "Revision": "/apis/serving.knative.dev/v1",
		"Broker": "/apis/eventing.knative.dev/v1", "Trigger": "/apis/eventing.knative.dev/v1", "PingSource": "/apis/sources.knative.dev/v1",
		"ScalingSchedule": "/apis/scaling.aisle.dev/v1alpha1",
		// of the controller
		"CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1", "ServiceAccount": "/api/v1", "Deployment": "/apis/apps/v1",
		"ClusterRole": rbac, "ClusterRoleBinding": rbac, "Role": rbac, "RoleBinding": rbac,
	}
	group, ok := groups[kind]
	if !ok {
		return "", fmt.Errorf("the suite deploys no %s", kind)
	}
	plural := map[string]string{"NetworkPolicy": "networkpolicies"}[kind]
	if plural == "" {
		plural = strings.ToLower(kind) + "s"
	}
	if namespace != "" {
		group += "/namespaces/" + namespace
	}
	return strings.TrimSuffix(group+"/"+plural+"/"+name, "/"), nil
}

// ofWholeCluster are the kinds that are in no namespace.
var ofWholeCluster = map[string]bool{"Namespace": true, "CustomResourceDefinition": true, "ClusterRole": true, "ClusterRoleBinding": true}

// apply applies objects server-side. Those without a namespace go to the
// suite's; Knative's settings are changed in a cluster of our own alone.
func (c *api) apply(ctx context.Context, objects []map[string]any) error {
	for _, o := range objects {
		kind, _ := o["kind"].(string)
		meta, _ := o["metadata"].(map[string]any)
		name, _ := meta["name"].(string)
		namespace, _ := meta["namespace"].(string)
		switch {
		case ofWholeCluster[kind]:
		case namespace == "":
			namespace = c.namespace
		case namespace == "knative-serving" && !c.ours:
			continue
		}
		path, err := resource(kind, namespace, name)
		if err != nil {
			return err
		}
		text, err := json.Marshal(o)
		if err != nil {
			return err
		}
		// A manager for each namespace: one who applies a ConfigMap of Knative's
		// again takes away the settings that it gave before.
		q := url.Values{"fieldManager": {c.namespace}, "force": {"true"}, "fieldValidation": {"Strict"}}
		if err := c.ask(ctx, http.MethodPatch, path+"?"+q.Encode(), "application/apply-patch+yaml", text, nil); err != nil {
			return err
		}
	}
	return nil
}

// service gives a service as the API server holds it.
func (c *api) service(t *testing.T, name string) (s serviceObject) {
	t.Helper()
	path, err := resource("Service", c.namespace, name)
	if err == nil {
		err = c.ask(t.Context(), http.MethodGet, path, "", nil, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// changed deploys a fixture service of a test's own with these settings of its
// pod, sharing traffic as told.
func (c *api) changed(ctx context.Context, name string, env map[string]string, traffic []map[string]any) error {
	return c.changedImage(ctx, name, c.image, env, traffic)
}

// scaled deploys one that scales by annotations.
func (c *api) scaled(ctx context.Context, name string, annotations, env map[string]string) error {
	return c.deploy(ctx, name, c.image, annotations, env, nil)
}

// changedImage does so with any image.
func (c *api) changedImage(ctx context.Context, name, image string, env map[string]string, traffic []map[string]any) error {
	return c.deploy(ctx, name, image, nil, env, traffic)
}

func (c *api) deploy(ctx context.Context, name, image string, annotations, env map[string]string, traffic []map[string]any) error {
	type object = map[string]any
	var vars []object
	for _, k := range slices.Sorted(maps.Keys(env)) {
		vars = append(vars, object{"name": k, "value": env[k]})
	}
	// A revision proves itself with a pod before it gets requests. Knative
	// looks at why a pod fails when the deadline passes, and a container that
	// ends at once must have been started again by then.
	all := map[string]string{"autoscaling.knative.dev/initial-scale": "1", "serving.knative.dev/progress-deadline": "45s"}
	maps.Copy(all, annotations)
	spec := object{"template": object{
		"metadata": object{"annotations": all},
		"spec": object{"containerConcurrency": 0, "timeoutSeconds": 90, "containers": []object{{
			"image": image, "env": vars, "readinessProbe": object{"httpGet": object{"path": "/readyz"}},
		}}},
	}}
	if traffic != nil {
		spec["traffic"] = traffic
	}
	o := object{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": object{"name": name}, "spec": spec}
	var plain map[string]any // of JSON's types alone
	text, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(text, &plain)
	}
	return errors.Join(err, c.apply(ctx, []map[string]any{plain}))
}

// conditions are those of one object; kinds without a namespace are asked for
// in none.
func (c *api) conditions(t *testing.T, kind, name string) []condition {
	t.Helper()
	namespace := c.namespace
	if kind == "Node" {
		namespace = ""
	}
	var o struct {
		Status struct{ Conditions []condition }
	}
	path, err := resource(kind, namespace, name)
	if err == nil {
		err = c.ask(t.Context(), http.MethodGet, path, "", nil, &o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o.Status.Conditions
}

func (c *api) awaitReadyObject(t *testing.T, kind, name string) {
	t.Helper()
	await(t, kind+" "+name+" to be ready", func() string {
		if cond := ready(c.conditions(t, kind, name)); cond.Status != "True" {
			return fmt.Sprintf("%+v", cond)
		}
		return ""
	})
}
