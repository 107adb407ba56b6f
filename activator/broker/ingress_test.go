package broker

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestIngress(t *testing.T) {
	h := newHarness(t, Options{MaxEvent: 64 << 10}, shopBroker)
	binary := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "t"}
	structured := map[string]string{"Content-Type": "application/cloudevents+json"}
	batch := map[string]string{"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
	const one = `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`
	with := func(h map[string]string, k, v string) map[string]string {
		all := map[string]string{k: v}
		for k, v := range h {
			all[k] = v
		}
		return all
	}
	tests := []struct {
		name, path string
		header     map[string]string
		body       string
		status     int
		says       string
		stored     int
	}{
		{"binary", "/default/shop", binary, "x", 202, "", 1},
		{"structured", "/default/shop", structured, one, 202, "", 1},
		{"batch of two", "/default/shop", batch, "[" + one + "," + one + "]", 202, "", 2},
		{"empty batch", "/default/shop", batch, "[]", 202, "", 0},
		{"batch with one that is wrong", "/default/shop", batch, "[" + one + `,{"specversion":"1.0"}]`, 400, "event 2 of the batch", 0},
		{"batch that ends early", "/default/shop", batch, "[" + one, 400, "cannot be read", 0},
		{"batch that is no array", "/default/shop", batch, one, 400, "not a JSON array", 0},
		{"no event", "/default/shop", nil, "{}", 400, "ce-specversion", 0},
		{"no such Broker", "/default/other", binary, "", 404, "no Broker other", 0},
		{"no such path", "/x", binary, "", 404, "/NAMESPACE/BROKER", 0},
		{"too large", "/default/shop", binary, strings.Repeat("x", 65<<10), 413, "larger than 65536 bytes", 0},
		{"an attribute of 1 MB", "/default/shop", with(binary, "Ce-X", strings.Repeat("x", 1<<20)), "", 400, "at most", 0},
		{"a loop", "/default/shop", with(binary, "Ce-Knativebrokerttl", "1"), "", 202, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := h.Last(shop)
			resp := h.post(tt.path, tt.header, tt.body)
			text, _ := io.ReadAll(resp.Body)
			after, _ := h.Last(shop)
			if resp.StatusCode != tt.status || !bytes.Contains(text, []byte(tt.says)) || int(after-before) != tt.stored {
				t.Errorf("%d %s, stored %d; want %d, %q and %d", resp.StatusCode, text, after-before, tt.status, tt.says, tt.stored)
			}
			if resp.StatusCode != 202 && resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("a refusal as %s", resp.Header.Get("Content-Type"))
			}
		})
	}
	h.stop()
	if resp := h.post("/default/shop", binary, ""); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("while stopping: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

// A Broker at its bound refuses, and accepts again when its events are
// delivered: they are history, which goes first.
func TestBound(t *testing.T) {
	h := newHarness(t, Options{MaxBytes: 256 << 10}, shopBroker, triggerTo("sort", "  delivery: {retry: 100, backoffPolicy: linear, backoffDelay: PT0.1S}"))
	open := make(chan struct{})
	h.subscribe("sort"+host, func(w http.ResponseWriter, r *http.Request) {
		<-open
		w.WriteHeader(http.StatusAccepted)
	})
	header := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "t"}
	body := strings.Repeat("x", 10<<10)
	n := 0
	var resp *http.Response
	for ; n < 100; n++ {
		if resp = h.post("/default/shop", header, body); resp.StatusCode != 202 {
			break
		}
	}
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || n < 15 {
		t.Fatalf("after %d events: %d, Retry-After %q", n, resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	close(open)
	for range 1_000_000 { // soon, that is
		if resp = h.post("/default/shop", header, body); resp.StatusCode == 202 {
			return
		}
	}
	t.Errorf("delivered, and still %d", resp.StatusCode)
}

// A Broker whose bound is lowered below what it has keeps all of it.
func TestLowerBound(t *testing.T) {
	h := newHarness(t, Options{MaxBytes: 256 << 10, Drain: time.Millisecond}, shopBroker, triggerTo("sort", ""))
	h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for i := range 15 {
		h.send(strconv.Itoa(i), "Ce-X", strings.Repeat("x", 4000), "Ce-Y", strings.Repeat("y", 4000))
	}
	h.stop()
	take, got := collect()
	h.subscribe("sort"+host, take)
	h.opts.MaxBytes = 64 << 10
	h.start(shopBroker, triggerTo("sort", ""))
	for range 15 {
		received(t, got)
	}
}

// History is kept up to a size and an age; what is yet to be delivered is not
// history.
func TestHistory(t *testing.T) {
	first := func(h *harness) uint64 {
		t.Helper()
		state, err := h.store.state(t.Context(), streamOf(shop))
		if err != nil {
			t.Fatal(err)
		}
		if state.Msgs == 0 {
			return 0
		}
		return state.FirstSeq
	}
	fill := func(h *harness) {
		for i := range 100 {
			h.send(strconv.Itoa(i), "Ce-X", strings.Repeat("x", 1<<10))
		}
	}
	trim := func(h *harness) {
		t.Helper()
		if _, err := h.trimStream(t.Context(), h.brokers()[shop], 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("size", func(t *testing.T) {
		h := newHarness(t, Options{HistoryBytes: 50 << 10}, shopBroker)
		fill(h)
		if trim(h); first(h) < 50 {
			t.Errorf("of 100 events with 50 KB of history the first is %d", first(h))
		}
	})
	t.Run("age", func(t *testing.T) {
		h := newHarness(t, Options{MaxAge: time.Nanosecond}, shopBroker)
		fill(h)
		if trim(h); first(h) != 0 {
			t.Errorf("of events that are all too old the first is %d", first(h))
		}
	})
	t.Run("not yet delivered", func(t *testing.T) {
		h := newHarness(t, Options{MaxAge: time.Nanosecond, HistoryBytes: 1, Drain: time.Millisecond}, shopBroker, triggerTo("sort", ""))
		h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		fill(h)
		if trim(h); first(h) != 1 {
			t.Errorf("of events that are not delivered the first is %d", first(h))
		}
	})
}
