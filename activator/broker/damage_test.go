package broker

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestOpenRefuses(t *testing.T) {
	open := func(t *testing.T, dir string) error {
		b, err := Open(t.Context(), Options{Dir: dir})
		if err == nil {
			_ = b.Close()
		}
		return err
	}
	t.Run("two on one directory", func(t *testing.T) {
		h := newHarness(t, Options{})
		if err := open(t, h.opts.Dir); err == nil || !strings.Contains(err.Error(), "another process uses the store") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a directory that is a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(t, path); err == nil || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no server", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := Open(ctx, Options{NATS: "nats://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "connect to NATS") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nothing given", func(t *testing.T) {
		if err := open(t, ""); err == nil || !strings.Contains(err.Error(), "neither Dir nor NATS") {
			t.Errorf("got %v", err)
		}
	})
}

// A damaged store: what is left is delivered and it is said how much is gone,
// or the store is refused by name. None is ever begun anew without a word.
func TestDamagedStore(t *testing.T) {
	const log = "jetstream/$G/streams/broker_default_shop/"
	tests := []struct {
		name, file string
		damage     func(*testing.T, string)
		left       int    // of 100 events, at least
		says       string // in the log, or in Open's error if left is 0
	}{
		{"the end of the events is cut off", log + "msgs/1.blk", truncate, 40, "lost events"},
		{"the end of the events is zeros", log + "msgs/1.blk", zero, 40, "lost events"},
		{"the events are gone", log + "msgs/1.blk", remove, 0, "could not locate msg block"},
		{"the index is cut off", log + "msgs/index.db", truncate, 100, ""},
		{"what it is is cut off", log + "meta.inf", truncate, 0, "broker_default_shop"},
		{"a Trigger's state is cut off", log + "obs/trigger_default_sort/o.dat", truncate, 0, "trigger_default_sort"},
		{"a Trigger's state is zeros", log + "obs/trigger_default_sort/o.dat", zero, 0, "trigger_default_sort"},
		{"what a Trigger is is cut off", log + "obs/trigger_default_sort/meta.inf", truncate, 0, "trigger_default_sort"},
		{"killed when its files were being made", log + "../broker_default_new/msgs/x", makeEmpty, 100, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // they wait for the store's time-out
			trigger := triggerTo("sort", "")
			h := newHarness(t, Options{Drain: time.Millisecond}, shopBroker, trigger)
			h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			for i := range 100 {
				h.send(strconv.Itoa(i))
			}
			h.stop()
			tt.damage(t, filepath.Join(h.opts.Dir, filepath.FromSlash(tt.file)))
			said := &lockedBuffer{}
			h.opts.Registry = nil
			h.opts.Logger = slog.New(slog.NewTextHandler(said, nil))
			b, err := Open(t.Context(), h.opts)
			if err != nil {
				if tt.left > 0 || !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("Open: %v", err)
				}
				return
			}
			_ = b.Close()
			take, got := collect()
			h.subscribe("sort"+host, take)
			h.start(shopBroker, trigger)
			h.send("after")
			ids := map[string]bool{}
			for !ids["after"] || len(ids) <= tt.left {
				select {
				case ev := <-got:
					ids[ev.ID()] = true
				case <-time.After(20 * time.Second):
					t.Fatalf("%d events, want more than %d; log:\n%s", len(ids), tt.left, said)
				}
			}
			if !strings.Contains(said.String(), tt.says) {
				t.Errorf("the log does not say %q:\n%s", tt.says, said)
			}
		})
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func makeEmpty(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func zero(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, info.Size()/2), info.Size()/2); err != nil {
		t.Fatal(err)
	}
}
