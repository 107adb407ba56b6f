package serve

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"aisle.dev/aisle/internal/problem"
)

// Health is what a function says about itself. The zero value lives and is
// not ready.
type Health struct {
	state  atomic.Int32
	timing atomic.Pointer[string]
}

const (
	starting int32 = iota
	ready
	stopping
)

// Ready says that requests are wanted. After the stop it does nothing.
func (h *Health) Ready() { h.state.CompareAndSwap(starting, ready) }

// Started tells how long the phases of the start took, as the value of a
// Server-Timing header: "exec;dur=2.9, runtime;dur=11.2, model;dur=3.1". /readyz says so from
// now on, to whoever started the function. To be called before Ready.
func (h *Health) Started(timing string) { h.timing.Store(&timing) }

// IsReady reports whether requests are wanted.
func (h *Health) IsReady() bool { return h.state.Load() == ready }

func (h *Health) stop() { h.state.Store(stopping) }

// Check returns nil when ready, and else a 503 that says why not.
func (h *Health) Check() error {
	switch h.state.Load() {
	case ready:
		return nil
	case stopping:
		return &problem.Error{Status: http.StatusServiceUnavailable, Detail: "this instance is stopping; another one will answer", RetryAfter: time.Second}
	}
	return &problem.Error{Status: http.StatusServiceUnavailable, Detail: "this instance is still starting", RetryAfter: time.Second}
}

// routes puts the runtime's own paths in front of the function's.
func routes(h http.Handler, health *Health, metrics http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz":
			probe(w, r, nil)
		case r.URL.Path == "/readyz":
			if timing := health.timing.Load(); timing != nil {
				w.Header().Set("Server-Timing", *timing)
			}
			probe(w, r, health.Check())
		case r.URL.Path == "/metrics" && metrics != nil:
			metrics.ServeHTTP(w, r)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

func probe(w http.ResponseWriter, r *http.Request, err error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		err = problem.New(http.StatusMethodNotAllowed, "%s takes GET", r.URL.Path)
	}
	if err != nil {
		problem.Write(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}
