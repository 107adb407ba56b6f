package spans

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
)

func header(v string) http.Header { return http.Header{"Traceparent": {v}} }

func TestExport(t *testing.T) {
	bodies := make(chan []byte, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s, %s", r.URL.Path, r.Header.Get("Content-Type"))
		}
		bodies <- body
	}))
	defer collector.Close()
	e, err := New(func(k string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}[k]
	}, "classifier", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { e.Run(ctx) })
	start := time.Unix(1, 5)
	e.Record(ParentOf(header("00-"+traceID+"-"+spanID+"-01")), Span{Name: "POST /v1/classify", Start: start, End: start.Add(time.Second), Failed: true, Attributes: map[string]string{"http.route": "classify"}})
	e.Record(ParentOf(header("00-"+traceID+"-"+spanID+"-00")), Span{Name: "not sampled"})
	e.Record(Parent{}, Span{Name: "without a trace"})
	stop()
	wg.Wait() // what is left is sent
	var got request
	if err := json.Unmarshal(<-bodies, &got); err != nil {
		t.Fatal(err)
	}
	spans := got.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 1 || got.ResourceSpans[0].Resource.Attributes[0].Value.String != "classifier" {
		t.Fatalf("%+v", got)
	}
	s := spans[0]
	if s.TraceID != traceID || s.ParentSpanID != spanID || len(s.SpanID) != 16 || s.Start != "1000000005" || s.End != "2000000005" || s.Status.Code != statusError || s.Attributes[0].Key != "http.route" {
		t.Errorf("%+v", s)
	}
}

// A collector that refuses is told of once, and spans beyond the buffer are
// dropped.
func TestExportFails(t *testing.T) {
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	defer collector.Close()
	var log bytes.Buffer
	e, err := New(func(k string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.URL}[k]
	}, "classifier", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range buffered + 100 {
		e.Record(Parent{Trace: traceID, Span: spanID, Sampled: true}, Span{})
	}
	if len(e.waiting) != buffered {
		t.Errorf("%d wait", len(e.waiting))
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	e.Run(ctx)
	if strings.Count(log.String(), "traces are not taken") != 1 {
		t.Errorf("log %q", log.String())
	}
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  map[string]string
		want string // an endpoint, or an error
	}{
		{"none", nil, ""},
		{"off", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_SDK_DISABLED": "true"}, ""},
		{"no exporter", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_TRACES_EXPORTER": "none"}, ""},
		{"base", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318/x"}, "http://a:4318/x/v1/traces"},
		{"of traces", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://b/c"}, "https://b/c"},
		{"another scheme", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://a"}, "not an http or https URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := New(func(k string) string { return tt.env[k] }, "x", nil)
			switch {
			case err != nil:
				if tt.want == "" || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v", err)
				}
			case (e == nil) != (tt.want == "") || e != nil && e.endpoint != tt.want:
				t.Errorf("%+v, want %q", e, tt.want)
			}
		})
	}
	var none *Exporter
	none.Record(Parent{Sampled: true}, Span{})
	none.Run(t.Context())
}

// FuzzParentOf: it reads what OpenTelemetry's own propagator reads.
func FuzzParentOf(f *testing.F) {
	for _, s := range []string{"", "00-" + traceID + "-" + spanID + "-01", "00-" + traceID + "-" + spanID + "-00", "01-" + traceID + "-" + spanID + "-01-more", "00-" + traceID + "-" + spanID + "-10",
		"ff-" + traceID + "-" + spanID + "-01", "00-" + strings.Repeat("0", 32) + "-" + spanID + "-01", "00-" + strings.ToUpper(traceID) + "-" + spanID + "-01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		got := ParentOf(header(v))
		want := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(t.Context(), propagation.HeaderCarrier(header(v))))
		if got == (Parent{}) {
			return // it may be stricter
		}
		if !want.IsValid() || want.TraceID().String() != got.Trace || want.SpanID().String() != got.Span || want.IsSampled() != got.Sampled {
			t.Errorf("%q is read as %+v, by OpenTelemetry as %v", v, got, want)
		}
	})
}
