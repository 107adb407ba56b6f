package engine

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"aisle.dev/aisle/internal/tracing"
)

// The engine's spans, where it traces: an event's acceptance, each of its
// deliveries, each request of a service, and within that the wait for a pod
// with the phases of the pod's start. Services are told of the span that their
// request is in, and take part by passing it on.

// traced begins a request's span, in the trace that its headers name or in a
// new one. end says what came of it.
func (r *revision) traced(ctx context.Context, req *http.Request, c *call) (_ context.Context, end func()) {
	ctx, span := r.tracer.Start(tracing.Extract(ctx, req.Header), r.service,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(c.arrived), trace.WithAttributes(
			attribute.String("http.request.method", req.Method),
			attribute.String("url.path", req.URL.Path),
			attribute.String("k8s.namespace.name", r.spec.Namespace),
			attribute.String("kn.service.name", r.spec.Service),
			attribute.String("kn.revision.name", r.name),
		))
	return ctx, func() {
		span.SetAttributes(attribute.Int("http.response.status_code", c.code))
		if c.code >= 500 {
			span.SetStatus(codes.Error, http.StatusText(c.code))
		}
		span.End()
	}
}

// traceWake adds the wait for a pod to a request's span, and the pod's start
// within it.
func (r *revision) traceWake(ctx context.Context, c *call, p *podState, granted time.Time) {
	ctx, span := r.tracer.Start(ctx, "wake", trace.WithTimestamp(c.arrived), trace.WithAttributes(attribute.String("k8s.pod.name", p.name)))
	at := p.cold.decided
	for _, phase := range p.cold.phases {
		_, s := r.tracer.Start(ctx, phase.Name, trace.WithTimestamp(at))
		at = at.Add(phase.Took)
		s.End(trace.WithTimestamp(at))
	}
	span.End(trace.WithTimestamp(granted))
}

// tracedIngress begins the span of events that are offered to a Broker. The
// request that comes back names it, so that the events are stored with it.
func tracedIngress(tracer trace.Tracer, req *http.Request) (*http.Request, func()) {
	ctx, span := tracer.Start(tracing.Extract(req.Context(), req.Header), "broker"+req.URL.Path, trace.WithSpanKind(trace.SpanKindProducer))
	req = req.WithContext(ctx)
	tracing.Inject(ctx, req.Header)
	return req, func() { span.End() }
}

// tracedTransport makes a span of each delivery, in its event's trace.
type tracedTransport struct {
	next   http.RoundTripper
	tracer trace.Tracer
}

// RoundTrip implements [http.RoundTripper].
func (t *tracedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, span := t.tracer.Start(tracing.Extract(req.Context(), req.Header), "deliver "+req.URL.Host, trace.WithSpanKind(trace.SpanKindConsumer))
	defer span.End()
	req = req.Clone(ctx)
	tracing.Inject(ctx, req.Header)
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	return resp, nil
}
