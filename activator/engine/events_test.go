package engine

import (
	"testing"
	"time"

	"aisle.dev/aisle/activator/engine/route"
	"aisle.dev/aisle/internal/manifest"
)

// The broker delivers as much at once as ready pods take, one event to a
// service at zero, and leaves hosts of others to themselves; what waits for it
// is load of the revisions by their shares, within the bound of the proxy's
// own line.
func TestSubscribers(t *testing.T) {
	old, latest := calling(t, &manifest.Template{Timeout: time.Minute, ContainerConcurrency: 3}), calling(t, &manifest.Template{Timeout: time.Minute})
	c := new(control)
	c.routes.Store(&table{"one.default": {shares: []route.Share{{Revision: "a", Percent: 75}, {Revision: "b", Percent: 25}}, revisions: []*revision{old, latest}}})
	places := func(want int) {
		t.Helper()
		if got := c.Places("one.default.svc.cluster.local"); got != want {
			t.Errorf("%d places, want %d", got, want)
		}
	}
	places(1)
	old.pods = append(old.pods, open(t, old, "127.0.0.1:1"), open(t, old, "127.0.0.1:2"))
	places(6)
	latest.pods = append(latest.pods, open(t, latest, "127.0.0.1:3"))
	places(106) // Knative's default target of requests at once
	if got := c.Places("elsewhere.example"); got != 0 {
		t.Errorf("%d places at a host of others", got)
	}
	c.Waiting("elsewhere.example", 5)
	for waiting, want := range map[int][2]int64{0: {0, 0}, 8: {6, 2}, 1 << 40: {queueDepth * 3 / 4, queueDepth / 4}} {
		c.Waiting("one.default.localhost:8080", waiting)
		if got := [2]int64{old.backlog.Load(), latest.backlog.Load()}; got != want {
			t.Errorf("%d waiting: %v, want %v", waiting, got, want)
		}
	}
}
