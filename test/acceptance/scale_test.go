package acceptance

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"aisle.dev/aisle/internal/client"
)

func TestFromZero(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	if own := pods(t, shared, "fresh"); len(own) > 0 {
		t.Fatalf("pods before the first request: %+v", own)
	}
	cold := c.get(t, "fresh", "/echo")
	onEngine := shared.engine() != nil
	if onEngine && cold.wake() == "" { // Knative does not say
		t.Errorf("the first answer's Server-Timing is %q, without wake", cold.header.Values("Server-Timing"))
	}
	for _, phase := range []string{"queued;dur=", "decided;dur=", "launched;dur=", "ready;dur=", "first;dur="} {
		if all := strings.Join(cold.header.Values("Server-Timing"), ", "); onEngine && !strings.Contains(all, phase) {
			t.Errorf("the first answer's Server-Timing is %q, without %s", all, phase)
		}
	}
	if got := cold.header.Values("Server-Timing"); len(got) == 0 || got[0] != "app;dur=1" {
		t.Errorf("Server-Timing %q has lost the service's own", got)
	}
	warm := c.get(t, "fresh", "/echo")
	if warm.wake() != "" {
		t.Errorf("a warm answer says %q", warm.wake())
	}
	awaitReady(t, shared, "fresh", 1) // a cluster says so later than the pod answers
	own := pods(t, shared, "fresh")
	if len(own) != 1 || own[0].Phase != "Ready" || (onEngine && (own[0].ReadyMs <= 0 || own[0].PID == 0 || own[0].RSSBytes == 0)) {
		t.Errorf("pods %+v", own)
	}
	r := revision(t, shared, "fresh")
	if r.Name != "fresh-00001" || r.Ready != 1 || r.Want != 1 || (onEngine && (r.Why == "" || r.Since.IsZero())) {
		t.Errorf("revision %+v", r)
	}
	var s client.Service
	await(t, "fresh to be said to be ready", func() string { // a cluster says so a moment later
		if s = service(t, shared, "fresh"); !s.Ready {
			return s.Reason
		}
		return ""
	})
	if s.Pods != 1 || !strings.HasPrefix(s.URL, "http://"+shared.host("fresh")) {
		t.Errorf("service %+v", s)
	}
}

func TestToZeroAndBack(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	c.get(t, "resting", "/sleep?ms=0")
	first := pods(t, shared, "resting")
	if len(first) != 1 {
		t.Fatalf("pods %+v", first)
	}
	awaitNoPods(t, shared, "resting")
	onEngine := shared.engine() != nil
	if onEngine {
		awaitGone(t, first[0].PID)
	}
	if s := service(t, shared, "resting"); !s.Ready || s.Reason != "" {
		t.Errorf("at zero: %+v", s)
	}
	if c.get(t, "resting", "/sleep?ms=0").wake() == "" && onEngine {
		t.Error("the pod of before answered")
	}
	if again := pods(t, shared, "resting"); len(again) != 1 || again[0].Name == first[0].Name || (onEngine && again[0].Address == first[0].Address) {
		t.Errorf("pods %+v, on the port of before: %s", again, first[0].Address)
	}
}

// load keeps n requests in a service until ctx ends, and returns how many were
// answered with 200 and what else came.
func load(ctx context.Context, c *caller, service, path string, n int) (ok int, bad []string) {
	type result struct {
		ok  int
		bad []string
	}
	results := make(chan result)
	for range n {
		go func() {
			var r result
			for ctx.Err() == nil {
				switch a := c.do(context.WithoutCancel(ctx), http.MethodGet, service, path, ""); {
				case a.err != nil:
					r.bad = append(r.bad, a.err.Error())
				case a.status != http.StatusOK:
					r.bad = append(r.bad, fmt.Sprintf("%d %s", a.status, a.body))
				default:
					r.ok++
				}
			}
			results <- r
		}()
	}
	for range n {
		r := <-results
		ok += r.ok
		bad = append(bad, r.bad...)
	}
	return ok, bad
}

func TestScaleOutAndIn(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	ctx, stop := context.WithCancel(t.Context())
	loaded := make(chan []string, 1)
	go func() {
		_, bad := load(ctx, c, "wide", "/sleep?ms=100", 3)
		loaded <- bad
	}()
	awaitReady(t, shared, "wide", 3)
	stop()
	if bad := <-loaded; len(bad) > 0 {
		t.Errorf("failed while it scaled out: %q", bad)
	}
	// A trickle while the others go: nothing may be lost to a drained pod.
	trickle, enough := context.WithCancel(t.Context())
	defer enough()
	go func() {
		_, bad := load(trickle, c, "wide", "/sleep?ms=5", 1)
		loaded <- bad
	}()
	await(t, "wide to be one pod", func() string {
		if own := pods(t, shared, "wide"); len(own) != 1 {
			return fmt.Sprintf("%+v", own)
		}
		return ""
	})
	enough()
	if bad := <-loaded; len(bad) > 0 {
		t.Errorf("failed while it scaled in: %q", bad)
	}
}

