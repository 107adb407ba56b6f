package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"knative.dev/networking/pkg/http/stats"

	"aisle.dev/aisle/activator/engine/lane"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/tracing"
)

// call is one request on its way through a revision to a pod.
type call struct {
	arrived time.Time
	limit   *time.Timer // cancels the request when the service's timeout is over
	cancel  context.CancelCauseFunc
	body    *callerBody // nil for a request without one
	code    int         // answered; 0 before
	closing bool        // the connection ends with the answer
	moved   []*revision // that it was sent on to: see successor

	mu     sync.Mutex          // guards what follows
	caller http.ResponseWriter // nil once the answer is over: its connection is the next request's
	struck bool
}

// lingering is how long a caller may take to send or read what is left when
// the answer is a refusal: net/http writes no answer before the body has been
// read, or has failed, and a caller that stalls would hold the request for
// ever.
const lingering = time.Second

// strike ends the request because one of its timeouts is over, with a caller
// too that has stopped in the middle of sending or reading.
func (c *call) strike(cause error) {
	c.cancel(cause)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caller == nil {
		return
	}
	c.struck = true
	now := time.Now()
	caller := http.NewResponseController(c.caller)
	// A writer without deadlines has no connection that could stall.
	_ = caller.SetReadDeadline(now)
	_ = caller.SetWriteDeadline(now.Add(lingering))
}

// end is the end of the answer: strike does nothing from here on.
func (c *call) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.struck && !c.closing { // in the moment of a whole answer: its connection goes on
		_ = http.NewResponseController(c.caller).SetWriteDeadline(time.Time{})
	}
	c.caller = nil
}

// turnAway answers err, and waits for the rest of the request for a moment only.
func turnAway(w http.ResponseWriter, err error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingering)) // as in strike
	problem.Write(w, err)
}

type (
	callKey struct{} // of a *call in a request's context
	connKey struct{} // of the caller's net.Conn
)

// statusGone is what a request counts as whose caller went away.
const statusGone = 499

// serve answers one request from one of the revision's pods.
func (r *revision) serve(w http.ResponseWriter, req *http.Request) {
	c := &call{arrived: time.Now(), caller: w}
	r.stats.HandleEvent(stats.ReqEvent{Time: c.arrived, Type: stats.ReqIn})
	ctx, cancel := context.WithCancelCause(req.Context())
	c.cancel = cancel
	c.limit = time.AfterFunc(r.spec.Timeout, func() { c.strike(errTimeout) })
	defer func() { // deferred: ReverseProxy panics to abort an answer half sent
		c.limit.Stop()
		c.end()
		cancel(nil)
		now := time.Now()
		r.stats.HandleEvent(stats.ReqEvent{Time: now, Type: stats.ReqOut})
		for _, next := range c.moved {
			next.stats.HandleEvent(stats.ReqEvent{Time: now, Type: stats.ReqOut})
			next.gate.leave()
		}
		r.metrics.answered(c.code, now.Sub(c.arrived))
		if r.log.Enabled(req.Context(), slog.LevelDebug) {
			r.log.Debug("request", "method", req.Method, "path", req.URL.Path, "code", c.code, "ms", millis(now.Sub(c.arrived)))
		}
	}()
	ctx = context.WithValue(ctx, callKey{}, c)
	if r.tracer != nil {
		var end func()
		ctx, end = r.traced(ctx, req, c)
		defer end()
	}
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		c.body = &callerBody{ReadCloser: req.Body}
		req.Body = c.body
	}
	r.reverse.ServeHTTP(&codeWriter{w, c}, req)
}

func (r *revision) newReverseProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme = "http"
			pr.Out.URL.Host = "pod" // which one is decided by RoundTrip
			pr.Out.Host = pr.In.Host
			pr.Out.URL.RawQuery = pr.In.URL.RawQuery // ReverseProxy drops what it cannot parse; nothing is decided by it here
			pr.SetXForwarded()
			tracing.Inject(pr.In.Context(), pr.Out.Header)
		},
		Transport:    r,
		BufferPool:   bufferPool{},
		ErrorHandler: r.refuse,
		ErrorLog:     slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
}

