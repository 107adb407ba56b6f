package engine

import (
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"aisle.dev/aisle/activator/engine/hand"
	"aisle.dev/aisle/internal/problem"
)

// ownHost is the engine's own Host on the proxy's address: /metrics, the
// results of events, and events that set bounds. It cannot be a service's, whose Hosts have one label more.
const ownHost = "engine." + domain

// queueDepth bounds how many requests may wait for the pods of one revision.
const queueDepth = 1000

// retryFull is what a caller that found the line full is asked to wait.
const retryFull = time.Second

var (
	errStopping = &problem.Error{Status: http.StatusServiceUnavailable, Detail: "the engine is stopping", RetryAfter: time.Second}
	errTimeout  = errors.New("the request took longer than the service's timeout")
	errSilent   = errors.New("the pod did not begin to answer within the service's response start timeout")
	errIdle     = errors.New("the pod's answer paused for longer than the service's idle timeout")
)

// unavailable refuses requests until a moment.
type unavailable struct {
	reason string
	until  time.Time
}

func (u *unavailable) Error() string { return u.reason }

// proxy routes requests by their Host.
type proxy struct {
	routes *atomic.Pointer[table]
	events http.HandlerFunc
	cross  *http.CrossOriginProtection
	own    http.Handler
}

func (e *Engine) newProxy() *proxy {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.opts.Registry, promhttp.HandlerOpts{}))
	// Without CORS headers pages of other sites cannot read it.
	mux.HandleFunc("GET /v1/events/results", e.events.admin)
	mux.Handle("POST "+hand.EventsPath, hand.Events(e.control, e.opts.ScaleEvents, e.log))
	return &proxy{routes: &e.control.routes, events: e.events.ingress, cross: http.NewCrossOriginProtection(), own: mux}
}

// bareHost is a Host without its port and a root dot, in lower case.
func bareHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	name := routed(req.Host)
	t := (*p.routes.Load())[name]
	if err := p.cross.Check(req); err != nil {
		turnAway(w, problem.New(http.StatusForbidden, "a page of another site may not do this (%v)", err))
		return
	}
	if t == nil && name != ingressRoute {
		p.elsewhere(w, req)
		return
	}
	if name == ingressRoute {
		p.events(w, req)
		return
	}
	if shut := t.door.Load(); shut != nil {
		turnAway(w, shut.refusal())
		return
	}
	for t != nil {
		r := t.pick()
		if r.gate.enter() {
			defer r.gate.leave()
			r.serve(w, req)
			return
		}
		// It was given up in this moment; the table has known for longer.
		t = (*p.routes.Load())[name]
	}
	p.elsewhere(w, req)
}

// elsewhere answers what is for no service.
func (p *proxy) elsewhere(w http.ResponseWriter, req *http.Request) {
	host := bareHost(req.Host)
	if host == ownHost {
		p.own.ServeHTTP(w, req)
		return
	}
	turnAway(w, problem.New(http.StatusMisdirectedRequest,
		"no service is reached as %q; the Host must be <service>.<namespace>.%s, and one of: %s", host, domain, p.known()))
}

// known lists hosts for who asks for another one.
func (p *proxy) known() string {
	names := slices.Sorted(maps.Keys(*p.routes.Load()))
	more := ""
	if len(names) > 20 {
		names, more = names[:20], ", ..."
	}
	for i := range names {
		names[i] += "." + domain
	}
	return strings.Join(names, ", ") + more
}
