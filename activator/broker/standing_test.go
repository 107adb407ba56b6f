package broker

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/types"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
)

// stands waits until the Trigger of a manifest says that it does not progress
// for a reason, or, if that is empty, does.
func (h *harness) stands(told <-chan bool, trigger, reason string) {
	h.t.Helper()
	for {
		o := parse(h.t, trigger)[0].(*eventingv1.Trigger)
		h.Tell([]Object{o})
		c := o.Status.GetCondition(Progressing)
		if c == nil && reason == "" || c != nil && c.IsFalse() && c.Reason == reason && c.Message != "" {
			if !o.Status.GetCondition(eventingv1.TriggerConditionSubscribed).IsTrue() {
				h.t.Errorf("it is less ready: %v", o.Status.Conditions)
			}
			return
		}
		select {
		case <-told:
		case <-time.After(time.Minute):
			h.t.Fatalf("the condition is %v, want the reason %q", c, reason)
		}
	}
}

// An event that cannot be given up, since the list of dead letters is full, is
// neither lost nor forgotten, and its Trigger says so until there is room.
func TestDeadLettersFull(t *testing.T) {
	told := make(chan bool, 1000)
	trigger := triggerTo("sort", "  delivery: {retry: 0}")
	h := newHarness(t, Options{MaxBytes: 256 << 10, StatusChanged: func() { told <- true }}, shopBroker, trigger)
	tried := make(chan string, 1000)
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		tried <- r.Header.Get("Ce-Id")
		w.WriteHeader(http.StatusUnprocessableEntity)
	})
	for n := 0; ; n++ {
		h.send(strconv.Itoa(n), "Ce-X", strings.Repeat("x", 4000), "Ce-Y", strings.Repeat("y", 4000))
		<-tried
		if n < 15 {
			h.deadLetterList(n + 1)
			continue
		}
		if _, stuck := h.standing.Load(types.NamespacedName{Namespace: "default", Name: "sort"}); stuck {
			break
		}
		if n == 60 {
			t.Fatal("the list is never full")
		}
	}
	h.stands(told, trigger, DeadLettersFull)
	if code := h.admin("DELETE", "/v1/events/deadletters", nil); code != 200 {
		t.Fatalf("purge: %d", code)
	}
	h.deadLetterList(1)
	h.stands(told, trigger, "")
}

// So many events wait for a retry that no other is begun: the Trigger says so,
// and goes on when the first of them have ended.
func TestRetriesFull(t *testing.T) {
	told := make(chan bool, 1000)
	trigger := triggerTo("sort", "  delivery: {retry: 5, backoffPolicy: exponential, backoffDelay: PT1S}")
	h := newHarness(t, Options{MaxRetrying: 8, StatusChanged: func() { told <- true }}, shopBroker, trigger)
	var well atomic.Bool
	take, got := collect()
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		take(w, r)
	})
	for i := range 9 {
		h.send(strconv.Itoa(i))
	}
	h.stands(told, trigger, RetriesFull)
	well.Store(true)
	for range 9 {
		received(t, got)
	}
	h.stands(told, trigger, "")
	for range 1_000_000 { // soon, that is
		if testutil.ToFloat64(h.metrics.retrying) == 0 {
			return
		}
	}
	t.Errorf("%v events are said to wait for a retry", testutil.ToFloat64(h.metrics.retrying))
}
