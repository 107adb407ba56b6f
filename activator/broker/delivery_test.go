package broker

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
)

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
