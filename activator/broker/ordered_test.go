package broker

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestOrdered(t *testing.T) {
	trigger := strings.Replace(triggerTo("sort", "  delivery: {retry: 20, backoffPolicy: linear, backoffDelay: PT0.1S}"), "namespace: default}", "namespace: default, annotations: {"+OrderAnnotation+": ordered}}", 1)
	dir := t.TempDir()
	h := newHarness(t, Options{Dir: dir}, shopBroker, trigger)
	var mu sync.Mutex
	by, tries := map[string][]string{}, map[string]int{}
	all := make(chan struct{}, 1000)
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		key, id := r.Header.Get("Ce-Partitionkey"), r.Header.Get("Ce-Id")
		mu.Lock()
		defer mu.Unlock()
		// Each third fails twice before it is taken.
		if n, _ := strconv.Atoi(id); n%3 == 0 && tries[id] < 2 {
			tries[id]++
			w.WriteHeader(503)
			return
		}
		by[key] = append(by[key], id)
		all <- struct{}{}
	})
	const n = 200
	want := map[string][]string{}
	for i := range n {
		id, key := strconv.Itoa(i), strconv.Itoa(i%5)
		h.send(id, "Ce-Partitionkey", key)
		want[key] = append(want[key], id)
		if i == n/2 { // in the midst of it the broker is another one
			h.stop()
			h.start(shopBroker, trigger)
		}
	}
	for range n {
		<-all
	}
	mu.Lock()
	defer mu.Unlock()
	for key := range want {
		if got := strings.Join(by[key], " "); got != strings.Join(want[key], " ") {
			t.Errorf("key %s:\n%s", key, got)
		}
	}
}

// An event without a key whose retry is far off does not hold up those with
// keys when the broker is another one.
func TestOrderedPastARetry(t *testing.T) {
	t.Parallel() // it waits for the store
	trigger := strings.Replace(triggerTo("sort", "  delivery: {retry: 1, backoffPolicy: exponential, backoffDelay: PT1H}"), "namespace: default}", "namespace: default, annotations: {"+OrderAnnotation+": ordered}}", 1)
	h := newHarness(t, Options{}, shopBroker, trigger)
	tried := make(chan struct{}, 1)
	h.subscribe("sort"+host, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		tried <- struct{}{}
	})
	h.send("1")
	<-tried
	h.stop()
	take, got := collect()
	h.subscribe("sort"+host, take)
	h.start(shopBroker, trigger)
	h.send("2", "Ce-Partitionkey", "k")
	if ev := received(t, got); ev.ID() != "2" {
		t.Errorf("event %s came", ev.ID())
	}
}
