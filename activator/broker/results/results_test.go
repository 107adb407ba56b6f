package results

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a [Store] of events that are in memory.
type memory struct {
	mu     sync.Mutex
	events map[string][]Event
	first  uint64        // what comes before is not kept any more
	more   chan struct{} // closed and replaced when events come
	got    int           // events given whole

	changed chan struct{} // see Changed
}

func newMemory(brokers ...string) *memory {
	m := &memory{events: map[string][]Event{}, more: make(chan struct{}), changed: make(chan struct{})}
	for _, b := range brokers {
		m.events[b] = nil
	}
	return m
}

func (m *memory) add(broker, typ, id, subject, cause string) uint64 {
	ev, err := event.New(typ, "/test", id, "", category.Result{ID: subject, Status: category.Complete})
	if err != nil {
		panic(err)
	}
	ev.SetSubject(subject)
	if cause != "" {
		ev.SetExtension("causationid", cause)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	seq := uint64(len(m.events[broker]) + 1)
	m.events[broker] = append(m.events[broker], Event{
		Stored: client.Stored{Broker: broker, Seq: seq, Time: time.Unix(int64(seq), 0), ID: id, Type: typ}, Event: ev,
	})
	close(m.more)
	m.more = make(chan struct{})
	return seq
}

func (m *memory) Brokers() (names []string) {
	for b := range m.events {
		names = append(names, b)
	}
	slices.Sort(names)
	return names
}

func (m *memory) Last(broker string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.events[broker]))
}

func (m *memory) Heads(ctx context.Context, broker string, from uint64, follow bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for seq := max(from, m.first, 1); ; seq++ {
			m.mu.Lock()
			more, n := m.more, uint64(len(m.events[broker]))
			m.mu.Unlock()
			if seq > n && !follow {
				return
			}
			if seq > n {
				select {
				case <-ctx.Done():
					yield(Event{}, ctx.Err())
					return
				case <-more:
				}
				seq--
				continue
			}
			m.mu.Lock()
			ev := m.events[broker][seq-1]
			m.mu.Unlock()
			if !yield(ev, nil) {
				return
			}
		}
	}
}

func (m *memory) Get(_ context.Context, broker string, seq uint64) (Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.got++; seq < m.first {
		return Event{}, ErrGone
	}
	return m.events[broker][seq-1], nil
}

func (m *memory) Changed() <-chan struct{} { return m.changed }

func (m *memory) Deliveries(context.Context, Event) ([]client.Delivery, string, error) {
	return nil, "", nil
}

// page is a reader of a stream, which may be slow.
type page struct {
	mu       sync.Mutex
	text     bytes.Buffer
	deadline time.Time
	stuck    bool // it takes nothing
	header   http.Header
}

func (p *page) Header() http.Header { return p.header }
func (p *page) WriteHeader(int)     {}
func (p *page) Flush()              {}

func (p *page) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	return nil
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	stuck, deadline := p.stuck, p.deadline
	p.mu.Unlock()
	if stuck {
		time.Sleep(time.Until(deadline))
		return 0, os.ErrDeadlineExceeded
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// lines are the stream's lines since the last call, of data the event's id.
func (p *page) lines() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range strings.SplitSeq(strings.TrimSuffix(p.text.String(), "\n"), "\n") {
		if _, after, ok := strings.Cut(line, `"id":"`); ok {
			line, _, _ = strings.Cut(after, `"`)
		}
		if line != "" {
			all = append(all, line)
		}
	}
	p.text.Reset()
	return all
}

// read begins to read a stream, and gives what ends it.
func read(t *testing.T, r *Results, query, last string) (p *page, ended <-chan error, cancel func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events/results"+query, nil)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	p = &page{header: http.Header{}}
	done := make(chan error, 1)
	go func() { done <- r.Follow(p, req) }()
	synctest.Wait()
	return p, done, cancel
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the stream has (-want +got):\n%s", diff)
	}
}

const shop = "default/shop"

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(shop)
		ending, end := context.WithCancel(t.Context())
		r := New(ending, m)
		m.add(shop, event.TypeProduct, "e1", "p1", "")
		m.add(shop, event.TypeCategory, "c1", "p1", "e1")
		p, ended, _ := read(t, r, "", "")
		if ct := p.header.Get("Content-Type"); ct != "text/event-stream" {
			t.Errorf("the Content-Type is %q", ct)
		}
		same(t, p.lines(), "retry: 1000", "id: default/shop:2", "c1")
		if m.got != 1 {
			t.Errorf("%d events were read whole", m.got)
		}
		m.add(shop, event.TypeCategory, "c2", "p2", "e2")
		synctest.Wait()
		same(t, p.lines(), "id: default/shop:3", "c2")
		time.Sleep(2*heartbeat + time.Second)
		same(t, p.lines(), ":", ":")
		m.add(shop, event.TypeProduct, "e3", "p3", "")
		synctest.Wait()
		same(t, p.lines())
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestFollowFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(shop, "default/other")
		for i := range 3 {
			m.add(shop, event.TypeCategory, fmt.Sprint("s", i+1), "", "")
		}
		r := New(t.Context(), m)
		tests := []struct {
			query, last string
			want        []string
		}{
			{"?follow=false", "", []string{"id: default/shop:1", "s1", "id: default/shop:2", "s2", "id: default/shop:3", "s3"}},
			{"?follow=false&since=default/shop:2", "", []string{"id: default/shop:3", "s3"}},
			{"?follow=false&since=default/shop:1", "default/shop:2", []string{"id: default/shop:3", "s3"}},
			{"?follow=false&since=default/gone:7,default/shop:3", "", nil},
			{"?follow=false&type=" + event.TypeProduct, "", nil},
		}
		for _, tt := range tests {
			p, ended, cancel := read(t, r, tt.query, tt.last)
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", tt.query, err)
			}
			cancel()
			same(t, p.lines()[1:], append([]string{}, tt.want...)...)
		}
	})
}

func TestFollowRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		two := New(t.Context(), newMemory(shop, "default/other"))
		for _, tt := range []struct {
			of     *Results
			query  string
			status int
			says   string
		}{
			{two, "?since=5", 400, "NAMESPACE/NAME:NUMBER"},
			{two, "?since=default/shop:x", 400, "is not a place"},
			{two, "?follow=perhaps", 400, "neither true nor false"},
			{New(t.Context(), newMemory()), "", 404, "no Broker"},
		} {
			_, ended, cancel := read(t, tt.of, tt.query, "")
			if err := <-ended; problem.Status(err) != tt.status || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v; want %d, %q", tt.query, err, tt.status, tt.says)
			}
			cancel()
		}
	})
}

// TestSlowReader is let go, holds nothing meanwhile, and may come back.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(shop)
		r := New(t.Context(), m)
		p, ended, _ := read(t, r, "", "")
		m.add(shop, event.TypeCategory, "c1", "", "")
		synctest.Wait()
		same(t, p.lines(), "retry: 1000", "id: default/shop:1", "c1")
		p.mu.Lock()
		p.stuck = true
		p.mu.Unlock()
		for i := range 1000 {
			m.add(shop, event.TypeCategory, fmt.Sprint("more", i), "", "")
		}
		synctest.Wait()
		if m.got > 3 {
			t.Errorf("for a reader that takes nothing %d events were read", m.got)
		}
		start := time.Now()
		if err := <-ended; err != nil || time.Since(start) > writeWait+heartbeat {
			t.Errorf("it was let go after %s: %v", time.Since(start), err)
		}
		p, ended, _ = read(t, r, "?follow=false", "1")
		<-ended
		if lines := p.lines(); len(lines) != 2001 || lines[2] != "more0" {
			t.Errorf("back it got %d lines, %q", len(lines), lines[:3])
		}
	})
}

func TestReadersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(t.Context(), newMemory(shop))
		var leave []func()
		for range maxReaders {
			_, _, cancel := read(t, r, "", "")
			leave = append(leave, cancel)
		}
		_, ended, cancel := read(t, r, "", "")
		if err := <-ended; problem.Status(err) != http.StatusServiceUnavailable {
			t.Errorf("one reader more: %v", err)
		}
		cancel()
		leave[0]()
		synctest.Wait()
		_, ended, cancel = read(t, r, "?follow=false", "")
		if err := <-ended; err != nil {
			t.Errorf("after one has left: %v", err)
		}
		cancel()
		for _, f := range leave {
			f()
		}
		synctest.Wait()
	})
}

func TestExplainSaysItsBound(t *testing.T) {
	m := newMemory(shop)
	m.add(shop, event.TypeProduct, "old", "p", "")
	for i := range maxLook {
		m.events[shop] = append(m.events[shop], m.events[shop][0])
		m.events[shop][i+1].Seq = uint64(i + 2)
	}
	m.add(shop, event.TypeCategory, "c", "p", "old")
	r := New(t.Context(), m)
	x, err := r.explain(t.Context(), "c")
	if err != nil || !strings.Contains(x.Bound, "2 before them") {
		t.Errorf("bound %q, %v", x.Bound, err)
	}
	if _, err := r.explain(t.Context(), "older"); problem.Status(err) != http.StatusNotFound || !strings.Contains(err.Error(), "looked through") {
		t.Errorf("of what is not found: %v", err)
	}
}

func TestExplainWithoutTheProduct(t *testing.T) {
	m := newMemory(shop)
	m.add(shop, event.TypeProduct, "e1", "p1", "")
	m.add(shop, event.TypeCategory, "c1", "p1", "e1")
	m.events[shop][1].Cause = 1
	m.first = 2 // the product event is not kept any more
	x, err := New(t.Context(), m).explain(t.Context(), "p1")
	if err != nil || x.Asked.ID != "e1" || x.Asked.Seq != 0 || x.Answer == nil || x.Result == nil {
		t.Errorf("explained as %+v, %v", x, err)
	}
}
