package classify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
)

// defaultTop is how many predictions an answer has when the request does not
// say.
const defaultTop = 5

// statusGone is nginx's code for a caller that went away; only metrics see it.
const statusGone = 499

// Handler serves the classifier's paths.
func (c *Classifier) Handler() http.Handler {
	h := problem.Handler(c.route, func(r *http.Request, err error) {
		c.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(prediction.HeaderReads, c.reads)
		began := time.Now()
		sw := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		h.ServeHTTP(sw, r)
		c.metrics.answered(sw.code, time.Since(began))
	})
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
	case path == "/":
		w.Header().Set("Allow", "GET, HEAD, POST")
	case path == "/v1/classify":
		w.Header().Set("Allow", "POST")
	default:
		return problem.New(http.StatusNotFound, "there is nothing at %.100q; POST a product to /v1/classify, or a CloudEvent to /", path)
	}
	return problem.New(http.StatusMethodNotAllowed, "%.20q is not for %s; it takes %s", r.Method, r.URL.Path, w.Header().Get("Allow"))
}

// inside admits a request, if there is room, and bounds its time.
func (c *Classifier) inside(w http.ResponseWriter, r *http.Request, next func(http.ResponseWriter, *http.Request, *timing) error) error {
	// Only before the first warm run there is nobody to do the work: while it
	// drains, what still arrives on open connections is answered.
	select {
	case <-c.running:
	default:
		return &problem.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Detail: "the classifier is still starting"}
	}
	select {
	case c.admitted <- struct{}{}:
		defer func() { <-c.admitted }()
	default:
		return &problem.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second,
			Detail: fmt.Sprintf("the classifier is full: %d requests are inside", cap(c.admitted))}
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.timeout)
	defer cancel()
	t := &timing{began: time.Now()}
	err := next(w, r.WithContext(ctx), t)
	if err != nil && r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return problem.New(statusGone, "the caller went away")
	}
	return err
}

// timing is what Server-Timing says.
type timing struct {
	began                    time.Time
	queue, preprocess, infer time.Duration
}

func (t *timing) header() string {
	b := make([]byte, 0, 64)
	for i, p := range []struct {
		name string
		d    time.Duration
	}{{"queue", t.queue}, {"preprocess", t.preprocess}, {"infer", t.infer}} {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, p.name...), ";dur="...)
		b = strconv.AppendFloat(b, float64(p.d.Microseconds())/1000, 'f', -1, 64)
	}
	return string(b)
}

// classify answers POST /v1/classify.
func (c *Classifier) classify(w http.ResponseWriter, r *http.Request, t *timing) error {
	top, err := topOf(r)
	if err != nil {
		return err
	}
	ct := r.Header.Get("Content-Type")
	mt, _, err := mime.ParseMediaType(ct)
	if ct == "" {
		mt, err = "application/json", nil
	}
	isImage := strings.HasPrefix(mt, "image/")
	if err != nil || !isImage && mt != "application/json" {
		return problem.New(http.StatusUnsupportedMediaType, "the Content-Type %.80q is not read here; send a product as application/json, or a picture as image/*", ct)
	}
	limit := c.maxBody
	if isImage {
		limit = min(limit, product.MaxImage)
	}
	var id string
	res, err := c.answer(r, t, top, limit, func() (preprocess.Sample, error) {
		body, err := serve.ReadBody(w, r, limit)
		if err != nil {
			return nil, err
		}
		return c.onCore(r.Context(), t, func() (preprocess.Sample, error) {
			if isImage {
				return c.prep.Raw(body)
			}
			p, err := product.Decode(body)
			if err != nil {
				return nil, err
			}
			id = p.ID
			return c.prep.Product(r.Context(), p)
		})
	})
	if err != nil {
		return err
	}
	res.ID = id
	w.Header().Set("Server-Timing", t.header())
	return writeJSON(w, res)
}

// event answers POST / with a prediction event.
func (c *Classifier) event(w http.ResponseWriter, r *http.Request, t *timing) error {
	top, err := topOf(r)
	if err != nil {
		return err
	}
	var in ce.Event
	var structured bool
	var id string
	res, err := c.answer(r, t, top, c.maxBody, func() (preprocess.Sample, error) {
		var err error
		if in, structured, err = event.Read(w, r, c.maxBody); err != nil {
			return nil, err
		}
		return c.onCore(r.Context(), t, func() (preprocess.Sample, error) {
			p, err := event.Product(in)
			if err != nil {
				return nil, err
			}
			id = p.ID
			return c.prep.Product(r.Context(), p)
		})
	})
	if err != nil {
		return err
	}
	res.ID = id
	// The same input and the same model give the same id, so that a
	// redelivery can be told from a second answer.
	out, err := event.New(event.TypePrediction, "/aisle/classifier/"+c.pkg.Spec.Name, event.ID(in.Source(), in.ID(), c.pkg.Digest), "", res)
	if err != nil {
		return err
	}
	if id != "" {
		out.SetSubject(id)
	}
	out.SetTime(time.Now().UTC())
	out.SetExtension("causationid", in.ID())
	w.Header().Set("Server-Timing", t.header())
	return event.Write(w, out, structured)
}

// answer gets a sample by read, which may hold up to limit bytes of body
// while it runs, and has it classified.
func (c *Classifier) answer(r *http.Request, t *timing, top int, limit int64, read func() (preprocess.Sample, error)) (prediction.Result, error) {
	var none prediction.Result
	ctx := r.Context()
	s, err := func() (preprocess.Sample, error) {
		share, err := c.bodies.Take(ctx, r, limit)
		if err != nil {
			return nil, err
		}
		defer share.Release()
		return read()
	}()
	if err != nil {
		return none, err
	}
	j := &job{ctx: ctx, sample: s, queued: time.Now(), done: make(chan struct{})}
	select {
	case c.queue <- j: // has room, but for jobs whose callers have gone
	case <-ctx.Done():
		s.Release()
		return none, ctx.Err()
	}
	select {
	case <-j.done:
	case <-ctx.Done():
		return none, ctx.Err() // the sample is the worker's
	}
	s.Release()
	switch {
	case j.err == nil:
	case ctx.Err() != nil:
		return none, ctx.Err()
	case errors.Is(j.err, context.Canceled): // by Run's context, not by ours
		return none, &problem.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Detail: "this instance has stopped; another one will answer"}
	default:
		return none, j.err
	}
	t.queue += j.waited
	t.infer = j.ran
	p, err := c.calibrate(j.logits)
	if err != nil {
		return none, err
	}
	return prediction.Result{Model: c.Model(), Device: c.device, Predictions: c.best(p, top)}, nil
}

// onCore runs f when a core is free for it.
func (c *Classifier) onCore(ctx context.Context, t *timing, f func() (preprocess.Sample, error)) (preprocess.Sample, error) {
	asked := time.Now()
	select {
	case c.cores <- struct{}{}:
		defer func() { <-c.cores }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	t.queue += began.Sub(asked)
	s, err := f()
	t.preprocess = time.Since(began)
	return s, err
}

func topOf(r *http.Request) (int, error) {
	if r.URL.RawQuery == "" {
		return defaultTop, nil
	}
	switch v := r.URL.Query().Get("top"); v {
	case "":
		return defaultTop, nil
	case "all":
		return 0, nil
	default:
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return 0, problem.New(http.StatusBadRequest, "top is %.40q; want a number of predictions, 1 or more, or all", v)
		}
		return n, nil
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
