package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"aisle.dev/aisle/internal/category"
)

// Legs with two services: by each rule, who answers while the "GPU" one starts,
// and who once it has. A service that is closed is not asked, nor waited for.
func TestVariants(t *testing.T) {
	t.Parallel()
	p := products.get(t)
	if k := shared.onCluster(); k != nil {
		p = k // its pods are not as restricted as the shipped ones must be
	}
	c := call(t, p)
	ask := func() (category.Result, error) {
		var got category.Result
		a := c.post(t, "variants", "/category/predict", "application/json", `{"title":"Silk tie"}`)
		if a.err == nil && a.status != http.StatusOK {
			a.err = fmt.Errorf("answered %d: %s", a.status, a.body)
		}
		if a.err == nil {
			a.err = json.Unmarshal([]byte(a.body), &got)
		}
		return got, a.err
	}
	check := func(got category.Result, want map[string]category.Leg) string {
		for _, l := range got.Legs {
			if w, ok := want[l.Name]; ok && (l.Variant != w.Variant || l.StandIn != w.StandIn || l.Outcome != w.Outcome) {
				return fmt.Sprintf("leg %s: want %s, stand-in %q, %s: %+v", l.Name, w.Variant, w.StandIn, w.Outcome, l)
			}
		}
		if got.Status != category.Complete || len(got.Legs) != 6 {
			return fmt.Sprintf("%+v", got)
		}
		return ""
	}
	await(t, "none of the GPU services is up", func() string {
		for _, leg := range []string{"prefer", "hasty", "patient", "never"} {
			if own := pods(t, p, "variant-"+leg); len(own) > 0 {
				return fmt.Sprintf("%+v", own)
			}
		}
		return ""
	})
	// These are there at once, or the slow start of the others would be over.
	await(t, "the CPU service and the composer", func() string {
		for service, path := range map[string]string{"variant-cpu": "/readyz", "variants": "/"} {
			if a := c.do(t.Context(), http.MethodGet, service, path, ""); a.err != nil || a.status != http.StatusOK {
				return fmt.Sprintf("%s: %+v", service, a)
			}
		}
		return ""
	})
	gpu, waking := category.Leg{Variant: category.GPU, Outcome: category.Answered}, category.Leg{Variant: category.CPU, StandIn: category.InsteadOfWaking, Outcome: category.Answered}
	want := map[string]category.Leg{
		"prefer": waking, "hasty": waking, "patient": gpu, "never": gpu,
		"shut":   {Variant: category.CPU, StandIn: category.InsteadOfClosed, Outcome: category.Answered},
		"closed": {Outcome: category.Closed},
	}
	const many = 20
	said := make(chan string, many)
	for range many {
		go func() {
			got, err := ask()
			if err != nil {
				said <- err.Error()
				return
			}
			said <- check(got, want)
		}()
	}
	for range many {
		if text := <-said; text != "" {
			t.Error(text)
		}
	}
	// One request at a time fits into a pod of this one: more would be more pods.
	// Knative counts a request twice in the second in which its activator hands it
	// to a pod, and may then start one more.
	most := 1
	if shared.onCluster() != nil {
		most = 2
	}
	if n := len(pods(t, p, "variant-prefer")); n < 1 || n > most {
		t.Errorf("%d products woke %d pods", many, n)
	}
	if n := len(pods(t, p, "variant-shut")); n != 0 {
		t.Errorf("a closed service has %d pods", n)
	}
	want["prefer"], want["hasty"] = gpu, gpu
	await(t, "the services that have started answer", func() string {
		got, err := ask()
		if err != nil {
			return err.Error()
		}
		return check(got, want)
	})
}
