package broker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/activator/broker/deferral"
	"aisle.dev/aisle/internal/client"
)

// deferred is a Trigger that defers its events, by more annotations.
func deferred(name, annotations, more string) string {
	return strings.Replace(triggerTo(name, more), "namespace: default}", "namespace: default, annotations: {"+annotations+"}}", 1)
}

// ask gives the answer of the admin API.
func ask[T any](h *harness, path string) T {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.Admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != http.StatusOK {
		h.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return v
}

// waits is what waits for the only Trigger, when it is as wanted.
func (h *harness) waits(wanted func(client.Pending) bool) client.Pending {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		list := ask[struct{ Items []client.Pending }](h, "/v1/events/pending").Items
		p := client.Pending{}
		if len(list) > 0 {
			p = list[0]
		}
		if wanted(p) {
			return p
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("within a minute pending became %+v", list)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// number of events wait, and a gate says until when.
func number(n int) func(client.Pending) bool {
	return func(p client.Pending) bool { return p.Events == n && (n == 0 || !p.Until.IsZero()) }
}

// shut waits until the gate of the only Trigger is.
func (h *harness) shut() {
	h.t.Helper()
	h.waits(func(client.Pending) bool {
		shut := false
		for _, g := range h.gates.Range {
			_, d := g.(*gate).state()
			shut = !d.Release
		}
		return shut
	})
}

// comes wants events to come, in any order.
func comes(t *testing.T, got <-chan ce.Event, want ...string) {
	t.Helper()
	var ids []string
	for range want {
		ids = append(ids, received(t, got).ID())
	}
	slices.Sort(ids)
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Errorf("came (-want +got):\n%s", diff)
	}
}

func TestDefersToABacklog(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, deferred("sort", `aisle.dev/defer-backlog: "3", aisle.dev/defer-max-age: 4h`, "  filter: {attributes: {type: test}}"))
	take, got := collect()
	h.subscribe("sort"+host, take)
	h.shut()
	for round := range 2 {
		h.send(fmt.Sprint(round, "a"))
		h.send(fmt.Sprint(round, "other"), "Ce-Type", "other")
		h.send(fmt.Sprint(round, "b"))
		p := h.waits(number(2))
		if age := p.Until.Sub(p.Oldest); age != 4*time.Hour || !strings.Contains(p.Reason, "for 3 events") || p.Trigger != "default/sort" || p.Broker != "default/shop" {
			t.Errorf("pending is %+v", p)
		}
		if len(got) > 0 {
			t.Fatalf("of a backlog of 3, %d of 2 events were delivered", len(got))
		}
		h.send(fmt.Sprint(round, "c"))
		comes(t, got, fmt.Sprint(round, "a"), fmt.Sprint(round, "b"), fmt.Sprint(round, "c"))
		h.shut()
	}
}

func TestDeferralSurvivesARestart(t *testing.T) {
	manifests := []string{shopBroker, deferred("sort", `aisle.dev/defer-backlog: "4"`, "")}
	h := newHarness(t, Options{}, manifests...)
	take, got := collect()
	h.subscribe("sort"+host, take)
	h.send("1")
	h.send("2")
	before := h.waits(number(2))
	h.stop()
	h.start(manifests...)
	if after := h.waits(number(2)); after != before {
		t.Errorf("after a restart %+v waits, before it was %+v", after, before)
	}
	h.send("3")
	h.waits(number(3))
	if len(got) > 0 {
		t.Fatal("an event was delivered")
	}
	h.send("4")
	comes(t, got, "1", "2", "3", "4")
}

// TestReleaseSurvivesARestart: events of a release that was under way are not
// held back again.
func TestReleaseSurvivesARestart(t *testing.T) {
	manifests := []string{shopBroker, deferred("sort", `aisle.dev/defer-backlog: "3"`, "")}
	h := newHarness(t, Options{Drain: time.Millisecond}, manifests...)
	var once sync.Once
	began := make(chan struct{})
	h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(began) })
		<-r.Context().Done() // it is never answered
	})
	h.send("1")
	h.send("2")
	h.send("3")
	<-began
	h.stop()
	take, got := collect()
	h.subscribe("sort"+host, take)
	h.start(manifests...)
	comes(t, got, "1", "2", "3")
}

func TestDefersNotPastAnExpiry(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, deferred("sort", `aisle.dev/defer-until: "00:00 UTC", aisle.dev/defer-max-age: 24h, aisle.dev/defer-answer-within: 744h`, ""))
	take, got := collect()
	h.subscribe("sort"+host, take)
	h.send("patient")
	h.waits(number(1))
	h.send("urgent", "Ce-Expirytime", time.Now().Add(30*24*time.Hour).UTC().Format(time.RFC3339))
	comes(t, got, "patient", "urgent")
}

func TestDeferralChanges(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker, deferred("sort", `aisle.dev/defer-backlog: "9"`, ""))
	take, got := collect()
	h.subscribe("sort"+host, take)
	h.send("1")
	h.waits(number(1))
	apply := func(manifest string) {
		t.Helper()
		if err := h.Apply(t.Context(), parse(t, shopBroker, manifest)); err != nil {
			t.Fatal(err)
		}
	}
	apply(deferred("sort", `aisle.dev/defer-backlog: "2"`, ""))
	h.waits(func(p client.Pending) bool { return strings.Contains(p.Reason, "for 2 events") })
	apply(triggerTo("sort", "")) // not deferred any more
	if ev := received(t, got); ev.ID() != "1" {
		t.Errorf("event %s came", ev.ID())
	}
	h.waits(number(0))
	apply(deferred("sort", `aisle.dev/defer-backlog: "2"`, ""))
	h.shut()
	h.send("2")
	h.waits(number(1))
	h.send("3")
	received(t, got)
	received(t, got)
}

// TestOthersPassAGate: what a deferred Trigger does not take does not pile up.
func TestOthersPassAGate(t *testing.T) {
	h := newHarness(t, Options{MaxBytes: 8 << 20, MaxEvent: 1 << 20}, shopBroker, deferred("sort", `aisle.dev/defer-max-age: 4h`, "  filter: {attributes: {type: rare}}"))
	body := strings.Repeat("x", 1<<20-4096)
	for i := range 40 {
		header := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": strconv.Itoa(i), "Ce-Source": "/test", "Ce-Type": "common", "Content-Type": "text/plain"}
		for deadline := time.Now().Add(time.Minute); h.post("/default/shop", header, body).StatusCode != http.StatusAccepted; {
			if time.Now().After(deadline) {
				t.Fatalf("event %d is not accepted", i)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
}

func TestParseDeferral(t *testing.T) {
	_, findings := Parse(object(t, deferred("sort", `aisle.dev/defer-until: "22:00"`, "")))
	if len(findings) != 1 || !findings[0].Refused || findings[0].Path != "metadata" || !strings.HasPrefix(findings[0].Reason, "annotations["+deferral.UntilAnnotation+"]: ") {
		t.Errorf("found %v", findings)
	}
}
