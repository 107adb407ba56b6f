package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
)

// nodeEnv is how long the GPU node is away, such as 10m; nodeAway else. What is
// tested is the order in which things happen, for which seconds do.
const (
	nodeEnv  = "AISLE_ACCEPTANCE_NODE_AWAY"
	nodeAway = 20 * time.Second
)

// advertise puts a GPU on the test cluster's node, and the labels of a GKE node
// that has one; without it takes them away.
func (c *cluster) advertise(ctx context.Context, node string, gpu bool) error {
	var count, accelerator, spot any
	if gpu {
		count, accelerator, spot = "1", "nvidia-l4", "true"
	}
	resources := map[string]any{"nvidia.com/gpu": count}
	for _, patch := range []struct {
		path string
		body any
	}{
		{"/api/v1/nodes/" + node, map[string]any{"metadata": map[string]any{"labels": map[string]any{"cloud.google.com/gke-accelerator": accelerator, "cloud.google.com/gke-spot": spot}}}},
		{"/api/v1/nodes/" + node + "/status", map[string]any{"status": map[string]any{"capacity": resources, "allocatable": resources}}},
	} {
		text, err := json.Marshal(patch.body)
		if err != nil {
			return err
		}
		if err := c.ask(ctx, http.MethodPatch, patch.path, "application/merge-patch+json", text, nil); err != nil {
			return err
		}
	}
	return nil
}

// A classifier on a pool of GPUs that has no node while nobody asks, as
// manifests/overlays/gke has it: whoever asks it waits for the node, who does
// not wait is told so, and an event waits in its broker.
func TestGPUNodeFromZero(t *testing.T) {
	t.Parallel()
	k := oursOnly(t, shared, "one machine has no nodes")
	away := nodeAway
	if text := os.Getenv(nodeEnv); text != "" {
		var err error
		if away, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", nodeEnv, err)
		}
	}
	picture, err := os.ReadFile("../../samples/drawings/shirt.jpg")
	if err != nil {
		t.Fatal(err)
	}
	node := k.nodeName(t)
	if err := k.advertise(t.Context(), node, false); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.advertise(context.Background(), node, false); err != nil {
			t.Error(err)
		}
	})
	gpu := k.in(gpuNamespace)
	objects, err := gpu.shipped("testdata/gpu")
	if err != nil {
		t.Fatal(err)
	}
	var own []map[string]any
	for _, o := range objects {
		if o["metadata"].(map[string]any)["namespace"] == "knative-serving" {
			gpu.set(t, o)
		} else {
			own = append(own, o)
		}
	}
	gpu.deploy(t, own)
	gpu.awaitReadyObject(t, "Trigger", "products")
	gpu.awaitReadyObject(t, "Trigger", "categories")
	if own := pods(t, gpu, "photo"); len(own) > 0 {
		t.Fatalf("pods before the first request: %+v", own)
	}
	c := call(t, gpu)
	c.http.Timeout = away + patience

	const waiting = 3
	answers := make(chan answer, waiting)
	for range waiting {
		go func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url("photo", "/v1/classify"), bytes.NewReader(picture))
			if err != nil {
				answers <- answer{err: err}
				return
			}
			req.Header.Set("Content-Type", "image/jpeg")
			answers <- c.send(req)
		}()
	}
	arrival := time.After(away)
	await(t, "a pod to wait for a node", func() string {
		all, err := list[podObject](t.Context(), gpu, "Pod")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if p.Metadata.Labels[serviceLabel] != "photo" {
				continue
			}
			for _, cond := range p.Status.Conditions {
				if p.Status.Phase == "Pending" && cond.Type == "PodScheduled" && cond.Reason == "Unschedulable" {
					return ""
				}
			}
		}
		return fmt.Sprintf("%+v", all)
	})
	// The composer answers by its deadline, without photo where it may.
	p := product.Product{ID: "gpu", Title: "Women Silver Wrist Watch", Images: []product.Image{{Data: picture}}}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a partial answer", func() string { // title starts from zero too
		var got category.Result
		a := c.post(t, "composer", "/category/predict", "application/json", string(text))
		if a.err != nil || a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &got) != nil {
			return fmt.Sprintf("%+v", a)
		}
		if got.Status != category.Partial || got.Category == nil || len(got.Legs) != 2 || got.Legs[1].Outcome != category.LegFailed {
			t.Fatalf("the composer answered %s", a.body)
		}
		return ""
	})
	refused := c.post(t, "strict", "/category/predict", "application/json", string(text))
	refused.problem(t, http.StatusServiceUnavailable)
	if refused.header.Get("Retry-After") == "" {
		t.Error("the composer that needs photo refused without Retry-After")
	}
	ev, err := event.NewProduct("/acceptance", "gpu", p)
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan error, 1)
	publish := func() {
		status, err := gpu.publish(t.Context(), "default", ev)
		if err == nil && status != http.StatusAccepted {
			err = fmt.Errorf("the broker answered %d", status)
		}
		taken <- err
	}
	go publish()
	for arrived := false; !arrived; {
		select {
		case <-arrival:
			arrived = true
		case a := <-answers:
			t.Fatalf("answered without a node: %+v", a)
		case err := <-taken: // awaitRoute says why
			if err != nil {
				t.Fatalf("the event was refused: %v", err)
			}
			go publish()
		}
	}
	begun := time.Now()
	if err := k.advertise(t.Context(), node, true); err != nil {
		t.Fatal(err)
	}
	for range waiting {
		a := <-answers
		a.want(t, http.StatusOK)
		var r prediction.Result
		if err := json.Unmarshal([]byte(a.body), &r); err != nil || len(r.Predictions) == 0 {
			t.Errorf("who waited was answered %s", a.body)
		}
	}
	t.Logf("the node was away for %s; %s after it came, all who waited were answered", away, time.Since(begun).Round(100*time.Millisecond))
	if err := <-taken; err != nil {
		t.Error(err)
	}
	t.Logf("%s after it came, the event was taken", time.Since(begun).Round(100*time.Millisecond))
	listening := call(t, k)
	await(t, "the event's category", func() string {
		for _, r := range deliveries(t, listening, "listener", "gpu") {
			var got category.Result
			if err := json.Unmarshal([]byte(r.Data), &got); err != nil {
				t.Fatal(err)
			}
			if got.ID == p.ID && got.Status == category.Complete && len(got.Legs) == 2 {
				return ""
			}
		}
		return "it has not come"
	})
	awaitNoPods(t, gpu, "photo")
}
