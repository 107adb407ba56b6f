// Package spans tells an OpenTelemetry collector what a function did for the
// requests whose trace it is in.
//
// It is the little that a function needs of OpenTelemetry's SDK, whose
// exporters link protocol buffers, which functions do not: spans go out in
// OTLP over HTTP, as JSON (https://opentelemetry.io/docs/specs/otlp/). The
// engine and the command line, which nobody pulls, use internal/tracing.
//
// Guarantees: without an endpoint nothing is started, sent or buffered; with
// one, spans wait in a bounded buffer, are sent in batches, and are dropped
// when it is full: a collector that is slow or gone never slows a request.
//
// Non-goals: beginning traces and sampling (whoever calls a function does:
// only requests that come with a sampled trace context have spans), metrics
// and logs.
package spans

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	buffered    = 2048 // spans that wait
	batch       = 512  // spans sent at once
	interval    = 2 * time.Second
	sendTimeout = 5 * time.Second
)

// Parent is the trace context of a request (W3C Trace Context). The zero
// Parent is none.
type Parent struct {
	Trace   string // 32 hex digits
	Span    string // 16 hex digits
	Sampled bool
}

// ParentOf reads a request's traceparent header; what is not valid is none.
func ParentOf(h http.Header) Parent {
	v := h.Get("Traceparent")
	if len(v) < 55 || len(v) > 512 || v[2] != '-' || v[35] != '-' || v[52] != '-' || v[:2] == "ff" || v[:2] == "00" && len(v) != 55 || len(v) > 55 && v[55] != '-' {
		return Parent{}
	}
	for _, part := range []string{v[:2], v[3:35], v[36:52], v[53:55]} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return Parent{}
		}
	}
	p := Parent{Trace: v[3:35], Span: v[36:52]}
	if strings.Trim(p.Trace, "0") == "" || strings.Trim(p.Span, "0") == "" {
		return Parent{}
	}
	flags, _ := strconv.ParseUint(v[53:55], 16, 8) // hex digits, as seen above
	if v[:2] == "00" && flags > 3 {                // reserved bits: OpenTelemetry takes no such header
		return Parent{}
	}
	p.Sampled = flags&1 == 1
	return p
}

// Span is one piece of work within a trace.
type Span struct {
	Name       string
	Start, End time.Time
	Failed     bool
	Attributes map[string]string
}

// Exporter sends spans. A nil Exporter takes none.
type Exporter struct {
	endpoint, service string
	log               *slog.Logger
	client            http.Client
	waiting           chan span
}

// New returns an exporter to the endpoint that OpenTelemetry's environment
// variables name, for spans of the named service; nil where they name none, or
// turn traces off. One that is no http or https URL is an error; one that does
// not answer is not.
func New(getenv func(string) string, service string, log *slog.Logger) (*Exporter, error) {
	endpoint := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if base := getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); endpoint == "" && base != "" {
		var err error
		if endpoint, err = url.JoinPath(base, "v1/traces"); err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT %q: %w", base, err)
		}
	}
	if endpoint == "" || getenv("OTEL_SDK_DISABLED") == "true" || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	if u, err := url.Parse(endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the endpoint for traces %q is not an http or https URL, such as http://127.0.0.1:4318", endpoint)
	}
	return &Exporter{
		endpoint: endpoint, service: cmp.Or(getenv("OTEL_SERVICE_NAME"), service), log: log,
		client: http.Client{Timeout: sendTimeout}, waiting: make(chan span, buffered),
	}, nil
}

// Record takes a span of the parent's trace, if that is sampled and there is
// room. It never waits.
func (e *Exporter) Record(p Parent, s Span) {
	if e == nil || !p.Sampled {
		return
	}
	select {
	case e.waiting <- encode(p, s):
	default:
	}
}

// Run sends spans until ctx ends, and then what is left.
func (e *Exporter) Run(ctx context.Context) {
	if e == nil {
		return
	}
	defer e.client.CloseIdleConnections()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	failing := false
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-tick.C:
		}
		for len(e.waiting) > 0 {
			err := e.send(context.WithoutCancel(ctx))
			switch {
			case err != nil && !failing:
				e.log.Warn("traces are not taken, and are dropped until they are; start the collector, or unset OTEL_EXPORTER_OTLP_ENDPOINT", "endpoint", e.endpoint, "error", err)
			case err == nil && failing:
				e.log.Info("traces are taken again", "endpoint", e.endpoint)
			}
			if failing = err != nil; failing {
				break // until the next tick
			}
		}
	}
}

// send sends one batch. Only Run calls it.
func (e *Exporter) send(ctx context.Context) error {
	spans := make([]span, 0, min(len(e.waiting), batch))
	for len(spans) < cap(spans) {
		spans = append(spans, <-e.waiting)
	}
	var r request
	r.ResourceSpans[0].Resource.Attributes = attributes(map[string]string{"service.name": e.service})
	r.ResourceSpans[0].ScopeSpans[0].Spans = spans
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is kept
	if resp.StatusCode >= 300 {
		return fmt.Errorf("the collector answers %s", resp.Status)
	}
	return nil
}

// request, span and attribute are OTLP's messages in JSON.
type request struct {
	ResourceSpans [1]struct {
		Resource struct {
			Attributes []attribute `json:"attributes"`
		} `json:"resource"`
		ScopeSpans [1]struct {
			Spans []span `json:"spans"`
		} `json:"scopeSpans"`
	} `json:"resourceSpans"`
}

type span struct {
	TraceID      string      `json:"traceId"`
	SpanID       string      `json:"spanId"`
	ParentSpanID string      `json:"parentSpanId"`
	Name         string      `json:"name"`
	Kind         int         `json:"kind"`
	Start        string      `json:"startTimeUnixNano"`
	End          string      `json:"endTimeUnixNano"`
	Attributes   []attribute `json:"attributes,omitempty"`
	Status       struct {
		Code int `json:"code,omitempty"`
	} `json:"status"`
}

type attribute struct {
	Key   string `json:"key"`
	Value struct {
		String string `json:"stringValue"`
	} `json:"value"`
}

func attributes(values map[string]string) []attribute {
	out := make([]attribute, 0, len(values))
	for k, v := range values {
		a := attribute{Key: k}
		a.Value.String = v
		out = append(out, a)
	}
	return out
}

// Values of OTLP's span.kind and span.status.code.
const (
	kindServer  = 2
	statusError = 2
)

func encode(p Parent, s Span) span {
	var id [8]byte
	_, _ = rand.Read(id[:]) // which never fails
	out := span{
		TraceID: p.Trace, SpanID: hex.EncodeToString(id[:]), ParentSpanID: p.Span, Name: s.Name, Kind: kindServer,
		Start: strconv.FormatInt(s.Start.UnixNano(), 10), End: strconv.FormatInt(s.End.UnixNano(), 10), Attributes: attributes(s.Attributes),
	}
	if s.Failed {
		out.Status.Code = statusError
	}
	return out
}
