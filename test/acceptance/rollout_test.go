package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// A tag has a host of its own, also without a share of the requests.
func TestTags(t *testing.T) {
	t.Parallel()
	k := shared.objects()
	c := call(t, shared)
	for _, version := range []string{"1", "2"} {
		var traffic []map[string]any
		if version == "2" {
			traffic = []map[string]any{share("tagged-00001", 100), {"latestRevision": true, "percent": 0, "tag": "next"}}
		}
		if err := k.changed(t.Context(), "tagged", map[string]string{"VERSION": version}, traffic); err != nil {
			t.Fatal(err)
		}
		awaitObserved(t, k, "tagged", "tagged-0000"+version)
	}
	if r := revisionOf(t, c, "tagged"); r != "tagged-00001" {
		t.Errorf("without the tag %s answered", r)
	}
	await(t, "the tag's host to answer", func() string {
		a := c.do(t.Context(), http.MethodGet, "next-tagged", "/env", "")
		if a.status != http.StatusOK || !strings.Contains(a.body, "K_REVISION=tagged-00002") {
			return fmt.Sprint(a.status, a.body)
		}
		return ""
	})
}

// Requests that come while one revision takes over from another, again and
// again, are all answered.
func TestNoRequestIsLostInRollouts(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster's roll-outs take half a minute each")
	e := newEngine(t, "", servicesDir)
	c := call(t, e)
	k := e.objects()
	if err := k.changed(t.Context(), "rolled", map[string]string{"VERSION": "1"}, nil); err != nil {
		t.Fatal(err)
	}
	awaitObserved(t, k, "rolled", "rolled-00001")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	var answered atomic.Int64
	failures := make(chan string, 1)
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				a := c.do(context.WithoutCancel(ctx), http.MethodGet, "rolled", "/sleep?ms=1", "")
				if a.err != nil || a.status != http.StatusOK {
					select {
					case failures <- fmt.Sprint(a.status, a.body, a.err):
					default:
					}
					return
				}
				answered.Add(1)
			}
		})
	}
	const rollouts = 12
	for version := 2; version <= rollouts; version++ {
		if err := k.changed(t.Context(), "rolled", map[string]string{"VERSION": strconv.Itoa(version)}, nil); err != nil {
			t.Fatal(err)
		}
		awaitObserved(t, k, "rolled", fmt.Sprintf("rolled-%05d", version))
	}
	cancel()
	clients.Wait()
	select {
	case f := <-failures:
		t.Fatal(f)
	default:
	}
	t.Logf("%d requests during %d roll-outs", answered.Load(), rollouts-1)
	if err := e.stop(patience); err != nil {
		t.Error(err)
	}
}

// A gradual roll-out moves requests bit by bit, and a killed engine goes on
// with the same revisions and shares.
func TestKilledInAGradualRollout(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "it is about the engine's own death")
	e := newEngine(t, "", servicesDir)
	deploy := func(version string) {
		t.Helper()
		o := map[string]any{
			"apiVersion": "serving.knative.dev/v1", "kind": "Service",
			"metadata": map[string]any{"name": "slowly", "annotations": map[string]any{"serving.knative.dev/rollout-duration": "1h"}},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{
				"image": e.image, "env": []any{map[string]any{"name": "VERSION", "value": version}},
			}}}}},
		}
		if err := e.apply(t.Context(), []map[string]any{o}); err != nil {
			t.Fatal(err)
		}
	}
	shares := func(p *engineProcess) string {
		t.Helper()
		var s struct {
			Status struct {
				Traffic []struct {
					RevisionName string
					Percent      int
				}
			}
		}
		path, err := resource("Service", "default", "slowly")
		if err == nil {
			err = p.ask(t.Context(), http.MethodGet, path, "", nil, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(s.Status.Traffic)
	}
	deploy("1")
	awaitObserved(t, e.objects(), "slowly", "slowly-00001")
	deploy("2")
	const begun = "[{slowly-00001 99} {slowly-00002 1}]"
	await(t, "the roll-out to begin", func() string {
		if got := shares(e); got != begun {
			return got
		}
		return ""
	})
	e.kill(t)
	again := newEngine(t, e.version.DataDir, servicesDir)
	if got := shares(again); got != begun {
		t.Errorf("after the kill %s", got)
	}
	if r := revisionOf(t, call(t, again), "slowly"); r != "slowly-00001" && r != "slowly-00002" {
		t.Errorf("%s answered", r)
	}
	if err := again.stop(patience); err != nil {
		t.Error(err)
	}
}
