package compose

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"aisle.dev/aisle/internal/composition"
)

const (
	closuresEvery = time.Second // how often the file is looked at, at most
	maxClosures   = 64          // of one service
)

// closures are the times at which schedules keep services closed, out of a
// file that another program writes and may replace at any time (in a cluster
// the controller, in a ConfigMap):
//
//	{"aisle/title": [["2026-11-27T22:00:00Z", "2026-11-28T06:00:00Z"], ...], ...}
//
// The file is read when it has changed, by whoever asks first in a second. A
// missing file closes nothing; a damaged one leaves what the last good one said.
// Nil closes nothing. It is safe for concurrent use.
type closures struct {
	path    string
	log     *slog.Logger
	begin   time.Time
	next    atomic.Int64 // when to look at the file again, in ns since begin: of no clock that can be set
	damaged atomic.Bool
	spans   atomic.Pointer[map[string][]span] // by service

	mu   sync.Mutex
	last fs.FileInfo // guarded by mu; of the file that was read last; nil: there was none
}

// span is a time at which a service is closed: from From until before To.
type span struct{ from, to time.Time }

func newClosures(path string, log *slog.Logger) *closures {
	if path == "" {
		return nil
	}
	c := &closures{path: path, log: log, begin: time.Now()}
	c.look(c.begin)
	return c
}

// of says whether a service is closed, and when it opens.
func (c *closures) of(namespace, service string, now time.Time) (opens time.Time, closed bool) {
	if c == nil {
		return opens, false
	}
	if now.Sub(c.begin) >= time.Duration(c.next.Load()) {
		c.look(now)
	}
	if all := c.spans.Load(); all != nil {
		return within((*all)[namespace+"/"+service], now)
	}
	return opens, false
}

// within says whether a time is in one of the spans, and when that ends.
func within(spans []span, now time.Time) (end time.Time, yes bool) {
	for _, s := range spans {
		if !now.Before(s.from) && now.Before(s.to) {
			return s.to, true
		}
	}
	return end, false
}

// look reads the file if it has changed.
func (c *closures) look(now time.Time) {
	if !c.mu.TryLock() {
		return // somebody else is at it
	}
	defer c.mu.Unlock()
	c.next.Store(int64(now.Sub(c.begin) + closuresEvery))
	info, err := os.Stat(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		c.last = nil
		c.spans.Store(nil)
		c.damaged.Store(false)
		return
	}
	if err == nil && c.last != nil && os.SameFile(info, c.last) && info.ModTime().Equal(c.last.ModTime()) && info.Size() == c.last.Size() {
		return
	}
	c.last = info
	var spans map[string][]span
	if err == nil {
		var raw []byte
		if raw, err = composition.ReadFile(os.DirFS(filepath.Dir(c.path)), filepath.Base(c.path), composition.MaxFile); err == nil {
			spans, err = parseClosures(raw)
		}
	}
	if err != nil {
		if !c.damaged.Swap(true) || info != nil { // one that cannot be looked at is told of once
			c.log.Error("cannot read when services are closed; what the last good file said still holds", "file", c.path, "error", err)
		}
		return
	}
	c.spans.Store(&spans)
	c.damaged.Store(false)
}

// parseClosures reads the file. Spans that touch are joined, so that the end of
// one is an opening.
func parseClosures(raw []byte) (map[string][]span, error) {
	var file map[string][][]time.Time
	if err := jsonv2.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("want {\"NAMESPACE/SERVICE\": [[FROM, TO], ...]} with times such as 2026-11-27T22:00:00Z: %w", err)
	}
	all := make(map[string][]span, len(file))
	for service, pairs := range file {
		if !strings.Contains(service, "/") {
			return nil, fmt.Errorf("%q: want NAMESPACE/SERVICE", service)
		}
		if len(pairs) > maxClosures {
			return nil, fmt.Errorf("%q is closed %d times; at most %d are read", service, len(pairs), maxClosures)
		}
		var spans []span
		for i, p := range pairs {
			if len(p) != 2 || !p[0].Before(p[1]) {
				return nil, fmt.Errorf("%q [%d]: want two times, the first before the second", service, i)
			}
			spans = append(spans, span{p[0], p[1]})
		}
		slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
		var joined []span
		for _, s := range spans {
			if n := len(joined); n > 0 && !s.from.After(joined[n-1].to) {
				if s.to.After(joined[n-1].to) {
					joined[n-1].to = s.to
				}
				continue
			}
			joined = append(joined, s)
		}
		all[service] = joined
	}
	return all, nil
}
