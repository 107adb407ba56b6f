package serve_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"aisle.dev/aisle/internal/serve"
)

func TestBudget(t *testing.T) {
	announced := func(n int64, encoding string) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
		r.ContentLength = n
		if encoding != "" {
			r.Header.Set("Content-Encoding", encoding)
		}
		return r
	}
	const size, max = 10 << 20, 8 << 20
	for _, tt := range []struct {
		name string
		r    *http.Request
		max  int64
		fit  int // how many are held at once; -1: they do not count
	}{
		{"small", announced(128<<10, ""), max, -1},
		{"empty", announced(0, ""), max, -1},
		{"announced", announced(2<<20, ""), max, 5},
		{"of unknown length", announced(-1, ""), max, 1},
		{"compressed", announced(1000, "gzip"), max, 1},
		{"announced longer than is read", announced(1<<40, ""), max, 1},
		{"longer than the budget", announced(1<<40, ""), 1 << 40, 1},
	} {
		t.Run(tt.name, inBubble(func(t *testing.T) {
			full, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			b := serve.NewBudget(size)
			var held []*serve.Share
			for len(held) < 20 {
				s, err := b.Take(full, tt.r, tt.max)
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Fatal(err)
					}
					break
				}
				held = append(held, s)
			}
			if want := tt.fit; len(held) != want && (want >= 0 || len(held) != 20) {
				t.Fatalf("%d are held at once, want %d", len(held), want)
			}
			for _, s := range held {
				s.Release()
				s.Release()
			}
			if s, err := b.Take(t.Context(), announced(size, ""), size); err != nil {
				t.Errorf("not all came back: %v", err)
			} else {
				s.Release()
			}
		}))
	}
}

// inBubble gives a test a clock of its own.
func inBubble(f func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

// What a body turns out not to need is there for the next one.
func TestBudgetKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serve.NewBudget(100 << 10)
		unknown := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
		unknown.ContentLength = -1
		first, err := b.Take(t.Context(), unknown, 100<<10)
		if err != nil {
			t.Fatal(err)
		}
		second := make(chan *serve.Share, 1)
		go func() {
			s, err := b.Take(t.Context(), unknown, 90<<10)
			if err != nil {
				t.Error(err)
			}
			second <- s
		}()
		synctest.Wait()
		first.Keep(20 << 10)
		first.Keep(30 << 10) // a larger one changes nothing
		synctest.Wait()
		if len(second) != 0 {
			t.Fatal("two bodies of 20 and 90 KiB are in a budget of 100")
		}
		first.Keep(10 << 10)
		(<-second).Release()
		first.Release()
	})
}
