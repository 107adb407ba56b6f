package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"aisle.dev/aisle/internal/prediction"
)

const noImages = "a pod of one machine is a process, which mounts no image and has no init container"

// The overlay whose classifier has its model as an OCI image volume, by digest.
func TestModelInVolume(t *testing.T) {
	t.Parallel()
	k := clusterOnly(t, shared, noImages)
	var nodes struct {
		Items []struct {
			Status struct {
				NodeInfo struct{ ContainerRuntimeVersion string }
			}
		}
	}
	if err := k.ask(t.Context(), http.MethodGet, "/api/v1/nodes", "", nil, &nodes); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Items {
		var major int
		version := n.Status.NodeInfo.ContainerRuntimeVersion
		if _, err := fmt.Sscanf(version, "containerd://%d.", &major); err == nil && major < 2 {
			t.Skipf("only on containerd 2 and later, the node has %s, which mounts no images: make e2e CONTAINERD=2", version)
		}
	}
	at, _ := overlaid(t, k, "e2e-volume")
	wantTitle(t, at)
}

// The overlay whose init container checks the model's digest and copies it, and
// what is said of a digest that is wrong: of the init container's by its pod
// alone, of the classifier's by the revision too.
func TestModelDelivered(t *testing.T) {
	t.Parallel()
	k := clusterOnly(t, shared, noImages)
	at, services := overlaid(t, k, "e2e-deliver")
	wantTitle(t, at)

	wrong := "sha256:" + strings.Repeat("0", 64)
	for name, variable := range map[string]string{"undelivered": "DIGEST", "refused": "MODEL_DIGEST"} {
		o, err := variant(services["title"], name, variable, wrong)
		if err == nil {
			err = at.apply(t.Context(), []map[string]any{o})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	why := "the manifest wants \"" + wrong
	for name, said := range map[string]func(*testing.T, *cluster, string) string{"undelivered": lastWords, "refused": revisionSays} {
		await(t, name+" to say why it does not start", func() string {
			if s := service(t, at, name); s.Ready || s.Pods > 0 {
				t.Fatalf("ready with a model that nobody asked for: %+v", s)
			}
			if text := said(t, at, name); !strings.Contains(text, why) {
				return fmt.Sprintf("it says %q", text)
			}
			return ""
		})
	}
}

// overlaid deploys one of manifests/overlays into a namespace of its own, with
// the feature flags that it ships, and takes both back when the test ends. It
// gives the overlay's services by name.
func overlaid(t *testing.T, k *cluster, overlay string) (*cluster, map[string]map[string]any) {
	t.Helper()
	if !k.config.Ours {
		t.Skip("only on a cluster of the suite's own: the overlay changes Knative's feature flags")
	}
	at := *k
	at.namespace = "aisle-" + overlay
	objects, err := k.shipped("../../manifests/overlays/" + overlay)
	if err != nil {
		t.Fatal(err)
	}
	own := []map[string]any{}
	services := map[string]map[string]any{}
	for _, o := range objects {
		meta := o["metadata"].(map[string]any)
		switch {
		case meta["name"] == "config-features":
			// A field manager of its own: what it set goes with it, and nothing else.
			flags := func(ctx context.Context, data any) error {
				return k.feature(ctx, at.namespace, data)
			}
			t.Cleanup(func() {
				if err := flags(context.Background(), map[string]any{}); err != nil {
					t.Error("put the feature flags back:", err)
				}
			})
			if err := flags(t.Context(), o["data"]); err != nil {
				t.Fatal(err)
			}
			continue
		case meta["namespace"] == "knative-serving": // as the suite has set them
			continue
		case o["kind"] == "Namespace":
			meta["name"] = at.namespace
		default:
			meta["namespace"] = at.namespace
		}
		own = append(own, o)
		if o["kind"] == "Service" {
			services[meta["name"].(string)] = o
		}
	}
	if err := at.removeNamespace(t.Context()); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := at.removeNamespace(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The webhook refuses what a flag allows until it has seen the flag.
	err = retried(ctx, func() error { return at.apply(ctx, inOrder(own)) })
	if err == nil {
		err = at.awaitServices(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &at, services
}

// feature sets Knative's feature flags in the name of one manager.
func (c *cluster) feature(ctx context.Context, manager string, data any) error {
	path, err := resource("ConfigMap", "knative-serving", "config-features")
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": data, "metadata": map[string]any{"name": "config-features", "namespace": "knative-serving"},
	})
	if err != nil {
		return err
	}
	q := url.Values{"fieldManager": {manager}, "force": {"true"}}
	return c.ask(ctx, http.MethodPatch, path+"?"+q.Encode(), "application/apply-patch+yaml", text, nil)
}

// removeNamespace removes this place's and returns when it has gone.
func (c *cluster) removeNamespace(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	return retried(ctx, func() error {
		path, err := resource("Namespace", "", c.namespace)
		if err == nil {
			err = c.ask(ctx, http.MethodDelete, path, "", nil, nil)
		}
		switch {
		case err == nil:
			return fmt.Errorf("namespace %s is going", c.namespace)
		case errors.Is(err, errNotFound):
			return nil
		}
		return err
	})
}

// wantTitle asks the classifier of titles, from zero.
func wantTitle(t *testing.T, at *cluster) {
	t.Helper()
	a := call(t, at).post(t, "title", "/v1/classify", "application/json", `{"title":"Women Silver Wrist Watch"}`)
	a.want(t, http.StatusOK)
	var got prediction.Result
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Predictions) == 0 || got.Predictions[0].Label != "Watches" {
		t.Errorf("answered %+v, want Watches first", got.Predictions)
	}
}

// variant is a service under another name, with another value of a variable;
// its revision proves itself with a pod.
func variant(service map[string]any, name, variable, value string) (o map[string]any, err error) {
	text, err := json.Marshal(service)
	if err != nil {
		return nil, err
	}
	was := regexp.MustCompile(`("name":"` + variable + `","value":")[^"]*`)
	if n := len(was.FindAll(text, -1)); n != 1 {
		return nil, fmt.Errorf("%d variables are called %s", n, variable)
	}
	if err := json.Unmarshal(was.ReplaceAll(text, []byte("${1}"+value)), &o); err != nil {
		return nil, err
	}
	o["metadata"].(map[string]any)["name"] = name
	template := o["spec"].(map[string]any)["template"].(map[string]any)["metadata"].(map[string]any)
	annotations := template["annotations"].(map[string]any)
	annotations["autoscaling.knative.dev/initial-scale"] = "1"
	annotations["serving.knative.dev/progress-deadline"] = "30s" // when Knative looks why there is no pod
	return o, nil
}

// revisionSays gives the messages of the conditions of a service's revision:
// ContainerHealthy's is the container's, Ready's may be another's.
func revisionSays(t *testing.T, at *cluster, service string) string {
	t.Helper()
	all, err := list[revisionObject](t.Context(), at, "Revision")
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, r := range all {
		if r.Metadata.Labels[serviceLabel] == service {
			for _, c := range r.Status.Conditions {
				said = append(said, c.Message)
			}
		}
	}
	return strings.Join(said, "\n")
}

// lastWords gives what a service's init containers said when they ended.
func lastWords(t *testing.T, at *cluster, service string) string {
	t.Helper()
	type state struct{ Terminated struct{ Message string } }
	all, err := list[struct {
		Metadata object
		Status   struct {
			InitContainerStatuses []struct{ State, LastState state }
		}
	}](t.Context(), at, "Pod")
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, pod := range all {
		if pod.Metadata.Labels[serviceLabel] == service {
			for _, c := range pod.Status.InitContainerStatuses {
				said = append(said, c.State.Terminated.Message, c.LastState.Terminated.Message)
			}
		}
	}
	return strings.Join(said, "\n")
}
