package classify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"aisle.dev/aisle/internal/classify"
	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/serve"
)

// gate is a Session whose runs wait to be let through. It gives every product
// the logits 0, 1, 2.
type gate struct {
	device string
	runs   chan int      // gets each run's batch size when it begins
	pass   chan struct{} // a run ends for each value, or all do once it is closed
	err    error
	fill   func(out []float32) // changes what it gives, when it is set
}

func newGate() *gate {
	return &gate{device: onnx.CPU, runs: make(chan int, 100), pass: make(chan struct{}, 100)}
}

func (g *gate) Device() string { return g.device }

func (g *gate) Keys(int) []string { return nil }

func (g *gate) Run(ctx context.Context, in, out []onnx.Tensor) error {
	n := int(in[0].Shape[0])
	g.runs <- n
	select {
	case <-g.pass:
	case <-ctx.Done():
		return ctx.Err()
	}
	for i := range out[0].F32 {
		out[0].F32[i] = float32(i % 3)
	}
	if g.fill != nil {
		g.fill(out[0].F32)
	}
	return g.err
}

// gated starts a title classifier of one worker on a gate, warm for a batch
// of one: its larger size warms when the first request has been answered.
func gated(t *testing.T, set func(*classify.Options)) (*running, *gate) {
	t.Helper()
	g := newGate()
	g.pass <- struct{}{} // the warm run
	r := start(t, classifytest.Title(t), g, func(o *classify.Options) {
		o.Workers = 1
		if set != nil {
			set(o)
		}
	})
	if n := <-g.runs; n != 1 {
		t.Fatalf("warmed with a batch of %d", n)
	}
	return r, g
}

// post sends one title in the background.
func (r *running) post(t *testing.T, ctx context.Context) chan reply {
	got := make(chan reply, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, "POST", r.url+"/v1/classify", strings.NewReader(`{"title":"shirt"}`))
		resp, err := r.client.Do(req)
		if err != nil {
			got <- reply{code: -1, body: []byte(err.Error())}
			return
		}
		defer resp.Body.Close()
		got <- reply{code: resp.StatusCode, header: resp.Header}
	}()
	return got
}

// metric waits until the classifier's metrics say so.
func (r *running) metric(t *testing.T, line string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		body := string(r.do(t, "GET", "/metrics", "", nil).body)
		if strings.Contains(body, line+"\n") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in\n%s", line, body)
		}
	}
}

