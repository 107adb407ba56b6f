package broker

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
)

// admin asks the admin handler.
func (h *harness) admin(method, path string, into any) int {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.Admin().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	if into != nil && w.Code < 300 {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			h.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	}
	return w.Code
}

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

// What a subscriber may do wrong: each event is tried as often as it should
// be, and is then a dead letter that says why.
func TestBadSubscribers(t *testing.T) {
	const quick = "  delivery: {retry: 2, backoffPolicy: linear, backoffDelay: PT0.1S%s}"
	tests := []struct {
		name     string
		answer   http.HandlerFunc // nil: there is none
		attempts int
		code     int
		says     string
	}{
		{"nowhere", nil, 3, -1, "no such host"},
		{"never", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 3, -1, "no answer within"},
		{"fails", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "out of cheese", 500) }, 3, 500, "out of cheese"},
		{"refuses", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "what is this?", 400) }, 1, 400, "what is this?"},
		{"redirects", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere/", http.StatusFound)
		}, 1, http.StatusFound, ""},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("\xff\x00")) }, 3, 502, "no CloudEvent"},
		{"much garbage", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, zeros{}, 2<<20) }, 3, 502, "no CloudEvent"},
		{"half an event", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", event.ContentType)
			_, _ = w.Write([]byte(`{"specversion":"1.0","id"`))
		}, 3, 502, "ends too early"},
		{"too many attributes", func(w http.ResponseWriter, _ *http.Request) {
			for name, v := range map[string]string{"Specversion": "1.0", "Id": "r", "Source": "/r", "Type": "r"} {
				w.Header().Set("Ce-"+name, v)
			}
			for i := range event.MaxAttributes - 5 {
				w.Header().Set(fmt.Sprint("Ce-X", i), "x")
			}
		}, 3, 502, "attributes"},
		{"large", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", event.ContentType)
			_, _ = io.CopyN(w, zeros{}, 2<<20)
		}, 3, 502, "larger than 1048576 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			timeout := ""
			if tt.name == "never" {
				timeout = ", timeout: PT0.1S"
			}
			h := newHarness(t, Options{MaxEvent: 1 << 20}, shopBroker, triggerTo("sort", fmt.Sprintf(quick, timeout)), triggerTo("fine", ""))
			fine, got := collect()
			h.subscribe("fine"+host, fine)
			var tries atomic.Int32
			if tt.answer != nil {
				h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
					tries.Add(1)
					tt.answer(w, r)
				})
			}
			h.send("1", "Ce-Subject", "p1")
			received(t, got) // the other Trigger is not held up
			d := h.deadLetterList(1)[0]
			want := client.DeadLetter{ID: 1, Time: d.Time, Trigger: "default/sort", Broker: "default/shop", Attempts: tt.attempts, EventID: "1",
				Source: "/test", Type: "test", Subject: "p1", Size: 2, Dest: "http://sort.default.svc.cluster.local/", Code: tt.code, Data: d.Data}
			if fmt.Sprint(d) != fmt.Sprint(want) || !strings.Contains(string(d.Data), tt.says) {
				t.Errorf("dead letter %+v, data %q\nwant %+v, data %q", d, d.Data, want, tt.says)
			}
			if tt.answer != nil && int(tries.Load()) != tt.attempts {
				t.Errorf("%d attempts, want %d", tries.Load(), tt.attempts)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

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

// A reply goes back to the Broker; one that is answered for ever ends.
func TestReplies(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, triggerTo("sort", "  filter: {attributes: {type: test}}"), triggerTo("results", "  filter: {attributes: {type: answer}}"),
		triggerTo("echo", "  filter: {attributes: {type: loop}}"))
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		ev, structured, err := event.Read(w, r, 1<<20)
		if err != nil || r.Header.Get("Prefer") != "reply" {
			t.Errorf("read: %v, Prefer %q", err, r.Header.Get("Prefer"))
		}
		ev.SetType("answer")
		_ = event.Write(w, ev, structured)
	})
	echoes := make(chan struct{}, 1000)
	h.subscribe("echo"+host, func(w http.ResponseWriter, r *http.Request) {
		echoes <- struct{}{}
		ev, _, err := event.Read(w, r, 1<<20)
		if err != nil {
			t.Error(err)
		}
		_ = event.Write(w, ev, true)
	})
	take, got := collect()
	h.subscribe("results"+host, take)
	h.send("1")
	if ev := received(t, got); ev.ID() != "1" || ev.Type() != "answer" {
		t.Errorf("reply: %v", ev)
	}
	h.send("2", "Ce-Type", "loop", "Ce-Knativebrokerttl", "10")
	for range 9 {
		<-echoes
	}
	h.stop() // waits for what is under way
	if len(echoes) > 0 {
		t.Errorf("%d echoes more than 9", len(echoes))
	}
}

// A Trigger that sends to its own Broker ends as other loops do: Knative counts
// replies alone.
func TestSubscriberLoop(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: again, namespace: default}
spec:
  broker: shop
  subscriber: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: shop}}
`)
	h.subscribe(IngressHost, func(w http.ResponseWriter, r *http.Request) { h.Ingress().ServeHTTP(w, r) })
	h.send("1", "Ce-Knativebrokerttl", "10") // it is 9 when it is stored
	for h.loopsCut() == 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("the loop goes on")
		case <-time.After(time.Millisecond):
		}
		if last, _ := h.Last(shop); last > 9 {
			break
		}
	}
	if last, _ := h.Last(shop); last != 9 {
		t.Errorf("%d events are stored, want 9", last)
	}
}

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

// places says how many deliveries are useful, and hears what waits.
type places struct {
	n       atomic.Int32
	waiting chan int
}

func (p *places) Places(string) int               { return int(p.n.Load()) }
func (p *places) Closed(string) (time.Time, bool) { return time.Time{}, false }
func (p *places) Exists(types.NamespacedName) bool {
	return true
}
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

// Large events are fetched a few at a time, also where they come all at once
// to a Trigger that has long asked for events.
func TestLargeEvents(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, triggerTo("sort", ""))
	got := make(chan int, 100)
	began, release := make(chan struct{}, 100), make(chan struct{})
	h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-release
		n, _ := io.Copy(io.Discard, r.Body)
		got <- int(n)
	})
	const size, events = 8 << 20, 8
	const fit = maxHeld/size - 1 // their headers take room too
	post := func(id, size int) {
		t.Helper()
		header := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": strconv.Itoa(id), "Ce-Source": "/s", "Ce-Type": "t"}
		if resp := h.post("/default/shop", header, strings.Repeat("x", size)); resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status)
		}
	}
	for i := range events {
		post(i, size)
	}
	for range fit {
		<-began
	}
	for range 100 { // what else it asks for would be here now
		cons, err := h.store.js.Consumer(t.Context(), streamOf(shop), "trigger_default_sort")
		if err != nil {
			t.Fatal(err)
		}
		if n := cons.CachedInfo().NumAckPending; n > fit {
			t.Fatalf("%d events of %d MB are held, of which %d fit", n, size>>20, fit)
		}
	}
	close(release)
	for range events {
		if n := <-got; n != size {
			t.Errorf("an event of %d bytes", n)
		}
	}
}
