package classify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"aisle.dev/aisle/internal/oip"
	"aisle.dev/aisle/internal/openapi"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/spans"
)

// statusGone is nginx's code for a caller that went away; only metrics see it.
const statusGone = 499

// Handler serves the classifier's paths.
func (c *Classifier) Handler() http.Handler {
	h := problem.Handler(c.route, func(r *http.Request, err error) {
		c.logFor(r).Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(prediction.HeaderReads, c.reads)
		began := time.Now()
		if oip.Serves(r) {
			c.oip.ServeHTTP(w, r) // which tells metrics of its requests itself
			c.span(r, "oip", 0, w.Header(), began)
			return
		}
		sw := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		h.ServeHTTP(sw, r)
		c.metrics.answered(routeOf(r), sw.code, time.Since(began))
		c.span(r, routeOf(r), sw.code, w.Header(), began)
	})
}

// logFor is the log for what concerns one request: with its trace, if it has
// one.
func (c *Classifier) logFor(r *http.Request) *slog.Logger {
	if p := spans.ParentOf(r.Header); p.Trace != "" {
		return c.log.With("traceId", p.Trace)
	}
	return c.log
}

// span tells of a request within its trace. A code of 0 is not known.
func (c *Classifier) span(r *http.Request, route string, code int, answer http.Header, began time.Time) {
	if c.spans == nil {
		return
	}
	p := spans.ParentOf(r.Header)
	if !p.Sampled {
		return
	}
	attributes := map[string]string{"http.request.method": r.Method, "http.route": route, "aisle.model": c.pkg.Spec.Name, "aisle.digest": c.pkg.Digest}
	if code != 0 {
		attributes["http.response.status_code"] = strconv.Itoa(code)
	}
	if t := answer.Get("Server-Timing"); t != "" {
		attributes["aisle.timing"] = t
	}
	c.spans.Record(p, spans.Span{Name: r.Method + " " + route, Start: began, End: time.Now(), Failed: code >= 500, Attributes: attributes})
}

// routeOf names a request's route for metrics.
func routeOf(r *http.Request) string {
	switch {
	case r.URL.Path == "/v1/classify":
		return "classify"
	case r.URL.Path == "/" && r.Method == http.MethodPost:
		return "event"
	case r.URL.Path == "/", r.URL.Path == openapi.Path:
		return "describe"
	}
	return "other"
}

// statusWriter remembers the status code.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (c *Classifier) route(w http.ResponseWriter, r *http.Request) error {
	switch path := r.URL.Path; {
	case path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		return c.describe(w)
	case path == "/" && r.Method == http.MethodPost:
		return c.inside(w, r, c.event)
	case path == "/v1/classify" && r.Method == http.MethodPost:
		return c.inside(w, r, c.classify)
	case path == openapi.Path && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		return describeHTTP(w)
	case path == "/":
		w.Header().Set("Allow", "GET, HEAD, POST")
	case path == "/v1/classify":
		w.Header().Set("Allow", "POST")
	case path == openapi.Path:
		w.Header().Set("Allow", "GET, HEAD")
	default:
		return problem.New(http.StatusNotFound, "there is nothing at %.100q; POST a product to /v1/classify, or a CloudEvent to /; tensors are below /v2", path)
	}
	return problem.New(http.StatusMethodNotAllowed, "%.20q is not for %s; it takes %s", r.Method, r.URL.Path, w.Header().Get("Allow"))
}

// inside admits a request, if there is room, and bounds its time.
func (c *Classifier) inside(w http.ResponseWriter, r *http.Request, next func(http.ResponseWriter, *http.Request) error) error {
	release, err := c.admit()
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), c.timeout)
	defer cancel()
	err = next(w, r.WithContext(ctx))
	if err != nil && r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return problem.New(statusGone, "the caller went away")
	}
	return err
}

// admit takes a slot for a request.
func (c *Classifier) admit() (release func(), err error) {
	// Only before the first warm run there is nobody to do the work: while it
	// drains, what still arrives on open connections is answered.
	if err := c.started(); err != nil {
		return nil, err
	}
	if err := c.slots.take(1); err != nil {
		return nil, err
	}
	return c.giveOne, nil
}

func (c *Classifier) giveOne() { c.slots.give(1) }

// started is an error until there are workers.
func (c *Classifier) started() error {
	select {
	case <-c.running:
		return nil
	default:
		return &problem.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Detail: "the classifier is still starting"}
	}
}

// describe answers GET / with what the package says of itself.
func (c *Classifier) describe(w http.ResponseWriter) error {
	s, device := c.pkg.Spec, ""
	select {
	case <-c.running:
		device = c.device
	default:
	}
	return writeJSON(w, struct {
		Model       prediction.Model   `json:"model"`
		Description string             `json:"description,omitempty"`
		Device      string             `json:"device,omitempty"` // absent until the model is loaded
		Reads       []string           `json:"reads"`
		Labels      int                `json:"labels"`
		MaxBatch    int                `json:"maxBatch"`
		Metrics     map[string]float64 `json:"metrics,omitempty"`
	}{c.Model(), s.Description, device, s.Reads, len(c.pkg.Labels), s.BatchSizes[len(s.BatchSizes)-1], s.Metrics})
}

// describeHTTP answers with the OpenAPI document.
func describeHTTP(w http.ResponseWriter) error {
	doc, err := openapi.Document()
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(doc)))
	_, _ = w.Write(doc) // the client has gone; there is nobody left to tell
	return nil
}

func writeJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write an answer: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	_, _ = w.Write(append(body, '\n')) // the client has gone; there is nobody left to tell
	return nil
}
