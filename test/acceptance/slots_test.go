package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/scaling"
)

// gpusDir has the services of this file. On a cluster NVIDIA's device plug-in
// and the scheduler do all this.
const gpusDir = "testdata/gpus"

// hasVariable reports whether a pod of the service sees the variable.
func hasVariable(t *testing.T, text, variable string) bool {
	t.Helper()
	var seen struct{ Env []string }
	if err := json.Unmarshal([]byte(text), &seen); err != nil {
		t.Fatal(err)
	}
	return slices.Contains(seen.Env, variable)
}

// Two services share one GPU: the second's pod waits, and says for what, until
// the first is at zero; whoever asked for it is answered then.
func TestPendingForAGPU(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a scheduler does it there")
	e := newEngine(t, "", gpusDir, "GPU-7")
	await(t, "the pod that needs two GPUs to be Pending", func() string {
		if own := pods(t, e, "greedy"); len(own) != 1 || own[0].Phase != "Pending" {
			return fmt.Sprintf("%+v", own)
		}
		return ""
	})
	if s := service(t, e, "greedy"); s.Ready || !strings.Contains(s.Reason, "needs 2 GPUs, and this machine has 1") {
		t.Errorf("service %+v does not say why", s)
	}
	c := call(t, e)
	if a := c.get(t, "plain", "/env"); !hasVariable(t, a.body, "CUDA_VISIBLE_DEVICES=") {
		t.Errorf("a pod without a GPU may see one: %s", a.body)
	}
	// Each has an initial scale of one: one of them has the GPU, and the
	// other waits for it.
	answers := []<-chan answer{c.begin(t.Context(), "first", "/env"), c.begin(t.Context(), "second", "/env")}
	await(t, "one of them to be Pending", func() string {
		own := append(pods(t, e, "first"), pods(t, e, "second")...)
		pending := 0
		for _, p := range own {
			if p.Phase == "Pending" {
				pending++
			}
		}
		if len(own) != 2 || pending != 1 {
			return fmt.Sprintf("%+v", own)
		}
		return ""
	})
	for i, answered := range answers {
		a := <-answered
		a.want(t, http.StatusOK)
		if !hasVariable(t, a.body, "CUDA_VISIBLE_DEVICES=GPU-7") {
			t.Errorf("request %d was answered without the GPU: %s", i, a.body)
		}
	}
}

// onGPU deploys a service of a test's own whose pods need a GPU.
func onGPU(t *testing.T, k *api, name, rollout string, env map[string]string) {
	t.Helper()
	onGPUs(t, k, name, rollout, "1", env)
}