// maxTries bounds how many pods a request is offered to. Only a pod that has
// refused the connection, and so has seen nothing of the request, is followed
// by another.
const maxTries = 4

// RoundTrip implements [http.RoundTripper] for the revision's ReverseProxy: it
// waits for a place in a pod, which the answer's body gives back when it is
// closed.
func (r *revision) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	c := ctx.Value(callKey{}).(*call)
	for try := 1; ; try++ {
		lease, err := r.acquire(ctx, c)
		if errors.Is(err, errMoved) {
			if next := r.successor(c); next != nil {
				next.stats.HandleEvent(stats.ReqEvent{Time: time.Now(), Type: stats.ReqIn})
				return next.RoundTrip(req)
			}
			err = &problem.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Detail: r.service + ": " + errMoved.Error() + "; try again"}
		}
		if err != nil {
			return nil, err
		}
		p := lease.Pod
		granted := time.Now()
		resp, sent, err := r.ask(req, p)
		if err == nil {
			if p.ready.After(c.arrived) {
				r.woken(resp, c, p, granted)
			}
			resp.Body = r.holding(resp.Body, lease, c)
			return resp, nil
		}
		refused := !sent && errors.Is(err, syscall.ECONNREFUSED) && isDial(err)
		if refused {
			r.lane.Close(p)
		}
		lease.Release()
		if refused {
			r.tell(event{p, podRefused, ""})
			if try < maxTries {
				continue
			}
		}
		return nil, r.explain(ctx, p, err)
	}
}

// woken writes down how long a request waited for its pod to start, and says
// so in its answer.
func (r *revision) woken(resp *http.Response, c *call, p *podState, granted time.Time) {
	waited, first := granted.Sub(c.arrived), time.Duration(0)
	r.metrics.wake.Observe(waited.Seconds())
	if !p.used.Swap(true) {
		first = time.Since(granted)
		r.metrics.phase(phaseFirst, first)
		if queued := p.cold.decided.Sub(c.arrived); queued >= 0 {
			r.metrics.phase(phaseQueued, queued)
		}
	}
	resp.Header.Add("Server-Timing", p.cold.timing(c.arrived, waited, first))
	if r.tracer != nil {
		r.traceWake(resp.Request.Context(), c, p, granted)
	}
}

// tell gives the revision's goroutine an event, unless it has ended.
func (r *revision) tell(ev event) {
	select {
	case r.event <- ev:
	case <-r.ended:
	}
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// ask sends the request to one pod and returns when its answer begins. sent
// says that the pod may have seen something of it: the transport itself tries
// an idempotent request a second time when its connection breaks, and then
// fails to connect to a pod that has crashed over it.
func (r *revision) ask(req *http.Request, p *podState) (resp *http.Response, sent bool, err error) {
	var wrote atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}))
	req.URL.Host = p.process.Address
	if d := r.spec.ResponseStartTimeout; d > 0 {
		c := req.Context().Value(callKey{}).(*call)
		defer time.AfterFunc(d, func() { c.strike(errSilent) }).Stop()
	}
	if req.Body != nil {
		// The transport closes the body when it cannot connect; the next pod
		// needs it. ReverseProxy closes it in the end.
		req.Body = io.NopCloser(req.Body)
	}
	resp, err = p.transport.RoundTrip(req)
	return resp, wrote.Load(), err
}

