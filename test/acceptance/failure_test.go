package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"aisle.dev/aisle/internal/client"
)

// The engine's line has 1,000 places. On a cluster the line that can be filled
// is queue-proxy's: ten for each request that its pod may have at once; who
// comes then gets a 503 without Retry-After.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	if shared.onCluster() != nil {
		fullQueueProxy(t, c)
		return
	}
	const depth, more = 1000, 20
	answers := make(chan answer, depth+more)
	var sent sync.WaitGroup
	for range depth + more {
		sent.Go(func() { answers <- c.do(t.Context(), http.MethodGet, "slow", "/sleep?ms=0", "") })
	}
	sent.Wait()
	close(answers)
	count := map[int]int{}
	for a := range answers {
		if a.err != nil {
			t.Fatal(a.err)
		}
		count[a.status]++
		if a.status == http.StatusServiceUnavailable {
			a.problem(t, a.status)
			if got := a.header.Get("Retry-After"); got != "1" {
				t.Errorf("Retry-After %q, want 1", got)
			}
		}
	}
	if count[http.StatusOK] != depth || count[http.StatusServiceUnavailable] != more {
		t.Errorf("answers by status %v, want %d answered and %d refused", count, depth, more)
	}
}

func fullQueueProxy(t *testing.T, c *caller) {
	const places, sent = 11, 40
	awaitReady(t, shared, "narrow", 1)
	// Until the ingress sends requests to the pod itself, the activator holds
	// them back; it is the pod's own line that is looked at.
	await(t, "a full line", func() string {
		answers := make(chan answer, sent)
		var all sync.WaitGroup
		for range sent {
			all.Go(func() { answers <- c.do(t.Context(), http.MethodGet, "narrow", "/sleep?ms=200", "") })
		}
		all.Wait()
		close(answers)
		count := map[int]int{}
		for a := range answers {
			if a.err != nil {
				t.Fatal(a.err)
			}
			count[a.status]++
		}
		if count[http.StatusOK] < places || count[http.StatusOK]+count[http.StatusServiceUnavailable] != sent {
			t.Fatalf("answers by status %v, want %d or more answered and the rest refused with 503", count, places)
		}
		if count[http.StatusServiceUnavailable] == 0 {
			return fmt.Sprintf("answers by status %v", count)
		}
		return ""
	})
	c.get(t, "narrow", "/sleep?ms=0")
}

