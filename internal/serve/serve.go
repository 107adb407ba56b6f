// Package serve is Knative's runtime contract for a function: it listens on
// PORT, speaks HTTP/1.1 and cleartext HTTP/2, says whether it lives and
// whether it is ready, and drains when it is told to stop.
//
// Guarantees: a request that has begun when the stop comes is answered,
// within [Options.Grace]; readiness turns false before the listener closes;
// no request is read without bounds on its header, and [ReadBody] bounds the
// body after decompression. [Run] returns only when everything that it
// started has ended.
//
// Non-goals: TLS and authentication (a cluster's or the engine's), routing.
package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a connection. The idle time is longer than the 90 seconds after
// which Go's and Knative's proxies drop an idle connection, so that it is
// never the function that closes one under a request.
const (
	maxHeader         = 64 << 10
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 5 * time.Minute
	defaultGrace      = 30 * time.Second
	maxStreams        = 256 // of one HTTP/2 connection at once
)

// Options of [Run].
type Options struct {
	Host     string        // what HOST says: the address to listen on; empty means all, as Knative's contract wants
	Port     string        // what PORT says; empty means 8080
	Listener net.Listener  // used instead of Port when set; Run closes it
	Handler  http.Handler  // everything but the paths below
	Health   *Health       // behind /healthz and /readyz; nil means ready as soon as it listens
	Metrics  http.Handler  // behind /metrics; nil means no such path
	Logger   *slog.Logger  // nil discards
	Grace    time.Duration // how long requests in flight may take after the stop; 0 means 30 s

	// Listening is called once with the address, before the first request.
	Listening func(net.Addr)
}

// unscanned is how much memory a function holds and never touches, in bytes:
// it takes no room, but the collector counts it as live, and first looks for
// garbage when there is as much of that. A function keeps little for longer
// than a request, so that without it the collector runs a hundred times a
// second under load, and takes a tenth of the composer's time.
const unscanned = 16 << 20

// Run serves until ctx ends, then drains. It returns nil when all requests in
// flight were answered within the grace period.
func Run(ctx context.Context, o Options) error {
	defer runtime.KeepAlive(make([]byte, unscanned))
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	health := o.Health
	if health == nil {
		health = &Health{}
		health.Ready()
	}
	ln := o.Listener
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", net.JoinHostPort(o.Host, cmp.Or(o.Port, "8080"))); err != nil {
			return fmt.Errorf("listen on PORT %s: %w", cmp.Or(o.Port, "8080"), err)
		}
	}

	unused := &unused{conns: map[net.Conn]struct{}{}}
	inFlight := &gauge{next: routes(o.Handler, health, o.Metrics)}
	srv := &http.Server{
		Handler:           inFlight,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         unused.state,
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // broken connections: the caller's business
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)

	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	if o.Listening != nil {
		o.Listening(ln.Addr())
	}

	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}

	// 1. Say that no new requests are wanted.
	health.stop()
	grace := cmp.Or(o.Grace, defaultGrace)
	log.Debug("draining", "inFlight", inFlight.n.Load(), "grace", grace, "cause", context.Cause(ctx))

	// 2. Close the listener and wait for what is in flight, under a context of
	// its own: the one that told us to stop has ended.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	shut := make(chan error, 1)
	go func() { shut <- srv.Shutdown(drain) }()
	var err error
	patience := time.NewTimer(unusedGrace)
	defer patience.Stop()
	select {
	case err = <-shut:
	case <-patience.C:
		unused.close()
		err = <-shut
	}
	if err != nil {
		// 3. The grace is over: cut the rest off, and say so.
		left := inFlight.n.Load()
		_ = srv.Close()
		err = fmt.Errorf("drain: %d requests were still unanswered after %s: %w", left, grace, err)
	}
	// Shutdown and Close make Serve return; wait for it.
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// gauge counts the requests in flight, health checks included.
type gauge struct {
	next http.Handler
	n    atomic.Int64
}

func (g *gauge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.n.Add(1)
	defer g.n.Add(-1)
	boundBody(w, r)
	g.next.ServeHTTP(w, r)
}

// unusedGrace is how long a connection that has not carried a request yet may
// hold up the drain: longer than a request takes that is on its way.
const unusedGrace = 250 * time.Millisecond

// unused are the connections that were opened and have carried nothing.
// Proxies open more than they need; http.Server.Shutdown gives each 5 seconds.
type unused struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{} // guarded by mu
}

func (u *unused) state(c net.Conn, s http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s == http.StateNew {
		u.conns[c] = struct{}{}
	} else {
		delete(u.conns, c)
	}
}

func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		_ = c.Close()
	}
}