func TestBatchIsWhatIsQueued(t *testing.T) {
	r, g := gated(t, nil)
	var got []chan reply
	got = append(got, r.post(t, t.Context()))
	if n := <-g.runs; n != 1 { // it does not wait for company
		t.Fatalf("first batch of %d", n)
	}
	for range 6 {
		got = append(got, r.post(t, t.Context()))
	}
	r.metric(t, "aisle_classifier_queue_length 6")
	close(g.pass)
	for _, c := range got {
		if a := <-c; a.code != 200 {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	// The largest batch size is 4; the larger size warms meanwhile.
	sizes := map[int]int{}
	for range 3 {
		sizes[<-g.runs]++
	}
	if sizes[4] != 2 || sizes[2] != 1 {
		t.Errorf("then batches of %v, want 4 (warming), 4 and 2", sizes)
	}
}

func TestFull(t *testing.T) {
	r, g := gated(t, func(o *classify.Options) { o.Queue = 2 })
	a := r.post(t, t.Context())
	<-g.runs
	b := r.post(t, t.Context())
	r.metric(t, "aisle_classifier_requests_inside 2")
	got := r.do(t, "POST", "/v1/classify", "application/json", []byte(`{"title":"shirt"}`))
	if got.code != 503 || got.header.Get("Retry-After") != "1" || !strings.Contains(string(got.body), "full") || got.header.Get("Aisle-Reads") == "" {
		t.Errorf("%d, Retry-After %q: %s", got.code, got.header.Get("Retry-After"), got.body)
	}
	close(g.pass)
	for _, c := range []chan reply{a, b} {
		if x := <-c; x.code != 200 {
			t.Errorf("one that was inside got %d %s", x.code, x.body)
		}
	}
}

func TestCallersThatLeave(t *testing.T) {
	r, g := gated(t, nil)
	leaveQueue, leave1 := context.WithCancel(t.Context())
	leaveRun, leave2 := context.WithCancel(t.Context())
	running := r.post(t, leaveRun)
	<-g.runs
	queued := r.post(t, leaveQueue)
	r.metric(t, "aisle_classifier_queue_length 1")
	leave1()
	r.metric(t, `aisle_classifier_requests_total{code="499",route="classify"} 1`) // the server has noticed
	leave2()
	for _, c := range []chan reply{running, queued} {
		if a := <-c; a.code != -1 {
			t.Errorf("got %d", a.code)
		}
	}
	// The run was stopped, since nobody waits for it, and the queued one never
	// ran: the worker is free again, with the gate still shut.
	r.metric(t, "aisle_classifier_dropped_total 1")
	r.metric(t, `aisle_classifier_requests_total{code="499",route="classify"} 2`)
	g.pass <- struct{}{} // for the size that warms once a batch has run
	if n := <-g.runs; n != 4 {
		t.Errorf("warmed %d", n)
	}
	next := r.post(t, t.Context())
	if n := <-g.runs; n != 1 {
		t.Errorf("batch of %d", n)
	}
	close(g.pass)
	if a := <-next; a.code != 200 {
		t.Errorf("%d %s", a.code, a.body)
	}
}

// One of a batch's callers leaving does not stop the others' run.
func TestOneCallerLeaves(t *testing.T) {
	r, g := gated(t, nil)
	first := r.post(t, t.Context())
	<-g.runs
	ctx, leave := context.WithCancel(t.Context())
	leaver, stayer := r.post(t, ctx), r.post(t, t.Context())
	r.metric(t, "aisle_classifier_queue_length 2")
	g.pass <- struct{}{}
	if a := <-first; a.code != 200 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	for <-g.runs != 2 { // or the size that warms
	}
	leave()
	<-leaver
	r.metric(t, `aisle_classifier_requests_total{code="499",route="classify"} 1`)
	close(g.pass)
	if a := <-stayer; a.code != 200 {
		t.Errorf("%d %s", a.code, a.body)
	}
}

func TestTimeout(t *testing.T) {
	r, g := gated(t, func(o *classify.Options) { o.Timeout = 20 * time.Millisecond })
	got := r.do(t, "POST", "/v1/classify", "application/json", []byte(`{"title":"shirt"}`))
	if got.code != 504 {
		t.Errorf("%d %s", got.code, got.body)
	}
	close(g.pass)
}

func TestRunFails(t *testing.T) {
	g := newGate()
	close(g.pass)
	r := start(t, classifytest.Title(t), g, nil)
	g.err = errors.New("the graph broke at /secret/path")
	got := r.do(t, "POST", "/v1/classify", "application/json", []byte(`{"title":"shirt"}`))
	var p struct{ Error string }
	if err := json.Unmarshal(got.body, &p); err != nil || got.code != 500 || strings.Contains(p.Error, "secret") {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestNotReadyUntilWarm(t *testing.T) {
	for _, device := range []string{onnx.CPU, onnx.CUDA} {
		t.Run(device, func(t *testing.T) {
			g := newGate()
			g.device = device
			health := new(serve.Health)
			p := loadPackage(t, classifytest.Title(t))
			ready := make(chan struct{})
			c, err := classify.New(classify.Options{Package: p, Health: health, OnReady: func(string) { close(ready) }})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- c.Run(ctx, g) }()
			want := []int{1} // on a CPU, the larger one warms behind
			if device == onnx.CUDA {
				want = p.Spec.BatchSizes
			}
			for _, size := range want {
				if n := <-g.runs; n != size || health.IsReady() {
					t.Errorf("batch of %d, ready %v; want %d and false", n, health.IsReady(), size)
				}
				g.pass <- struct{}{}
			}
			if device == onnx.CPU {
				if n := <-g.runs; n != 4 || !health.IsReady() { // after a second without a request
					t.Errorf("behind: batch of %d, ready %v", n, health.IsReady())
				}
			}
			<-ready // an end that comes before breaks the warming off
			cancel()
			if err := <-ran; err != nil {
				t.Error(err)
			}
			if !health.IsReady() {
				t.Error("never ready")
			}
		})
	}
}

func TestRequestsBeforeReady(t *testing.T) {
	c, err := classify.New(classify.Options{Package: loadPackage(t, classifytest.Title(t))})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{c: c}
	rec := r.record("POST", "/v1/classify", `{"title":"shirt"}`)
	if rec.Code != 503 || rec.Header().Get("Retry-After") != "1" || rec.Header().Get("Aisle-Reads") == "" {
		t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	if rec := r.record("GET", "/", ""); rec.Code != 200 || strings.Contains(rec.Body.String(), "device") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// Many callers, some of whom leave at any moment: each that stays gets an
// answer.
func TestLeavingAtAnyMoment(t *testing.T) {
	r := start(t, classifytest.Photo(t), nil, nil)
	body := picture(t, blue)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 40 {
				ctx, cancel := context.WithCancel(t.Context())
				leaves := (g+i)%3 == 0
				if leaves {
					time.AfterFunc(time.Duration(i*20)*time.Microsecond, cancel)
				}
				req, _ := http.NewRequestWithContext(ctx, "POST", r.url+"/v1/classify", strings.NewReader(string(body)))
				req.Header.Set("Content-Type", "image/png")
				resp, err := r.client.Do(req)
				if err == nil {
					if resp.StatusCode != 200 {
						t.Errorf("status %d", resp.StatusCode)
					}
					resp.Body.Close()
				} else if !leaves {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	r.metric(t, "aisle_classifier_requests_inside 0")
	r.metric(t, fmt.Sprintf("aisle_classifier_queue_length %d", 0))
}
