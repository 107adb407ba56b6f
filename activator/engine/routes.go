package engine

import (
	"math"
	"strings"
	"sync/atomic"

	"aisle.dev/aisle/activator/engine/route"
)

// Hosts end in one of these. The first is a name that every resolver which
// knows it at all resolves to the loopback address (RFC 6761); the others are
// what a service is called within a cluster.
const (
	domain        = "localhost"
	clusterDomain = "svc.cluster.local"
)

// table is where requests go, by service ("title.default") and tagged service
// ("canary-title.default"). It is immutable: a change makes another.
type table map[string]*target

// target is one host's revisions.
type target struct {
	shares    []route.Share
	revisions []*revision // one for each share
	door      *atomic.Pointer[closure]
}

// pick chooses the revision of one request.
func (t *target) pick() *revision {
	if len(t.revisions) == 1 {
		return t.revisions[0]
	}
	return t.revisions[route.Pick(t.shares, route.Draw())]
}

// routed is what a table knows a host by: the host without its port and its
// domain.
func routed(host string) string {
	bare := bareHost(host)
	for _, d := range []string{"." + domain, "." + clusterDomain} {
		if name, ok := strings.CutSuffix(bare, d); ok {
			return name
		}
	}
	return ""
}

// hostOf gives the Host of a service, or of one of its tags.
func hostOf(namespace, name, tag string) string {
	return routeOf(namespace, name, tag) + "." + domain
}

// routeOf is what a table knows a service by, with Knative's default template
// for tags.
func routeOf(namespace, name, tag string) string {
	if tag != "" {
		name = tag + "-" + name
	}
	return name + "." + namespace
}

// gate counts the requests in a revision, so that it can be given up while
// there is none and none can come: a request that finds it shut looks its
// revision up anew.
type gate struct{ n atomic.Int64 }

// shut is added to the count of a gate that is.
const shut = math.MinInt64 / 2

func (g *gate) enter() bool {
	if g.n.Add(1) > 0 {
		return true
	}
	g.n.Add(-1)
	return false
}

func (g *gate) leave() { g.n.Add(-1) }

// shutEmpty shuts the gate if nobody is within.
func (g *gate) shutEmpty() bool { return g.n.CompareAndSwap(0, shut) }

// shut lets nobody in any more; who is within goes on.
func (g *gate) shut() {
	for {
		n := g.n.Load()
		if n < 0 || g.n.CompareAndSwap(n, n+shut) {
			return
		}
	}
}
