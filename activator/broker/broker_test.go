package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/event"
)

var shop = types.NamespacedName{Namespace: "default", Name: "shop"}

// a harness is a broker that runs, with subscribers that are handlers.
type harness struct {
	*Broker
	t           *testing.T
	opts        Options
	subscribers sync.Map // host → http.Handler
	stop        func()
}

// RoundTrip asks the handler of the request's host.
func (h *harness) RoundTrip(r *http.Request) (*http.Response, error) {
	handler, ok := h.subscribers.Load(r.URL.Host)
	if !ok {
		return nil, fmt.Errorf("dial tcp: lookup %s: no such host", r.URL.Host)
	}
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		handler.(http.Handler).ServeHTTP(w, r)
	}()
	select {
	case <-done:
		return w.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (h *harness) subscribe(host string, f http.HandlerFunc) {
	h.subscribers.Store(host, http.Handler(f))
}

func newHarness(t *testing.T, o Options, manifests ...string) *harness {
	t.Helper()
	h := &harness{t: t, opts: o}
	if h.opts.Dir == "" {
		h.opts.Dir = t.TempDir()
	}
	h.opts.Transport = h
	if h.opts.Logger == nil {
		h.opts.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	h.start(manifests...)
	t.Cleanup(func() { h.stop() })
	return h
}

// start opens, applies and runs; it is called again after stop.
func (h *harness) start(manifests ...string) {
	h.t.Helper()
	h.opts.Registry = prometheus.NewRegistry()
	b, err := Open(h.t.Context(), h.opts)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Broker = b
	if err := b.Apply(h.t.Context(), parse(h.t, manifests...)); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			h.t.Errorf("Run: %v", err)
		}
		if err := b.Close(); err != nil {
			h.t.Errorf("Close: %v", err)
		}
	})
}

func parse(t testing.TB, manifests ...string) []Object {
	t.Helper()
	var all []Object
	for _, text := range manifests {
		for doc := range strings.SplitSeq(text, "\n---\n") {
			o, findings := Parse(object(t, doc))
			if o == nil {
				t.Fatalf("%s\nis refused: %v", doc, findings)
			}
			all = append(all, o)
		}
	}
	return all
}

func object(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

// post sends a body to the ingress and gives the status and the answer.
func (h *harness) post(path string, header map[string]string, body string) *http.Response {
	h.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.Ingress().ServeHTTP(w, r)
	return w.Result()
}

// send sends a plain event with an id, which must be accepted.
func (h *harness) send(id string, more ...string) {
	h.t.Helper()
	header := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": "/test", "Ce-Type": "test", "Content-Type": "application/json"}
	for i := 0; i < len(more); i += 2 {
		header[more[i]] = more[i+1]
	}
	if resp := h.post("/default/shop", header, `{}`); resp.StatusCode != http.StatusAccepted {
		text, _ := io.ReadAll(resp.Body)
		h.t.Fatalf("event %s: %d %s", id, resp.StatusCode, text)
	}
}

// admin asks the admin handler.
func (h *harness) admin(method, path string, into any) int {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.Admin().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	if into != nil && w.Code < 300 {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			h.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	}
	return w.Code
}

// received reads events that a subscriber got.
func received(t *testing.T, ch <-chan ce.Event) ce.Event {
	t.Helper()
	select {
	case ev := <-ch:
		return ev
	case <-time.After(time.Minute):
		t.Fatal("no event came within a minute")
		return ce.Event{}
	}
}

// collect is a subscriber that takes every event.
func collect() (http.HandlerFunc, chan ce.Event) {
	ch := make(chan ce.Event, 10_000)
	return func(w http.ResponseWriter, r *http.Request) {
		ev, _, err := event.Read(w, r, 1<<20)
		if err != nil {
			panic(err)
		}
		ch <- ev
		w.WriteHeader(http.StatusAccepted)
	}, ch
}

const shopBroker = `
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: shop, namespace: default}
`

// triggerTo is a Trigger of the Broker shop to the Service name, with more of
// its spec.
func triggerTo(name, more string) string {
	return fmt.Sprintf(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: %s, namespace: default}
spec:
  broker: shop
  subscriber: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: %[1]s}}
%s`, name, more)
}

const host = ".default.svc.cluster.local"

func TestDelivers(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, triggerTo("sort", ""))
	take, got := collect()
	h.subscribe("sort"+host, take)
	h.send("1", "Ce-Colour", "red")
	ev := received(t, got)
	if ev.ID() != "1" || ev.Extensions()["colour"] != "red" || string(ev.Data()) != "{}" || ev.Extensions()["knativebrokerttl"] != nil {
		t.Errorf("got %v", ev)
	}
}