// acquire waits for a place.
func (r *revision) acquire(ctx context.Context, c *call) (*lane.Lease[*podState], error) {
	if lease := r.lane.Try(); lease != nil {
		return lease, nil
	}
	if conn, ok := ctx.Value(connKey{}).(net.Conn); ok && c.body != nil {
		stop := watchCaller(conn, c.cancel)
		defer stop()
	}
	lease, err := r.lane.Acquire(ctx)
	if u, ok := errors.AsType[*unavailable](err); ok {
		return nil, &problem.Error{Status: http.StatusServiceUnavailable, Detail: u.reason, RetryAfter: max(time.Second, time.Until(u.until))}
	}
	switch {
	case err == nil:
		return lease, nil
	case errors.Is(err, errClosed):
		return nil, r.door.Load().refusal()
	case errors.Is(err, lane.ErrFull):
		return nil, &problem.Error{
			Status: http.StatusServiceUnavailable, RetryAfter: retryFull,
			Detail: fmt.Sprintf("%d requests wait for %s already; try again later", queueDepth, r.service),
		}
	case errors.Is(err, errTimeout):
		return nil, problem.New(http.StatusGatewayTimeout, "no pod of %s was free within the service's timeout of %s; see: aisle get revisions", r.service, r.spec.Timeout)
	}
	return nil, err
}

// explain turns a failed exchange with a pod into an answer.
func (r *revision) explain(ctx context.Context, p *podState, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errTimeout), errors.Is(cause, errSilent):
		return problem.New(http.StatusGatewayTimeout, "%s: %v", r.service, cause)
	case cause != nil:
		return cause // the caller has gone
	}
	if c := ctx.Value(callKey{}).(*call); c.body != nil {
		if err := c.body.failure(); err != nil {
			return problem.New(http.StatusBadRequest, "the request's body could not be read: %v", err)
		}
	}
	// The connection breaks before the process can be reaped: a moment, on a
	// busy machine longer.
	select {
	case <-p.process.Exited():
		return problem.New(http.StatusBadGateway, "%s: pod %s ended while it worked on the request, with %s; see: aisle logs %s", r.service, p.name, p.process.Outcome(), p.name)
	case <-time.After(time.Second):
	}
	r.log.Warn("a pod did not answer", "pod", p.name, "err", err)
	return problem.New(http.StatusBadGateway, "%s: pod %s broke off the connection before it answered; see: aisle logs %s", r.service, p.name, p.name)
}

// refuse is the ReverseProxy's error handler.
func (r *revision) refuse(w http.ResponseWriter, req *http.Request, err error) {
	c := req.Context().Value(callKey{}).(*call)
	if _, ok := errors.AsType[*problem.Error](err); !ok {
		if req.Context().Err() != nil { // nobody is there to be told
			c.code = statusGone
			panic(http.ErrAbortHandler)
		}
		r.log.Warn("request failed", "err", err)
		err = problem.New(http.StatusBadGateway, "%s: the request could not be passed on", r.service)
	}
	if context.Cause(req.Context()) != nil { // struck: the connection keeps its deadlines
		c.closing = true
		w.Header().Set("Connection", "close")
		problem.Write(w, err)
		return
	}
	turnAway(w, err)
}

// holding wraps an answer's body so that closing it gives the place back. An
// upgraded connection stays one.
func (r *revision) holding(body io.ReadCloser, lease *lane.Lease[*podState], c *call) io.ReadCloser {
	h := &holder{ReadCloser: body, lease: lease}
	if d := r.spec.IdleTimeout; d > 0 {
		h.pause = d
		h.idle = time.AfterFunc(d, func() { c.strike(errIdle) })
	}
	if conn, ok := body.(io.ReadWriteCloser); ok {
		return &upgraded{holder: h, Writer: conn}
	}
	return h
}

type holder struct {
	io.ReadCloser
	lease *lane.Lease[*podState]
	pause time.Duration
	idle  *time.Timer // nil without an idle timeout
}

func (h *holder) Read(b []byte) (int, error) {
	n, err := h.ReadCloser.Read(b)
	if h.idle != nil {
		h.idle.Reset(h.pause)
	}
	return n, err
}

func (h *holder) Close() error {
	if h.idle != nil {
		h.idle.Stop()
	}
	err := h.ReadCloser.Close()
	h.lease.Release()
	return err
}

type upgraded struct {
	*holder
	io.Writer
}

// codeWriter notes the answer's status.
type codeWriter struct {
	http.ResponseWriter
	call *call
}

func (w *codeWriter) WriteHeader(code int) {
	if code >= 200 || code == http.StatusSwitchingProtocols {
		w.call.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets ReverseProxy flush and hijack.
func (w *codeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