func TestCrash(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	if shared.onCluster() != nil {
		c.get(t, "fragile", "/sleep?ms=0")
		c.do(t.Context(), http.MethodPost, "fragile", "/crash", "").want(t, http.StatusBadGateway)
		await(t, "fragile to answer again", func() string {
			if a := c.do(t.Context(), http.MethodGet, "fragile", "/sleep?ms=0", ""); a.err != nil || a.status != http.StatusOK {
				return fmt.Sprintf("%+v", a)
			}
			return ""
		})
		return
	}
	c.get(t, "fragile", "/sleep?ms=0")
	first := pods(t, shared, "fragile")[0]
	during := c.begin(t.Context(), "fragile", "/sleep?ms=20000")
	await(t, "the request to be in flight", func() string {
		if own := pods(t, shared, "fragile"); len(own) != 1 || own[0].InFlight != 1 {
			return fmt.Sprintf("%+v", own)
		}
		return ""
	})
	c.do(t.Context(), http.MethodPost, "fragile", "/crash", "").problem(t, http.StatusBadGateway)
	if detail := (<-during).problem(t, http.StatusBadGateway); !strings.Contains(detail, "exit status 3") {
		t.Errorf("the request in flight was told %q", detail)
	}
	c.get(t, "fragile", "/sleep?ms=0") // by another pod
	awaitGone(t, first.PID)

	second := pods(t, shared, "fragile")[0]
	if second.PID == first.PID {
		t.Fatalf("pod %+v is the one that crashed", second)
	}
	if err := syscall.Kill(second.PID, syscall.SIGKILL); err != nil { // idle
		t.Fatal(err)
	}
	await(t, "the crash to be noticed", func() string {
		if own := pods(t, shared, "fragile"); len(own) > 0 && own[0].PID == second.PID {
			return fmt.Sprintf("%+v", own)
		}
		return ""
	})
	// Twice in a row: the next is started after a pause, in which callers are
	// told so.
	await(t, "fragile to answer again", func() string {
		a := c.do(t.Context(), http.MethodGet, "fragile", "/sleep?ms=0", "")
		if a.err == nil && a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
			t.Errorf("refused without Retry-After: %+v", a)
		}
		if a.status != http.StatusOK {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	var log strings.Builder
	if err := shared.Logs(t.Context(), &log, client.LogsOf(first.Name)); err != nil || !strings.Contains(log.String(), "crashing as told") {
		t.Errorf("the crashed pod's log: %q, %v", log.String(), err)
	}
}

func TestNeverReady(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "Knative lets a request wait for its time-out; TestBrokenRevision reads the conditions")
	c := call(t, shared)
	a := c.do(t.Context(), http.MethodGet, "never", "/echo", "")
	detail := a.problem(t, http.StatusServiceUnavailable)
	if !strings.Contains(detail, "progress deadline of 5s") || !strings.Contains(detail, "answered 503") {
		t.Errorf("detail %q does not say why", detail)
	}
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s := service(t, shared, "never")
	if s.Ready || !strings.Contains(s.Reason, "progress deadline") || !strings.Contains(s.Reason, "fixture: started") {
		t.Errorf("service %+v does not say why, with what its pod wrote", s)
	}
}

func TestEndsAtStart(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "Knative lets a request wait for its time-out; TestBrokenRevision reads the conditions")
	c := call(t, shared)
	detail := c.do(t.Context(), http.MethodGet, "broken", "/echo", "").problem(t, http.StatusServiceUnavailable)
	if !strings.Contains(detail, "exit status 7") {
		t.Errorf("detail %q does not say why", detail)
	}
	await(t, "the pause between attempts to grow", func() string {
		a := c.do(t.Context(), http.MethodGet, "broken", "/echo", "")
		if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < 2 {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	if s := service(t, shared, "broken"); s.Ready || !strings.Contains(s.Reason, "pods failed in a row") || !strings.Contains(s.Reason, "leaving as told") {
		t.Errorf("service %+v", s)
	}
}

// Callers that hang up leave the line at once, although their bodies have not
// been read.
func TestCallersGoneWhileWaiting(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster does not tell how many requests wait")
	c := call(t, shared)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	sizes := []int{0, 100, 32 << 10}
	gone := make(chan answer, len(sizes))
	for _, size := range sizes {
		go func() { gone <- c.do(ctx, http.MethodPost, "leaving", "/echo", strings.Repeat("x", size)) }()
	}
	await(t, "all to wait", func() string {
		if r := revision(t, shared, "leaving"); r.Waiting != len(sizes) {
			return fmt.Sprintf("%+v", r)
		}
		return ""
	})
	hangUp()
	for range sizes {
		if a := <-gone; a.err == nil {
			t.Fatalf("answered: %+v", a)
		}
	}
	await(t, "the line to be empty before there is a pod", func() string {
		r := revision(t, shared, "leaving")
		if r.Ready > 0 {
			t.Fatalf("the pod was there first: %+v", r)
		}
		if r.Waiting > 0 {
			return fmt.Sprintf("%+v", r)
		}
		return ""
	})
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	await(t, "hasty to have a pod", func() string { // whose start may take a cluster longer than the two seconds
		if a := c.do(t.Context(), http.MethodGet, "hasty", "/sleep?ms=0", ""); a.err != nil || a.status != http.StatusOK {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	late := c.do(t.Context(), http.MethodGet, "hasty", "/sleep?ms=20000", "")
	late.want(t, http.StatusGatewayTimeout)
	if shared.engine() != nil { // Knative's body is plain text
		if detail := late.problem(t, http.StatusGatewayTimeout); !strings.Contains(detail, "timeout") {
			t.Errorf("detail %q", detail)
		}
	}
	c.get(t, "hasty", "/sleep?ms=0") // by the same pod
}
