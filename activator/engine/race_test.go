package engine

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aisle.dev/aisle/activator/engine/route"
	"aisle.dev/aisle/internal/manifest"
)

// races is how many requests meet drains, roll-outs and revisions given up.
const races = 10_000

// Requests run against everything that can take their pod away: a pod that is
// drained for another, the last pod that is stopped for want of requests, a
// revision that loses its requests to another and is given up. None is lost.
// The steps are those of revision.apply and control.rested, in their order.
func TestRaces(t *testing.T) {
	var answered atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(w, req.Body); err == nil {
			answered.Add(1)
		}
	}))
	defer backend.Close()
	address := backend.Listener.Addr().String()
	another := func() *revision { return calling(t, &manifest.Template{Timeout: time.Minute, ContainerConcurrency: 2}) }
	lead := func(r *revision) *table {
		return &table{"one.default": {shares: []route.Share{{Revision: r.name, Percent: 100}}, revisions: []*revision{r}, door: new(atomic.Pointer[closure])}}
	}
	current := another()
	pod := open(t, current, address)
	routes := new(atomic.Pointer[table])
	routes.Store(lead(current))
	p := &proxy{routes: routes, cross: http.NewCrossOriginProtection(), own: http.NotFoundHandler()}

	var left atomic.Int64
	left.Store(races)
	stop := make(chan struct{})
	var clients, changes sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for left.Add(-1) >= 0 {
				w := httptest.NewRecorder()
				req := httptest.NewRequest(http.MethodPost, "http://one.default.localhost/", strings.NewReader("body"))
				p.ServeHTTP(w, req)
				if w.Code != http.StatusOK || w.Body.String() != "body" {
					t.Errorf("%d %s", w.Code, w.Body)
					left.Store(0)
				}
			}
		})
	}
	changes.Go(func() {
		for step := 0; ; step++ {
			select {
			case <-stop:
				return
			default:
			}
			switch step % 3 {
			case 0: // the pod is drained for another
				drained := current.lane.Close(pod)
				pod = open(t, current, address)
				<-drained
			case 1: // the last pod is stopped, and a request that waits starts one
				if current.lane.CloseIdle(pod) {
					pod = open(t, current, address)
				}
			case 2: // another revision takes over, and this one is given up
				before, last := current, pod
				current = another()
				pod = open(t, current, address)
				routes.Store(lead(current))
				for !before.gate.shutEmpty() {
					select {
					case <-before.wake: // a late request waits; it gets its pod
					default:
					}
				}
				<-before.lane.Close(last)
			}
		}
	})
	clients.Wait()
	close(stop)
	changes.Wait()
	if got := answered.Load(); got < races && !t.Failed() {
		t.Errorf("%d of %d requests reached a pod", got, races)
	}
}
