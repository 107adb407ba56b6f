package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/review"
	"aisle.dev/aisle/internal/serve"
)

// HeaderIdempotencyKey is echoed. The composer keeps no answers: a repeated
// request is answered anew, and by the same models alike.
const HeaderIdempotencyKey = "Idempotency-Key"

const maxKey = 255

// maxEvent bounds an event: a product, perhaps in base64, and attributes.
const maxEvent = product.MaxBody*4/3 + event.MaxAttributes*event.MaxAttribute

// bodyBudget bounds the bodies that are held at the same time, each until its
// product is answered. What is decoded of a body takes as much again.
const bodyBudget = 32 << 20

// Handler serves
//
//	POST /category/predict          a product as JSON -> a category.Result; ?predictions=N
//	                                (or all) adds as many of each leg's own and of the fused.
//	                                An array of them -> an array; as application/x-ndjson, one
//	                                a line, each is answered as it comes ([BulkAnswer])
//	POST /v1/feeds                  a file of products (internal/feed) -> a BulkAnswer a line
//	POST /                          a product event -> a category event
//	GET  /                          what this composer is
//	GET  /schemas/product.v1.json   and the other JSON Schemas: category.v1, reviewed.v1, composition.v1alpha1
//
// Answers about products say in Server-Timing what they waited for the slowest
// leg (legs) and what the composer itself took from the body's last byte to the
// answer's first (compose). Refusals are problem+json (internal/problem).
func (c *Composer) Handler() http.Handler {
	routes := map[string]map[string]func(http.ResponseWriter, *http.Request) error{
		"/category/predict":    {http.MethodPost: c.predictAny},
		"/v1/feeds":            {http.MethodPost: c.feed},
		"/":                    {http.MethodPost: c.limited(c.event), http.MethodGet: c.about},
		product.SchemaPath:     {http.MethodGet: schema(product.Schema())},
		category.SchemaPath:    {http.MethodGet: schema(category.Schema())},
		review.SchemaPath:      {http.MethodGet: schema(review.Schema())},
		composition.SchemaPath: {http.MethodGet: schema(composition.Schema())},
	}
	return problem.Handler(func(w http.ResponseWriter, r *http.Request) error {
		methods, ok := routes[r.URL.Path]
		if !ok {
			return problem.New(http.StatusNotFound, "there is nothing at %.200q; post a product to /category/predict or a CloudEvent to /", r.URL.Path)
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		h, ok := methods[method]
		if !ok {
			var allowed []string
			for _, m := range []string{http.MethodGet, http.MethodPost} {
				if methods[m] != nil {
					allowed = append(allowed, m)
				}
			}
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			return problem.New(http.StatusMethodNotAllowed, "%.20q is not for %s; use %s", r.Method, r.URL.Path, strings.Join(allowed, " or "))
		}
		return h(w, r)
	}, func(r *http.Request, err error) {
		c.log.Error("request failed", "path", r.URL.Path, "error", err)
	})
}

// limited takes a slot before a body is read, and counts what is refused.
func (c *Composer) limited(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case c.slots <- struct{}{}:
		default:
			c.metrics.products.Inc("overload")
			e := problem.New(http.StatusServiceUnavailable, "%d products are being categorised already; send this one again shortly", cap(c.slots))
			e.RetryAfter = time.Second
			return e
		}
		defer func() { <-c.slots }()
		err := h(w, r)
		if err != nil {
			c.refused(r.Context(), err)
		}
		return err
	}
}

// refused counts a product that got no answer.
func (c *Composer) refused(ctx context.Context, err error) {
	status := "rejected"
	switch {
	case ctx.Err() != nil:
		status = "abandoned"
	case problem.Status(err) >= 500:
		status = string(category.Failed)
	}
	c.metrics.products.Inc(status)
}

// room waits for room for a request's body, though not longer than a product
// may take.
func (c *Composer) room(r *http.Request, max int64) (*serve.Share, error) {
	ctx, cancel := context.WithTimeout(r.Context(), c.spec.Deadline)
	defer cancel()
	share, err := c.bodies.Take(ctx, r, max)
	if err != nil {
		e := problem.New(http.StatusServiceUnavailable, "large products are being categorised, and there was no room for this one within %s; send it again shortly", c.spec.Deadline)
		e.RetryAfter = time.Second
		return nil, e
	}
	return share, nil
}

// predictAny answers one product, an array, or a stream of them.
func (c *Composer) predictAny(w http.ResponseWriter, r *http.Request) error {
	if isStream(r.Header.Get("Content-Type")) {
		return c.predictLines(w, r)
	}
	return c.limited(c.predict)(w, r)
}

