package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/client"
)

// place is where the suite's services (testdata/services) run.
type place interface {
	client.Client
	// address is what is dialled for every service, whatever its host.
	address() string
	// host is what a service is called by.
	host(service string) string
	// engine is the place as an engine on this machine, or nil.
	engine() *engineProcess
	// onCluster is the place as a Knative cluster, or nil.
	onCluster() *cluster
	// objects are the place's Kubernetes objects.
	objects() *api
	// publish sends an event to a Broker once; 202 means that it has the event.
	publish(ctx context.Context, broker string, ev ce.Event) (int, error)
	// stop ends the place, or what the suite made there.
	stop(within time.Duration) error
	// dump shows what is known of a failure.
	dump(io.Writer)
}

// patience bounds every wait for a condition. It is spent by failures alone: a
// machine that runs all packages' tests at once is slow, and a cluster's pods
// take a minute to go (queue-proxy drains for 30 seconds).
var patience = 90 * time.Second

// engineOnly gives the engine's process, and skips the test elsewhere.
func engineOnly(t *testing.T, p place, reason string) *engineProcess {
	t.Helper()
	e := p.engine()
	if e == nil {
		t.Skipf("only on one machine: %s", reason)
	}
	return e
}

// clusterOnly gives the cluster, and skips the test elsewhere.
func clusterOnly(t *testing.T, p place, reason string) *cluster {
	t.Helper()
	c := p.onCluster()
	if c == nil {
		t.Skipf("only on a cluster: %s", reason)
	}
	return c
}

// caller sends requests to services of a place over its own connections.
type caller struct {
	place place
	http  *http.Client
}

func call(t *testing.T, p place) *caller {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", p.address())
		},
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &caller{p, &http.Client{Transport: tr, Timeout: patience}}
}

func (c *caller) url(service, path string) string {
	return "http://" + c.place.host(service) + path
}

// answer is a whole answer.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (c *caller) do(ctx context.Context, method, service, path, body string) answer {
	req, err := http.NewRequestWithContext(ctx, method, c.url(service, path), strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	return c.send(req)
}

func (c *caller) send(req *http.Request) answer {
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text), err}
}

// get expects 200.
func (c *caller) get(t *testing.T, service, path string) answer {
	t.Helper()
	a := c.do(t.Context(), http.MethodGet, service, path, "")
	a.want(t, http.StatusOK)
	return a
}

// begin sends a GET in the background.
func (c *caller) begin(ctx context.Context, service, path string) <-chan answer {
	out := make(chan answer, 1)
	go func() { out <- c.do(ctx, http.MethodGet, service, path, "") }()
	return out
}

func (a answer) want(t *testing.T, status int) {
	t.Helper()
	if a.err != nil {
		t.Fatalf("no answer: %v", a.err)
	}
	if a.status != status {
		t.Fatalf("answered %d, want %d: %s", a.status, status, a.body)
	}
}

// problem expects an RFC 9457 answer and gives its detail.
func (a answer) problem(t *testing.T, status int) string {
	t.Helper()
	a.want(t, status)
	var p struct {
		Status        int
		Detail, Error string
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Status != status || p.Detail == "" || p.Error == "" ||
		a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("not a problem of status %d: %s %s (%v)", status, a.header.Get("Content-Type"), a.body, err)
	}
	return p.Detail
}

// wake is the Server-Timing entry of the engine, "" without one.
func (a answer) wake() string {
	for _, v := range a.header.Values("Server-Timing") {
		if strings.HasPrefix(v, "wake;dur=") {
			return v
		}
	}
	return ""
}

// await polls until met says that it has nothing to complain of.
func await(t *testing.T, what string, met func() (complaint string)) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(patience)
	for {
		complaint := met()
		if complaint == "" {
			return
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("%s: not within %s: %s", what, patience, complaint)
		case <-t.Context().Done():
			t.Fatalf("%s: the test ended first: %s", what, complaint)
		}
	}
}

// revision gives how a service's revision stands.
func revision(t *testing.T, p place, service string) client.Revision {
	t.Helper()
	all, err := p.Revisions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Service == service {
			return r
		}
	}
	t.Fatalf("no revision of %s among %v", service, all)
	return client.Revision{}
}

// pods lists a service's pods.
func pods(t *testing.T, p place, service string) []client.Pod {
	t.Helper()
	all, err := p.Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var own []client.Pod
	for _, pod := range all {
		if pod.Service == service {
			own = append(own, pod)
		}
	}
	return own
}

// service gives how a service stands.
func service(t *testing.T, p place, name string) client.Service {
	t.Helper()
	all, err := p.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no service %s among %v", name, all)
	return client.Service{}
}

func awaitReady(t *testing.T, p place, service string, atLeast int) {
	t.Helper()
	await(t, fmt.Sprintf("%d ready pods of %s", atLeast, service), func() string {
		if r := revision(t, p, service); r.Ready < atLeast {
			return fmt.Sprintf("%+v", r)
		}
		return ""
	})
}

func awaitNoPods(t *testing.T, p place, service string) {
	t.Helper()
	await(t, service+" to have no pods", func() string {
		if own := pods(t, p, service); len(own) > 0 {
			return fmt.Sprintf("%+v, %+v", own, revision(t, p, service))
		}
		return ""
	})
}