// onGPUs does so with a max-scale.
func onGPUs(t *testing.T, k *api, name, rollout, most string, env map[string]string) {
	t.Helper()
	type object = map[string]any
	vars := []any{}
	for k, v := range env {
		vars = append(vars, object{"name": k, "value": v})
	}
	annotations := object{}
	if rollout != "" {
		annotations["aisle.dev/gpu-rollout"] = rollout
	}
	err := k.apply(t.Context(), []object{{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": object{"name": name, "annotations": annotations},
		"spec": object{"template": object{
			"metadata": object{"annotations": object{"autoscaling.knative.dev/min-scale": "1", "autoscaling.knative.dev/max-scale": most}},
			"spec": object{"timeoutSeconds": 60, "containers": []any{object{
				"image": k.image, "env": vars, "readinessProbe": object{"httpGet": object{"path": "/readyz"}},
				"resources": object{"limits": object{"nvidia.com/gpu": "1"}},
			}}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitUnready waits until the service's newest revision is not ready, for a
// reason.
func awaitUnready(t *testing.T, k *api, name, reason string) {
	t.Helper()
	await(t, name+" to say "+reason, func() string {
		if s := ready(k.service(t, name).Status.Conditions); s.Status != "False" || !strings.Contains(s.Message, reason) {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
}

// A new revision that needs the GPU of the old one waits for it, Pending, and
// the old one serves: unless the service is to be swapped.
func TestRolloutWaitsForTheGPU(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a scheduler does it there")
	e := newEngine(t, "", podsDir, "GPU-7")
	k, c := e.objects(), call(t, e)
	onGPU(t, k, "patient", "", map[string]string{"VERSION": "1"})
	awaitObserved(t, k, "patient", "patient-00001")
	onGPU(t, k, "patient", "", map[string]string{"VERSION": "2"})
	awaitUnready(t, k, "patient", "needs 1 GPU, and 0 of 1 are free; default/patient-00001-")
	if r := revisionOf(t, c, "patient"); r != "patient-00001" {
		t.Errorf("%s answered", r)
	}
	// The annotation can follow: it is no part of the template.
	onGPU(t, k, "patient", "swap", map[string]string{"VERSION": "2"})
	awaitObserved(t, k, "patient", "patient-00002")
}

// Within one GPU a new revision takes the place of the old one, and a broken
// one gives it back; every request is answered.
func TestGPUSwap(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a scheduler does it there")
	e := newEngine(t, "", podsDir, "GPU-7")
	k, c := e.objects(), call(t, e)
	onGPU(t, k, "swapped", "swap", map[string]string{"VERSION": "1"})
	awaitObserved(t, k, "swapped", "swapped-00001")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	type result struct {
		ok  int
		bad []string
	}
	loaded := make(chan result, 1)
	go func() {
		ok, bad := load(ctx, c, "swapped", "/sleep?ms=20", 4)
		loaded <- result{ok, bad}
	}()
	onGPU(t, k, "swapped", "swap", map[string]string{"VERSION": "2", "START_MS": "300"})
	awaitObserved(t, k, "swapped", "swapped-00002")
	if r := revisionOf(t, c, "swapped"); r != "swapped-00002" {
		t.Errorf("%s answered", r)
	}
	onGPU(t, k, "swapped", "swap", map[string]string{"VERSION": "3", "EXIT_AT_START": "7"})
	awaitUnready(t, k, "swapped", "leaving as told")
	if r := revisionOf(t, c, "swapped"); r != "swapped-00002" {
		t.Errorf("%s answered", r)
	}
	onGPU(t, k, "swapped", "swap", map[string]string{"VERSION": "4"})
	awaitObserved(t, k, "swapped", "swapped-00004")
	stop()
	if r := <-loaded; r.ok == 0 || len(r.bad) > 0 {
		t.Errorf("%d answered; failed in the roll-outs: %q", r.ok, r.bad)
	}
	if log := e.log.String(); !strings.Contains(log, "GPUs are swapped back") {
		t.Error("the GPU was never swapped back")
	}
}

// A schedule's floor above the GPUs leaves a pod Pending; a swap, and one that
// is taken back, go on all the same, the floor follows the requests, and
// without the schedule no pod is left waiting.
func TestGPUSwapUnderASchedule(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a scheduler does it there")
	e := newEngine(t, "", podsDir, "GPU-7")
	p, k, c := &clocked{place: e, t: t}, e.objects(), call(t, e)
	holds := func(revision string, waiting int) {
		t.Helper()
		await(t, fmt.Sprintf("one pod of %s, and %d that waits", revision, waiting), func() string {
			all := pods(t, e, "floored")
			pending := 0
			for _, pod := range all {
				if pod.Phase == "Pending" && pod.Revision == revision {
					pending++
				}
			}
			if len(all) != 1+waiting || pending != waiting {
				return fmt.Sprintf("%+v", all)
			}
			return ""
		})
	}
	onGPUs(t, k, "floored", "swap", "2", map[string]string{"VERSION": "1"})
	awaitObserved(t, k, "floored", "floored-00001")
	p.schedule("floored", scaling.Spec{Service: "floored", Windows: []scaling.Window{{Hold: floor(2)}}})
	holds("floored-00001", 1)
	onGPUs(t, k, "floored", "swap", "2", map[string]string{"VERSION": "2"})
	awaitObserved(t, k, "floored", "floored-00002")
	p.awaitStatus("floored", "of the new revision", func(s scaling.Status) bool { return s.Revision == "floored-00002" })
	holds("floored-00002", 1)
	onGPUs(t, k, "floored", "swap", "2", map[string]string{"VERSION": "3", "EXIT_AT_START": "7"})
	awaitUnready(t, k, "floored", "leaving as told")
	if r := revisionOf(t, c, "floored"); r != "floored-00002" {
		t.Errorf("%s answered", r)
	}
	if err := k.remove(t.Context(), scaling.Kind, "floored", ""); err != nil {
		t.Fatal(err)
	}
	await(t, "no pod to wait", func() string {
		for _, pod := range pods(t, e, "floored") {
			if pod.Phase == "Pending" && pod.Revision == "floored-00002" {
				return fmt.Sprintf("%+v", pod)
			}
		}
		return ""
	})
	if r := revisionOf(t, c, "floored"); r != "floored-00002" {
		t.Errorf("without the schedule %s answered", r)
	}
}
