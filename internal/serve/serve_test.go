package serve_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type server struct {
	url    string
	health *serve.Health
	stop   context.CancelFunc
	done   chan error
}

// start runs a server on loopback until the test ends.
func start(t *testing.T, h http.HandlerFunc, set func(*serve.Options)) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{url: "http://" + ln.Addr().String(), health: &serve.Health{}, stop: cancel, done: make(chan error, 1)}
	o := serve.Options{Listener: ln, Handler: h, Health: s.health, Grace: 5 * time.Second}
	if set != nil {
		set(&o)
	}
	go func() { s.done <- serve.Run(ctx, o); close(s.done) }()
	t.Cleanup(func() { cancel(); <-s.done })
	return s
}

// client speaks HTTP/1.1, or HTTP/2 without TLS, and keeps no connection.
func client(t *testing.T, h2 bool) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func get(t *testing.T, c *http.Client, url string) (int, string, http.Header) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestPaths(t *testing.T) {
	set := metrics.New()
	set.Counter("seen_total", "")
	s := start(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) },
		func(o *serve.Options) { o.Metrics = set })
	h1, h2 := client(t, false), client(t, true)

	if code, body, h := get(t, h1, s.url+"/readyz"); code != 503 || h.Get("Retry-After") != "1" || !strings.Contains(body, "starting") {
		t.Errorf("before it is ready: %d, Retry-After %q, %s", code, h.Get("Retry-After"), body)
	}
	if code, _, _ := get(t, h1, s.url+"/healthz"); code != 200 {
		t.Errorf("healthz while starting: %d", code)
	}
	s.health.Started("model;dur=3.1")
	s.health.Ready()
	if code, _, h := get(t, h1, s.url+"/readyz"); code != 200 || h.Get("Server-Timing") != "model;dur=3.1" {
		t.Errorf("readyz when ready: %d, the start took %q", code, h.Get("Server-Timing"))
	}
	if _, body, _ := get(t, h1, s.url+"/anything"); body != "HTTP/1.1" {
		t.Errorf("handler over HTTP/1.1 saw %q", body)
	}
	if _, body, _ := get(t, h2, s.url+"/anything"); body != "HTTP/2.0" {
		t.Errorf("handler over h2c saw %q", body)
	}
	if _, body, _ := get(t, h1, s.url+"/metrics"); !strings.Contains(body, "seen_total 0") {
		t.Errorf("metrics: %s", body)
	}
	resp, err := h1.Post(s.url+"/readyz", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("POST /readyz: %d, want 405", resp.StatusCode)
	}
}

func TestHeaderIsBounded(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {}, nil)
	req, _ := http.NewRequest("GET", s.url, nil)
	req.Header.Set("X-Long", strings.Repeat("x", 1<<20))
	resp, err := client(t, false).Do(req)
	if err != nil {
		return // the server may close before all of it is written
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d, want 431", resp.StatusCode)
	}
}

func TestDrain(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP/1.1", true: "h2c"}[h2], func(t *testing.T) {
			entered, release := make(chan struct{}), make(chan struct{})
			s := start(t, func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-release
				if r.Context().Err() != nil {
					t.Error("the request's context ended with the server's")
				}
				io.WriteString(w, "answered")
			}, nil)
			s.health.Ready()
			c := client(t, h2)
			got := make(chan string, 1)
			go func() {
				resp, err := c.Get(s.url)
				if err != nil {
					got <- err.Error()
					return
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				got <- string(body)
			}()
			<-entered
			s.stop()
			for s.health.IsReady() { // the stop is seen by another goroutine
				runtime.Gosched()
			}
			select {
			case err := <-s.done:
				t.Fatalf("Run returned %v with a request in flight", err)
			default:
			}
			close(release)
			if body := <-got; body != "answered" {
				t.Errorf("the request in flight got %q", body)
			}
			if err := <-s.done; err != nil {
				t.Errorf("a clean drain returned %v", err)
			}
			if _, err := c.Get(s.url); err == nil {
				t.Error("the listener still accepts")
			}
		})
	}
}

func TestGraceEnds(t *testing.T) {
	entered := make(chan struct{})
	ended := make(chan struct{})
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done() // ends when the connection is cut
		close(ended)
	}, func(o *serve.Options) { o.Grace = time.Millisecond })
	c := client(t, false)
	got := make(chan error, 1)
	go func() {
		resp, err := c.Get(s.url)
		if err == nil {
			resp.Body.Close()
		}
		got <- err
	}()
	<-entered
	s.stop()
	err := <-s.done
	if err == nil || !strings.Contains(err.Error(), "1 requests were still unanswered") {
		t.Errorf("Run returned %v; want the number of requests cut off", err)
	}
	if err := <-got; err == nil {
		t.Error("the request that was cut off got an answer")
	}
	<-ended
}

// A connection that was opened and never used does not hold up the drain,
// which http.Server.Shutdown would let it do for 5 seconds.
func TestUnusedConnection(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {}, func(o *serve.Options) { o.Grace = 3 * time.Second })
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	get(t, client(t, false), s.url) // accepted after it, so it has been accepted too
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

func TestListenError(t *testing.T) {
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	err = serve.Run(t.Context(), serve.Options{Port: port, Handler: http.NotFoundHandler()})
	if err == nil || !strings.Contains(err.Error(), "listen on PORT "+port) {
		t.Errorf("got %v", err)
	}
}

func TestHealthAfterStop(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {}, nil)
	s.stop()
	<-s.done
	s.health.Ready() // a warm-up that ends late must not undo the stop
	if s.health.IsReady() {
		t.Error("ready after the stop")
	}
	if err := s.health.Check(); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("Check: %v", err)
	}
}

func problemOf(t *testing.T, body string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("not a problem: %q", body)
	}
	return m
}
