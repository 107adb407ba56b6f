package broker

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"

	"aisle.dev/aisle/internal/client"
)

// deadLetterList waits for n dead letters.
func (h *harness) deadLetterList(n int) []client.DeadLetter {
	h.t.Helper()
	var list struct{ Items []client.DeadLetter }
	for range 100_000 {
		if h.admin("GET", "/v1/events/deadletters", &list); len(list.Items) >= n {
			return list.Items
		}
	}
	h.t.Fatalf("%d dead letters, want %d", len(list.Items), n)
	return nil
}

func TestDeadLetterSink(t *testing.T) {
	const failing = "  delivery: {deadLetterSink: {ref: {apiVersion: %s, kind: %s, name: %s}}}"
	otherBroker := strings.ReplaceAll(shopBroker, "shop", "other")
	taker := strings.ReplaceAll(triggerTo("taker", ""), "broker: shop", "broker: other")
	h := newHarness(t, Options{}, shopBroker, otherBroker, taker,
		triggerTo("a", fmt.Sprintf(failing, "eventing.knative.dev/v1", "Broker", "other")),
		triggerTo("b", fmt.Sprintf(failing, "serving.knative.dev/v1", "Service", "undertaker")))
	for _, s := range []string{"a", "b"} {
		h.subscribe(s+host, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnprocessableEntity) })
	}
	take, viaBroker := collect()
	h.subscribe("taker"+host, take)
	take, direct := collect()
	h.subscribe("undertaker"+host, take)
	h.send("1")
	for name, got := range map[string]chan ce.Event{"a": viaBroker, "b": direct} {
		ext := received(t, got).Extensions()
		if ext[errorDest] != "http://"+name+host+"/" || ext[errorCode] != "422" || string(decodeErrorData(ext[errorData].(string))) != "no\n" {
			t.Errorf("dead letter of %s: %v", name, ext)
		}
	}
	// What another has taken is not kept; what a Broker has taken is, for who
	// looks.
	if list := h.deadLetterList(1); len(list) != 1 || list[0].Trigger != "default/a" {
		t.Errorf("dead letters: %+v", list)
	}
}

// loopsCut reads the counter of loops.
func (h *harness) loopsCut() (n float64) {
	h.t.Helper()
	families, err := h.opts.Registry.(*prometheus.Registry).Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "aisle_broker_loops_cut_total" {
			n = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return n
}

// A sink whose own dead letters come back to it ends as other loops do.
func TestDeadLetterLoop(t *testing.T) {
	sink := "spec: {delivery: {deadLetterSink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: shop}}}}\n"
	h := newHarness(t, Options{}, shopBroker+sink, triggerTo("sort", ""))
	var tries atomic.Int32
	h.subscribe("sort"+host, func(w http.ResponseWriter, _ *http.Request) {
		tries.Add(1)
		w.WriteHeader(http.StatusUnprocessableEntity)
	})
	h.send("1", "Ce-Knativebrokerttl", "5")
	h.deadLetterList(4)
	for range 1000 {
		if h.loopsCut() > 0 {
			break
		}
		h.deadLetterList(4)
	}
	if n, cut := tries.Load(), h.loopsCut(); n != 4 || cut != 1 {
		t.Errorf("%d attempts, %v loops cut; want 4 and 1", n, cut)
	}
}

func TestReplayAndPurge(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, triggerTo("sort", "  delivery: {retry: 0}"), triggerTo("fine", ""))
	var well atomic.Bool
	take, got := collect()
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		if !well.Load() {
			w.WriteHeader(500)
			return
		}
		take(w, r)
	})
	fine, fineGot := collect()
	h.subscribe("fine"+host, fine)
	for i := range 4 {
		h.send(strconv.Itoa(i))
		received(t, fineGot)
	}
	list := h.deadLetterList(4)
	well.Store(true)
	path := func(i int) string { return fmt.Sprintf("/v1/events/deadletters/%d", list[i].ID) }
	if code := h.admin("POST", path(1)+"/replay", nil); code != 200 {
		t.Fatalf("replay: %d", code)
	}
	ev := received(t, got)
	if ev.ID() != list[1].EventID || ev.Extensions()[errorCode] != nil {
		t.Errorf("sent again: %v", ev)
	}
	if code := h.admin("DELETE", path(3), nil); code != 200 {
		t.Errorf("purge: %d", code)
	}
	if code := h.admin("DELETE", path(3), nil); code != 404 {
		t.Errorf("purge of one that is gone: %d", code)
	}
	for _, i := range []int{1, 3} {
		if code := h.admin("GET", path(i), nil); code != 404 {
			t.Errorf("dead letter %d is still there: %d", i, code)
		}
	}
	if code := h.admin("GET", path(0), nil); code != 200 {
		t.Errorf("look into one: %d", code)
	}
	var count struct{ Count int }
	if h.admin("POST", "/v1/events/deadletters/replay?trigger=default/other", &count); count.Count != 0 {
		t.Errorf("%d of another Trigger sent again", count.Count)
	}
	if h.admin("POST", "/v1/events/deadletters/replay", &count); count.Count != 2 {
		t.Errorf("%d sent again, want 2", count.Count)
	}
	received(t, got)
	received(t, got)
	var rest struct{ Items []client.DeadLetter }
	if h.admin("GET", "/v1/events/deadletters", &rest); len(rest.Items) != 0 {
		t.Errorf("left: %+v", rest.Items)
	}
	select {
	case ev := <-fineGot:
		t.Errorf("the Trigger that had it gets %v again", ev)
	default:
	}
}

// Two who send all dead letters again at once send each once.
func TestReplayAtOnce(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, triggerTo("sort", "  delivery: {retry: 0}"))
	h.subscribe("sort"+host, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	const n = 20
	for i := range n {
		h.send(strconv.Itoa(i))
	}
	h.deadLetterList(n)
	take, got := collect()
	h.subscribe("sort"+host, take)
	var sent atomic.Int32
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			var count struct{ Count int }
			if code := h.admin("POST", "/v1/events/deadletters/replay", &count); code != 200 {
				t.Errorf("replay: %d", code)
			}
			sent.Add(int32(count.Count))
		})
	}
	wg.Wait()
	if sent.Load() != n {
		t.Errorf("%d sent again, want %d", sent.Load(), n)
	}
	ids := map[string]bool{}
	for range n {
		ids[received(t, got).ID()] = true
	}
	if len(ids) != n {
		t.Errorf("%d of %d came", len(ids), n)
	}
}

// A dead letter whose Trigger is gone stays, and the others are sent again.
func TestReplayLeavesWhatHasNoTrigger(t *testing.T) {
	sort, gone := triggerTo("sort", "  delivery: {retry: 0}"), triggerTo("gone", "  delivery: {retry: 0}")
	h := newHarness(t, Options{}, shopBroker, sort, gone)
	for _, name := range []string{"sort", "gone"} {
		h.subscribe(name+host, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnprocessableEntity) })
	}
	h.send("1")
	h.send("2")
	h.deadLetterList(4)
	take, got := collect()
	h.subscribe("sort"+host, take)
	if err := h.Apply(t.Context(), parse(t, shopBroker, sort)); err != nil {
		t.Fatal(err)
	}
	var n client.Counted
	if code := h.admin("POST", "/v1/events/deadletters/replay", &n); code != 200 || n.Count != 2 || n.Left != 2 || !strings.Contains(n.Why, "Trigger default/gone, which is not there") {
		t.Errorf("replay: %d %+v", code, n)
	}
	received(t, got)
	received(t, got)
	if rest := h.deadLetterList(2); len(rest) != 2 {
		t.Errorf("left: %+v", rest)
	}
}
