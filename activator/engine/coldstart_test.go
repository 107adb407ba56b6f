package engine

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/internal/manifest"
)

// started is a start of 40 ms, 10 after the given time.
func started(at time.Time) *coldStart {
	ms := func(n int) time.Time { return at.Add(time.Duration(n) * time.Millisecond) }
	took := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	return newColdStart(ms(10), pod.Phases{
		Asked: ms(11), Launched: ms(14), Ready: ms(50),
		Own: []pod.Phase{{Name: "runtime", Took: took(20)}, {Name: "made-up", Took: took(5)}, {Name: "model", Took: took(3)}},
	})
}

// TestColdStart: the phases add up to the wait, whatever the pod tells.
func TestColdStart(t *testing.T) {
	arrived := time.Now()
	c := started(arrived)
	if got, want := c.timing(arrived, 51*time.Millisecond, 2*time.Millisecond),
		"wake;dur=51.0, queued;dur=10.0, decided;dur=1.0, launched;dur=3.0, runtime;dur=20.0, model;dur=3.0, ready;dur=13.0, first;dur=2.0"; got != want {
		t.Errorf("alone: %s, want %s", got, want)
	}
	if got, want := c.timing(arrived.Add(30*time.Millisecond), 21*time.Millisecond, 0),
		"wake;dur=21.0, decided;dur=1.0, launched;dur=3.0, runtime;dur=20.0, model;dur=3.0, ready;dur=13.0"; got != want {
		t.Errorf("in the middle of it: %s, want %s", got, want)
	}
	if liar := newColdStart(arrived, pod.Phases{Asked: arrived, Launched: arrived, Ready: arrived, Own: []pod.Phase{{Name: "runtime", Took: time.Hour}}}); liar.phases[3].Took != 0 {
		t.Errorf("a pod that tells of more than it took: %v", liar.phases)
	}
}

// TestTraces: a request's span is in its caller's trace, holds the wait for
// the pod and its phases, and is what the pod is told of.
func TestTraces(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	var told string
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { told = req.Header.Get("Traceparent") }))
	defer backend.Close()

	r := calling(t, &manifest.Template{Timeout: time.Minute})
	r.tracer = provider.Tracer("test")
	p := open(t, r, strings.TrimPrefix(backend.URL, "http://"))
	begun := time.Now()
	p.cold, p.ready = started(begun), begun.Add(time.Hour) // it became ready while the request waited
	req := httptest.NewRequest(http.MethodGet, "http://one.default.localhost/", nil)
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	rec := httptest.NewRecorder()
	r.serve(rec, req)

	if got := rec.Header().Get("Server-Timing"); !strings.HasPrefix(got, "wake;dur=") || !strings.Contains(got, ", runtime;dur=20.0, ") || !strings.Contains(got, ", first;dur=") {
		t.Errorf("Server-Timing is %q", got)
	}
	byName := map[string]tracetest.SpanStub{}
	for _, s := range spans.GetSpans() {
		byName[s.Name] = s
	}
	whole, wake := byName["default/one"], byName["wake"]
	if id := whole.SpanContext.TraceID().String(); id != "0af7651916cd43dd8448eb211c80319c" || whole.Parent.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("the request's span is %s in trace %s", whole.Name, id)
	}
	if want := "00-0af7651916cd43dd8448eb211c80319c-" + whole.SpanContext.SpanID().String() + "-01"; told != want {
		t.Errorf("the pod was told %q, want %q", told, want)
	}
	if wake.Parent.SpanID() != whole.SpanContext.SpanID() {
		t.Error("the wait is not within the request")
	}
	for _, phase := range []string{phaseDecided, phaseLaunched, "runtime", "model", phaseServing} {
		if s, ok := byName[phase]; !ok || s.Parent.SpanID() != wake.SpanContext.SpanID() {
			t.Errorf("phase %s: there is %t, or not within the wait", phase, ok)
		}
	}
	if took := byName["runtime"].EndTime.Sub(byName["runtime"].StartTime); took != 20*time.Millisecond {
		t.Errorf("runtime took %v", took)
	}
}
