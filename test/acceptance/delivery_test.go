package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/prediction"
)

const noImages = "a pod of one machine is a process, which mounts no image and has no init container"

// The overlay whose classifier has its model as an OCI image volume, by digest,
// and what the revision says of a digest that is wrong.
func TestModelInVolume(t *testing.T) {
	t.Parallel()
	k := clusterOnly(t, shared, noImages)
	nodes, err := list[struct {
		Status struct {
			NodeInfo struct{ ContainerRuntimeVersion string }
		}
	}](t.Context(), k.in(""), "Node")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		var major int
		version := n.Status.NodeInfo.ContainerRuntimeVersion
		if _, err := fmt.Sscanf(version, "containerd://%d.", &major); err == nil && major < 2 {
			t.Skipf("only on containerd 2 and later, the node has %s, which mounts no images: make e2e CONTAINERD=2", version)
		}
	}
	at, services := overlaid(t, k, "e2e-volume")
	wantTitle(t, at)

	o, err := variant(services["title"], "mistaken", regexp.MustCompile(`("reference":"[^"@]*@)[^"]*`), wrongDigest, "45s") // changedImage says why so soon
	if err == nil {
		err = at.apply(t.Context(), []map[string]any{o})
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the revision to say why it is not ready", func() string {
		s := at.service(t, "mistaken")
		if s.Status.LatestCreatedRevisionName == "" {
			return "there is none"
		}
		if s.Status.LatestReadyRevisionName != "" {
			t.Fatalf("ready with a model that is not there: %+v", s.Status)
		}
		all := at.conditions(t, "Revision", s.Status.LatestCreatedRevisionName)
		for _, c := range all {
			if c.Status == "False" && strings.Contains(c.Message, wrongDigest) {
				return ""
			}
		}
		return fmt.Sprintf("%+v", all)
	})
}

// The overlay whose init container checks the model's digest and copies it, and
// what its pod says of a digest that is wrong (of the classifier's own digest
// see TestWrongModelDigest).
func TestModelDelivered(t *testing.T) {
	t.Parallel()
	k := clusterOnly(t, shared, noImages)
	at, services := overlaid(t, k, "e2e-deliver")
	wantTitle(t, at)

	o, err := variant(services["title"], "undelivered", regexp.MustCompile(`("name":"DIGEST","value":")[^"]*`), wrongDigest, "120s") // the component's own
	if err == nil {
		err = at.apply(t.Context(), []map[string]any{o})
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the pod to say why it does not start", func() string {
		if s := service(t, at, "undelivered"); s.Ready || s.Pods > 0 {
			t.Fatalf("ready with a model that nobody asked for: %+v", s)
		}
		if text := lastWords(t, at, "undelivered"); !strings.Contains(text, `the manifest wants "`+wrongDigest) {
			return fmt.Sprintf("it says %q", text)
		}
		return ""
	})
}

// overlaid deploys one of manifests/overlays into a namespace of its own, with
// the feature flags that it ships, and takes both back when the test ends. It
// gives the overlay's services by name.
func overlaid(t *testing.T, k *cluster, overlay string) (*cluster, map[string]map[string]any) {
	t.Helper()
	if !k.config.Ours {
		t.Skip("only on a cluster of the suite's own: the overlay changes Knative's feature flags")
	}
	at := k.in("aisle-" + overlay)
	objects, err := k.shipped("../../manifests/overlays/" + overlay)
	if err != nil {
		t.Fatal(err)
	}
	own := []map[string]any{}
	services := map[string]map[string]any{}
	for _, o := range objects {
		meta := o["metadata"].(map[string]any)
		switch {
		case ofController(o): // there is one already
			continue
		case meta["name"] == "config-features":
			at.set(t, o)
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
	if err := at.removeNamespaces(t.Context(), at.namespace); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := at.removeNamespaces(context.Background(), at.namespace); err != nil {
			t.Error(err)
		}
	})
	at.deploy(t, own)
	return at, services
}

// set has one of Knative's settings, a ConfigMap, until the test ends. Its field
// manager is that of this namespace alone: what it set goes with it, and nothing
// else.
func (c *cluster) set(t *testing.T, setting map[string]any) {
	t.Helper()
	t.Cleanup(func() {
		setting["data"] = map[string]any{}
		if err := c.apply(context.Background(), []map[string]any{setting}); err != nil {
			t.Error("put Knative's settings back:", err)
		}
	})
	if err := c.apply(t.Context(), []map[string]any{setting}); err != nil {
		t.Fatal(err)
	}
}

// deploy applies objects and returns once the services of this namespace are
// ready.
func (c *cluster) deploy(t *testing.T, objects []map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The webhook refuses what a flag allows until it has seen the flag.
	err := retried(ctx, func() error { return c.apply(ctx, inOrder(objects)) })
	if err == nil {
		err = c.awaitServices(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
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

// variant is a service under another name and with another value after what a
// pattern's group matches in its JSON, once; its revision proves itself with a pod
// by a deadline.
func variant(service map[string]any, name string, was *regexp.Regexp, value, deadline string) (o map[string]any, err error) {
	text, err := json.Marshal(service)
	if err != nil {
		return nil, err
	}
	if n := len(was.FindAll(text, -1)); n != 1 {
		return nil, fmt.Errorf("%s is in the service %d times, want once", was, n)
	}
	if err := json.Unmarshal(was.ReplaceAll(text, []byte("${1}"+value)), &o); err != nil {
		return nil, err
	}
	o["metadata"].(map[string]any)["name"] = name
	template := o["spec"].(map[string]any)["template"].(map[string]any)["metadata"].(map[string]any)
	maps.Copy(template["annotations"].(map[string]any), map[string]any{"autoscaling.knative.dev/initial-scale": "1", "serving.knative.dev/progress-deadline": deadline})
	return o, nil
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
