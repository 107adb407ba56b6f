package acceptance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// revisionOf asks a service once and gives the revision that answered.
func revisionOf(t *testing.T, c *caller, service string) string {
	t.Helper()
	a := c.do(t.Context(), http.MethodGet, service, "/env", "")
	a.want(t, http.StatusOK)
	for _, name := range []string{service + "-00001", service + "-00002", service + "-00003"} {
		if strings.Contains(a.body, "K_REVISION="+name) {
			return name
		}
	}
	t.Fatalf("no revision's name in %s", a.body)
	return ""
}

func share(revision string, percent int) map[string]any {
	return map[string]any{"revisionName": revision, "percent": percent}
}

// awaitObserved waits until a service has become what was last asked of it.
func awaitObserved(t *testing.T, k *api, name, latestReady string) {
	t.Helper()
	await(t, name+" to be ready as changed", func() string {
		if s := k.service(t, name); ready(s.Status.Conditions).Status != "True" || s.Status.LatestReadyRevisionName != latestReady {
			return fmt.Sprintf("%+v", s.Status)
		}
		return ""
	})
}

// Nine in ten requests to the old revision, one to the new; then all back.
func TestCanaryAndRollBack(t *testing.T) {
	t.Parallel()
	k := shared.objects()
	c := call(t, shared)
	change := func(version string, traffic []map[string]any) {
		t.Helper()
		if err := k.changed(t.Context(), "canary", map[string]string{"VERSION": version}, traffic); err != nil {
			t.Fatal(err)
		}
	}
	change("1", nil)
	awaitObserved(t, k, "canary", "canary-00001")
	change("2", []map[string]any{share("canary-00001", 90), {"latestRevision": true, "percent": 10}})
	awaitObserved(t, k, "canary", "canary-00002")
	await(t, "both revisions to answer, the old one more", func() string {
		count := map[string]int{}
		for range 100 {
			count[revisionOf(t, c, "canary")]++
		}
		// 3 sigma of 100 draws at one in ten, and more than none.
		if n := count["canary-00002"]; n < 1 || n > 19 || n+count["canary-00001"] != 100 {
			return fmt.Sprint(count)
		}
		return ""
	})
	change("2", []map[string]any{share("canary-00001", 100)})
	await(t, "all requests to go to the old revision again", func() string {
		for range 50 {
			if r := revisionOf(t, c, "canary"); r != "canary-00001" {
				return r + " answered"
			}
		}
		return ""
	})
}

// A revision that ends at its start does not get a request: the one before
// goes on, and the service says why.
func TestBrokenRevision(t *testing.T) {
	t.Parallel()
	k := shared.objects()
	c := call(t, shared)
	if err := k.changed(t.Context(), "mended", map[string]string{"VERSION": "1"}, nil); err != nil {
		t.Fatal(err)
	}
	awaitObserved(t, k, "mended", "mended-00001")
	if err := k.changed(t.Context(), "mended", map[string]string{"VERSION": "2", "EXIT_AT_START": "7"}, nil); err != nil {
		t.Fatal(err)
	}
	await(t, "the service to say that its newest revision failed", func() string {
		if r := revisionOf(t, c, "mended"); r != "mended-00001" {
			t.Fatalf("%s answered", r)
		}
		s := k.service(t, "mended")
		cond := ready(s.Status.Conditions)
		// Knative takes the container's last words where the kubelet kept them,
		// else its exit status; either says why.
		_, why, failed := strings.Cut(cond.Message, `"mended-00002" failed with message: `)
		if s.Status.LatestCreatedRevisionName != "mended-00002" || cond.Status != "False" || !failed || !strings.Contains(why, "leaving as told") && !strings.Contains(why, "7") {
			return fmt.Sprintf("%+v", s.Status)
		}
		return ""
	})
	if err := k.changed(t.Context(), "mended", map[string]string{"VERSION": "3"}, nil); err != nil {
		t.Fatal(err)
	}
	awaitObserved(t, k, "mended", "mended-00003")
	if r := revisionOf(t, c, "mended"); r != "mended-00003" {
		t.Errorf("%s answered after it was mended", r)
	}
}
