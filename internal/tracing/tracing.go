// Package tracing sends OpenTelemetry traces where an endpoint is configured,
// and costs next to nothing where none is.
//
// The endpoint is that of OpenTelemetry's own environment variables
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/), which say also
// how it is spoken to: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or
// OTEL_EXPORTER_OTLP_ENDPOINT, in OTLP over HTTP. What is sampled is decided
// where a trace begins, by OTEL_TRACES_SAMPLER (all by default).
//
// Guarantees: without an endpoint nothing is started, sent or buffered, and a
// trace context that comes in goes on unchanged. With one, spans wait in a
// bounded buffer and are dropped when it is full: a collector that is slow or
// gone never slows a request.
//
// Non-goals: metrics and logs in OTLP (they are Prometheus' and the log's).
package tracing

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Provider makes tracers. Close sends what is still buffered.
type Provider struct{ *sdk.TracerProvider }

// New returns the provider that getenv's variables describe, for spans of the
// named service; nil where they name no endpoint. One that is no http or https
// URL is an error; one that does not answer is not: the log tells of it once.
func New(ctx context.Context, getenv func(string) string, service string, log *slog.Logger) (*Provider, error) {
	endpoint := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if endpoint == "" {
		if base := getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); base != "" {
			joined, err := url.JoinPath(base, "v1/traces")
			if err != nil {
				return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT %q: %w", base, err)
			}
			endpoint = joined
		}
	}
	if endpoint == "" || getenv("OTEL_SDK_DISABLED") == "true" || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	if u, err := url.Parse(endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the endpoint for traces %q is not an http or https URL, such as http://127.0.0.1:4318", endpoint)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("send traces to %s: %w", endpoint, err)
	}
	attributes := resource.NewSchemaless(attribute.String("service.name", cmp.Or(getenv("OTEL_SERVICE_NAME"), service)))
	return &Provider{sdk.NewTracerProvider(sdk.WithBatcher(&told{SpanExporter: exporter, log: log, endpoint: endpoint}), sdk.WithResource(attributes))}, nil
}

// told tells the log when spans cease to be taken and when they are again.
// OpenTelemetry itself would write every batch's failure to standard error.
// Its methods are called one at a time.
type told struct {
	sdk.SpanExporter
	log      *slog.Logger
	endpoint string
	failing  bool
}

// ExportSpans implements [sdk.SpanExporter].
func (t *told) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := t.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !t.failing:
		t.log.Warn("traces are not taken, and are dropped until they are; start the collector, or unset OTEL_EXPORTER_OTLP_ENDPOINT", "endpoint", t.endpoint, "err", err)
	case err == nil && t.failing:
		t.log.Info("traces are taken again", "endpoint", t.endpoint)
	}
	t.failing = err != nil
	return nil
}

// Close sends what is buffered, as long as ctx lasts, and ends the provider. A
// nil one has nothing to send.
func (p *Provider) Close(ctx context.Context) error {
	if p == nil {
		return nil
	}
	if err := p.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

var w3c propagation.TraceContext

// Extract returns ctx with the trace context of a request's headers, W3C
// Trace Context.
func Extract(ctx context.Context, h http.Header) context.Context {
	return w3c.Extract(ctx, propagation.HeaderCarrier(h))
}

// Inject writes the span of ctx into a request's headers. Without one that is
// recorded it leaves them as they are.
func Inject(ctx context.Context, h http.Header) {
	if trace.SpanFromContext(ctx).IsRecording() {
		w3c.Inject(ctx, propagation.HeaderCarrier(h))
	}
}
