package tracing_test

import (
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"aisle.dev/aisle/internal/tracing"
)

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

// TestSent has a collector of the real protocol receive a span and its parent.
func TestSent(t *testing.T) {
	got := make(chan *collector.ExportTraceServiceRequest, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" {
			t.Errorf("posted to %s", r.URL.Path)
		}
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		var req collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(text, &req); err != nil {
			t.Error(err)
		}
		got <- &req
	}))
	defer server.Close()

	p, err := tracing.New(t.Context(), env(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL}), "engine", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	in := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	ctx, span := p.Tracer("test").Start(tracing.Extract(t.Context(), in), "wake")
	out := http.Header{}
	tracing.Inject(ctx, out)
	span.End()
	if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	rs := (<-got).ResourceSpans[0]
	if a := rs.Resource.Attributes[0]; a.Key != "service.name" || a.Value.GetStringValue() != "engine" {
		t.Errorf("resource is %v", rs.Resource)
	}
	s := rs.ScopeSpans[0].Spans[0]
	if s.Name != "wake" || len(s.ParentSpanId) != 8 || s.ParentSpanId[0] != 0xb7 {
		t.Errorf("span is %v", s)
	}
	if tp := out.Get("Traceparent"); len(tp) != 55 || tp[3:35] != "0af7651916cd43dd8448eb211c80319c" || tp[36:52] == "b7ad6b7169203331" {
		t.Errorf("passed on %q", tp)
	}
}

// TestSilent: without an endpoint, or with one that is switched off, nothing is
// made, and headers stay as they are.
func TestSilent(t *testing.T) {
	for name, pairs := range map[string]map[string]string{
		"no endpoint":  {},
		"disabled":     {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		"exporter off": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := tracing.New(t.Context(), env(pairs), "engine", slog.New(slog.DiscardHandler))
			if p != nil || err != nil {
				t.Fatalf("made %v, %v", p, err)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	h := http.Header{"Traceparent": {parent}}
	tracing.Inject(tracing.Extract(t.Context(), h), h)
	if len(h) != 1 || h.Get("Traceparent") != parent {
		t.Errorf("headers became %v", h)
	}
}

func TestEndpoint(t *testing.T) {
	for _, bad := range []string{"127.0.0.1:4318", "ftp://collector", "http://", "http://%zz"} {
		if _, err := tracing.New(t.Context(), env(map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": bad}), "engine", slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestToldOnce: a collector that is away is told of once, not at every batch,
// and so is its return.
func TestToldOnce(t *testing.T) {
	away := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if away {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer server.Close()
	var text strings.Builder
	p, err := tracing.New(t.Context(), env(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL}), "engine", slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, away = range []bool{true, true, false, false} {
		_, span := p.Tracer("test").Start(t.Context(), "wake")
		span.End()
		if err := p.ForceFlush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if got := text.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "start the collector") || !strings.Contains(got, "traces are taken again") {
		t.Errorf("told %q", got)
	}
}
