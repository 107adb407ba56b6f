package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
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
