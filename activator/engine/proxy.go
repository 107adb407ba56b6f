package engine

import (
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"aisle.dev/aisle/internal/problem"
)

// domain is what follows namespace and service in a Host: a name that every
// resolver which knows it at all resolves to the loopback address (RFC 6761).
const domain = "localhost"

// ownHost is the engine's own Host on the proxy's address: /metrics. It cannot
// be a service's, whose Hosts have one label more.
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
	routes map[string]*revision // by host without port; immutable
	known  string               // for who asks for another host
	cross  *http.CrossOriginProtection
	own    http.Handler
}

func (e *Engine) newProxy() *proxy {
	p := &proxy{routes: map[string]*revision{}, cross: http.NewCrossOriginProtection()}
	for _, r := range e.revs {
		p.routes[hostOf(r.service)] = r
	}
	hosts := make([]string, 0, len(p.routes))
	for h := range p.routes {
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	if p.known = strings.Join(hosts, ", "); len(hosts) > 20 {
		p.known = strings.Join(hosts[:20], ", ") + ", ..."
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.opts.Registry, promhttp.HandlerOpts{}))
	p.own = mux
	return p
}

// hostOf gives the Host of a service, given as namespace/name.
func hostOf(service string) string {
	namespace, name, _ := strings.Cut(service, "/")
	return name + "." + namespace + "." + domain
}

// bareHost is a Host without its port and a root dot, in lower case.
func bareHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	host := bareHost(req.Host)
	r, ok := p.routes[host]
	if !ok && host == ownHost {
		p.own.ServeHTTP(w, req)
		return
	}
	if !ok {
		turnAway(w, problem.New(http.StatusMisdirectedRequest,
			"no service is reached as %q; the Host must be <service>.<namespace>.%s, and one of: %s", host, domain, p.known))
		return
	}
	if err := p.cross.Check(req); err != nil {
		turnAway(w, problem.New(http.StatusForbidden, "a page of another site may not do this (%v)", err))
		return
	}
	r.serve(w, req)
}