func TestMaxScale(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	loaded := make(chan []string, 1)
	go func() {
		_, bad := load(ctx, c, "capped", "/sleep?ms=100", 8)
		loaded <- bad
	}()
	awaitReady(t, shared, "capped", 2)
	most := 0
	defer time.AfterFunc(4*time.Second, stop).Stop() // some decisions later
	for done := false; !done; {
		r := revision(t, shared, "capped")
		most = max(most, r.Ready+r.Starting)
		for _, p := range pods(t, shared, "capped") {
			if p.InFlight > 1 {
				t.Errorf("pod %s has %d requests; containerConcurrency is 1", p.Name, p.InFlight)
			}
		}
		select {
		case bad := <-loaded:
			if len(bad) > 0 {
				t.Errorf("failed: %q", bad)
			}
			done = true
		case <-time.After(5 * time.Millisecond):
		}
	}
	if most != 2 {
		t.Errorf("%d pods at most, want no more than max-scale 2", most)
	}
}

func TestMinScale(t *testing.T) {
	t.Parallel()
	awaitReady(t, shared, "floor", 1)
	first := pods(t, shared, "floor")
	// Longer than the stable window and the grace period together.
	for end := time.After(9 * time.Second); ; {
		if own := pods(t, shared, "floor"); len(own) != 1 || own[0].Name != first[0].Name {
			t.Fatalf("pods %+v, want the one of the beginning, %+v", own, first)
		}
		select {
		case <-end:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Two pods with two requests each; one of each ends, the revision scales in to
// one pod, and the drained pod's other request is answered all the same.
//
// A cluster does not tell which pod has which request. There, the pod of one
// request that has begun to be answered is deleted, as scaling in deletes it.
func TestDrainWithRequestInFlight(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	if k := shared.onCluster(); k != nil {
		drainDeletedPod(t, k, c)
		return
	}
	var answers []<-chan answer
	for i, path := range []string{"/sleep?ms=15000", "/sleep?ms=3000", "/sleep?ms=15000", "/sleep?ms=3000"} {
		answers = append(answers, c.begin(t.Context(), "halved", path))
		await(t, fmt.Sprintf("request %d to be in the service", i), func() string {
			if r := revision(t, shared, "halved"); r.Concurrency < float64(i+1) {
				return fmt.Sprintf("%+v", r)
			}
			return ""
		})
	}
	await(t, "a pod to drain with a request in flight", func() string {
		own := pods(t, shared, "halved")
		for _, p := range own {
			if p.Phase == "Draining" && p.InFlight > 0 {
				return ""
			}
		}
		return fmt.Sprintf("%+v", own)
	})
	for _, a := range answers {
		(<-a).want(t, http.StatusOK)
	}
}

func drainDeletedPod(t *testing.T, k *cluster, c *caller) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url("halved", "/sleep?ms=6000&early=1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req) // returns with the header, which the fixture has sent early
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	own := pods(t, k, "halved")
	if len(own) != 1 {
		t.Fatalf("pods %+v", own)
	}
	if err := k.remove(t.Context(), "Pod", own[0].Name, ""); err != nil {
		t.Fatal(err)
	}
	await(t, "the pod to drain", func() string {
		for _, p := range pods(t, k, "halved") {
			if p.Name == own[0].Name && p.Phase != "Draining" {
				return fmt.Sprintf("%+v", p)
			}
		}
		return ""
	})
	c.get(t, "halved", "/sleep?ms=0") // by another pod, meanwhile
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || strings.TrimSpace(string(text)) == "" {
		t.Errorf("the request in flight was answered %d %q, %v", resp.StatusCode, text, err)
	}
}

func TestInitialScale(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "Knative's own tests have it, and its controller is not restarted by ours")
	e := newEngine(t, "", servicesDir)
	awaitReady(t, e, "begun", 1)
	awaitNoPods(t, e, "begun")
	if err := e.stop(patience); err != nil {
		t.Fatal(err)
	}
	again := newEngine(t, e.version.DataDir, servicesDir)
	awaitReady(t, again, "floor", 1) // so it has decided
	if own := pods(t, again, "begun"); len(own) > 0 {
		t.Errorf("a restarted engine started what was idle: %+v", own)
	}
}
