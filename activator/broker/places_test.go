package broker

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// places says how many deliveries are useful, and hears what waits.
type places struct {
	n       atomic.Int32
	waiting chan int
}

func (p *places) Places(string) int                { return int(p.n.Load()) }
func (p *places) Closed(string) (time.Time, bool)  { return time.Time{}, false }
func (p *places) Exists(types.NamespacedName) bool { return true }
func (p *places) Waiting(_ string, n int) {
	select {
	case p.waiting <- n:
	default:
	}
}

func TestPlaces(t *testing.T) {
	p := &places{waiting: make(chan int, 1000)}
	p.n.Store(2)
	h := newHarness(t, Options{Subscribers: p}, shopBroker, triggerTo("sort", ""))
	var mu sync.Mutex
	at, most := 0, 0
	began, step := make(chan struct{}, 100), make(chan struct{})
	took := make(chan struct{}, 100)
	h.subscribe("sort"+host, func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		at++
		most = max(most, at)
		mu.Unlock()
		began <- struct{}{}
		<-step
		mu.Lock()
		at--
		mu.Unlock()
		took <- struct{}{}
	})
	for i := range 10 {
		h.send(strconv.Itoa(i))
	}
	<-began
	<-began
	for n := range p.waiting {
		if n == 8 {
			break
		}
	}
	close(step)
	for range 10 {
		<-took
	}
	if most != 2 {
		t.Errorf("%d at once, want 2", most)
	}
	for n := range p.waiting {
		if n == 0 {
			break
		}
	}
}

// One request for events follows the other: the store ends none but as it is
// expected to.
func TestBacklog(t *testing.T) {
	said := &lockedBuffer{}
	h := newHarness(t, Options{Logger: slog.New(slog.NewTextHandler(said, nil))}, shopBroker, triggerTo("sort", ""))
	take, got := collect()
	h.subscribe("sort"+host, take)
	const n = 1000
	for i := range n {
		h.send(strconv.Itoa(i))
	}
	for range n {
		received(t, got)
	}
	if strings.Contains(said.String(), "ended a request") {
		t.Errorf("the log says:\n%s", said)
	}
}
