package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/internal/manifest"
)

// calling gives a revision that only passes requests on: no goroutine runs it.
func calling(t testing.TB, spec *manifest.Template) *revision {
	t.Helper()
	spec.Namespace, spec.Service, spec.Revision = "default", "one", "one-00001"
	metrics, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	config, err := scale.ParseConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{log: slog.New(slog.DiscardHandler), metrics: metrics, hurry: make(chan struct{})}
	rev := new(servingv1.Revision)
	rev.Namespace, rev.Name = "default", "one-00001"
	r, err := e.newRevision(&control{engine: e, deciders: config}, new(service), rev, spec)
	if err != nil {
		t.Fatal(err)
	}
	close(r.ended) // nobody takes events
	return r
}

// open adds a ready pod at an address.
func open(t testing.TB, r *revision, address string) *podState {
	t.Helper()
	p := &podState{name: "one-00001-" + address, process: &pod.Pod{Address: address}, transport: newTransport(false), phase: phaseReady, order: make(chan order, 1)}
	t.Cleanup(p.transport.CloseIdleConnections)
	r.lane.Open(p)
	return p
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return l.Addr().String()
}

// A pod that refuses the connection has seen nothing: the next one gets the
// request, with its body.
func TestNextPodAfterARefusedConnection(t *testing.T) {
	r := calling(t, &manifest.Template{Timeout: time.Minute})
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n, err := io.Copy(io.Discard, req.Body)
		fmt.Fprint(w, n, err)
	}))
	defer good.Close()
	dead := open(t, r, closedPort(t))
	open(t, r, good.Listener.Addr().String())
	for i := range 2 { // the dead pod is the first of equals, until it is closed
		w := httptest.NewRecorder()
		r.serve(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 100_000))))
		if w.Code != http.StatusOK || w.Body.String() != "100000 <nil>" {
			t.Errorf("request %d: %d %s", i, w.Code, w.Body)
		}
	}
	if l := r.lane.Try(); l == nil || l.Pod == dead {
		t.Error("the dead pod still gets requests")
	}
}

// A pod that has seen the request is not followed by another, be the request
// idempotent or not.
func TestNoSecondPodForAFailedRequest(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			r := calling(t, &manifest.Template{Timeout: time.Minute})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			seen := make(chan int, 10)
			done := make(chan struct{})
			go func() { // answers the first request of a connection, and breaks at the second
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = l.Close()
				defer c.Close()
				in := bufio.NewReader(c)
				for i := range 2 {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					seen <- i
					if i == 0 {
						fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					}
				}
			}()
			p := open(t, r, l.Addr().String())
			p.process.Process = exitedProcess(t)
			for i, want := range []int{http.StatusOK, http.StatusBadGateway} {
				w := httptest.NewRecorder()
				var body io.Reader
				if method == http.MethodPost {
					body = strings.NewReader("body")
				}
				r.serve(w, httptest.NewRequest(method, "/", body))
				if w.Code != want {
					t.Errorf("request %d: %d %s, want %d", i, w.Code, w.Body, want)
				}
			}
			<-done
			if len(seen) != 2 {
				t.Errorf("the pod saw %d requests, want 2", len(seen))
			}
			if waiting, held := r.lane.Counts(); waiting+held != 0 {
				t.Errorf("%d wait and %d are held in the end", waiting, held)
			}
		})
	}
}

// exitedProcess is a pod's process that has ended.
func exitedProcess(t *testing.T) *pod.Process {
	t.Helper()
	m, _, err := pod.NewMachine(t.TempDir(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := m.Start(pod.Spec{Namespace: "default", Name: "gone", Command: []string{"/bin/true"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Remove()
	return p.Process
}

func TestAnswerTimeouts(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/begin" {
			_, _ = io.WriteString(w, "some")
			_ = http.NewResponseController(w).Flush()
		}
		<-req.Context().Done()
	}))
	defer silent.Close()
	for _, test := range []struct {
		name, path string
		spec       *manifest.Template
		aborted    bool
	}{
		{"in all", "/", &manifest.Template{Timeout: 20 * time.Millisecond}, false},
		{"until the answer begins", "/", &manifest.Template{Timeout: time.Minute, ResponseStartTimeout: 20 * time.Millisecond}, false},
		{"in all, with the answer begun", "/begin", &manifest.Template{Timeout: 100 * time.Millisecond}, true},
		{"between bytes", "/begin", &manifest.Template{Timeout: time.Minute, IdleTimeout: 20 * time.Millisecond}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := calling(t, test.spec)
			open(t, r, silent.Listener.Addr().String())
			front := httptest.NewServer(http.HandlerFunc(r.serve))
			defer front.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, front.URL+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := front.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if test.aborted && (resp.StatusCode != http.StatusOK || err == nil || ctx.Err() != nil) {
				t.Errorf("%d %q, %v; want an answer that breaks off", resp.StatusCode, text, err)
			}
			if !test.aborted && resp.StatusCode != http.StatusGatewayTimeout {
				t.Errorf("%d %s, want 504", resp.StatusCode, text)
			}
		})
	}
}

// A body that breaks off on its way here is the caller's fault.
func TestBrokenBody(t *testing.T) {
	r := calling(t, &manifest.Template{Timeout: time.Minute})
	pod := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { _, _ = io.Copy(io.Discard, req.Body) }))
	defer pod.Close()
	open(t, r, pod.Listener.Addr().String())
	front := httptest.NewServer(http.HandlerFunc(r.serve))
	defer front.Close()
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%s, want 400", resp.Status)
	}
}