// predict answers a product in JSON, or an array of them.
func (c *Composer) predict(w http.ResponseWriter, r *http.Request) error {
	if key := r.Header.Get(HeaderIdempotencyKey); key != "" {
		if len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return c < 0x20 || c > 0x7e }) {
			return problem.New(http.StatusBadRequest, "the %s is not at most %d printable ASCII characters", HeaderIdempotencyKey, maxKey)
		}
		w.Header().Set(HeaderIdempotencyKey, key)
	}
	if err := wantJSON(r.Header.Get("Content-Type")); err != nil {
		return err
	}
	predictions, err := predictionsAsked(r.URL.Query())
	if err != nil {
		return err
	}
	share, err := c.room(r, product.MaxBody)
	if err != nil {
		return err
	}
	defer share.Release()
	body, err := serve.ReadBody(w, r, product.MaxBody)
	if err != nil {
		return err
	}
	share.Keep(len(body))
	start := time.Now()
	if product.IsMany(body) {
		buf, err := c.many(r.Context(), body, trace(r.Header, nil), predictions)
		if err != nil {
			return err
		}
		write(w, "application/json", append(buf, '\n'))
		return nil
	}
	p, err := product.Decode(body)
	if err != nil {
		return err
	}
	res, err := c.Compose(r.Context(), Product{Product: p, JSON: body, Header: trace(r.Header, nil), Predictions: predictions})
	if err != nil {
		return err
	}
	buf, err := json.Marshal(res)
	if err != nil {
		return err
	}
	c.metrics.products.Inc(string(res.Status))
	w.Header().Set("Server-Timing", timing(time.Since(start), res.Legs))
	write(w, "application/json", append(buf, '\n'))
	return nil
}

// timing is the Server-Timing of an answer that took so long.
func timing(took time.Duration, legs []category.Leg) string {
	var slowest float64
	for _, l := range legs {
		slowest = max(slowest, l.LatencyMs)
	}
	return fmt.Sprintf("legs;dur=%.3f, compose;dur=%.3f", slowest, max(0, ms(took)-slowest))
}

// wantJSON accepts a body without a Content-Type: it has to be JSON anyway.
func wantJSON(contentType string) error {
	if contentType == "" {
		return nil
	}
	mt, params, err := mime.ParseMediaType(contentType)
	if err != nil || mt != "application/json" && mt != "text/json" && !strings.HasSuffix(mt, "+json") {
		return problem.New(http.StatusUnsupportedMediaType, "the Content-Type is %.80q; a product is sent as application/json", contentType)
	}
	if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") {
		return problem.New(http.StatusUnsupportedMediaType, "the charset %.40q is not read; send UTF-8", cs)
	}
	if strings.HasPrefix(mt, "application/cloudevents") {
		return problem.New(http.StatusUnsupportedMediaType, "this is for plain products; post CloudEvents to /")
	}
	return nil
}

func (c *Composer) about(w http.ResponseWriter, _ *http.Request) error {
	type serviceAbout struct {
		Variant category.Variant `json:"variant,omitempty"`
		Service string           `json:"service"`
		URL     string           `json:"url"`
		Reads   []string         `json:"reads,omitempty"` // once known
		Breaker string           `json:"breaker"`
		Ready   *bool            `json:"ready,omitempty"`  // of a GPU variant: whether it is known to be
		Waking  bool             `json:"waking,omitempty"` // of a GPU variant: a request wakes it
	}
	type legAbout struct {
		Name          string         `json:"name"`
		*serviceAbout                // of a leg without variants
		Variants      []serviceAbout `json:"variants,omitempty"`
		Weight        float64        `json:"weight"`
		Required      bool           `json:"required,omitempty"`
	}
	legs := make([]legAbout, len(c.legs))
	for i, l := range c.legs {
		var all []serviceAbout
		for _, s := range l.services() {
			all = append(all, serviceAbout{Variant: s.variant, Service: s.name, URL: s.url, Reads: s.reads.known(), Breaker: s.breaker.State().String()})
		}
		legs[i] = legAbout{Name: l.Name, Weight: l.Weight, Required: l.Required}
		if l.cpu == nil {
			legs[i].serviceAbout = &all[0]
			continue
		}
		ready, waking := l.state()
		all[0].Ready, all[0].Waking = &ready, waking
		legs[i].Variants = all
	}
	about := map[string]any{
		"composition": category.Composition{Name: c.spec.Name, Digest: c.spec.Digest},
		"deadline":    c.spec.Deadline.String(),
		"reducer":     map[string]any{"type": c.spec.Fusion.Type, "temperature": c.spec.Fusion.Pool.Temperature, "priorWeight": c.spec.Fusion.Pool.PriorWeight},
		"legs":        legs,
		"post":        map[string]string{"/category/predict": "a product as JSON, an array of them, or one a line as application/x-ndjson", "/v1/feeds": "a file of products: CSV, TSV, NDJSON or Heureka's XML; plain, gzip or zip", "/": "a CloudEvent of type " + event.TypeProduct},
		"schemas":     []string{product.SchemaPath, category.SchemaPath, review.SchemaPath, composition.SchemaPath},
	}
	if c.file != nil {
		if broken := c.file.broken.Load(); broken != nil {
			about["broken"] = *broken // the file, which differs from the composition that runs
		}
	}
	buf, err := json.Marshal(about)
	if err != nil {
		return err
	}
	write(w, "application/json", append(buf, '\n'))
	return nil
}

func schema(text []byte) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		write(w, "application/schema+json", text)
		return nil
	}
}

func write(w http.ResponseWriter, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client has gone; there is nobody left to tell
}
