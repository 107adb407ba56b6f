package fetch

import (
	"container/list"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of the cache.
const (
	maxEntries  = 256
	maxCached   = 16 << 20 // bytes of all entries
	maxEntry    = maxCached / 4
	maxFresh    = time.Hour // whatever the server says
	maxETag     = 256
	entryBeside = 1 << 10 // bytes that an entry costs beside its data, at least
)

// entry is an answer that is kept.
type entry struct {
	url, etag string
	data      []byte
	fresh     time.Time // until then it is not asked about again
}

func (e *entry) size() int { return cap(e.data) + len(e.url) + entryBeside }

// cache keeps what was used last. The zero value is empty and ready.
type cache struct {
	mu      sync.Mutex // guards what follows
	order   list.List  // of *entry; last used in front
	entries map[string]*list.Element
	bytes   int
}

// get gives what is kept of a URL, nil for nothing, and whether it may be
// used without asking.
func (c *cache) get(url string, now time.Time) (*entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[url]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(el)
	e := el.Value.(*entry)
	return e, now.Before(e.fresh)
}

// put keeps an answer if its head lets it be kept and it would be of use: it
// is fresh for a while, or has an ETag to ask by.
func (c *cache) put(url string, data []byte, etag string, head http.Header, now time.Time) {
	keep, age := freshness(head)
	e := &entry{url: url, etag: etag, data: data, fresh: now.Add(age)}
	if len(etag) > maxETag {
		e.etag = ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.entries[url])
	if !keep || age == 0 && e.etag == "" || e.size() > maxEntry {
		return
	}
	if c.entries == nil {
		c.entries = map[string]*list.Element{}
	}
	c.entries[url] = c.order.PushFront(e)
	c.bytes += e.size()
	for c.bytes > maxCached || len(c.entries) > maxEntries {
		c.drop(c.order.Back())
	}
}

// drop forgets an entry, if there is one.
//
// REQUIRES: c.mu is held.
func (c *cache) drop(el *list.Element) {
	if el == nil {
		return
	}
	e := c.order.Remove(el).(*entry)
	delete(c.entries, e.url)
	c.bytes -= e.size()
}

// freshness reads Cache-Control (RFC 9111): whether an answer may be kept, and
// for how long it need not be asked about.
func freshness(head http.Header) (keep bool, age time.Duration) {
	keep = true
	stale := false
	for _, line := range head.Values("Cache-Control") {
		for d := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
			switch strings.ToLower(name) {
			case "no-store":
				keep = false
			case "no-cache":
				stale = true
			case "max-age":
				if n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
					age = min(time.Duration(n)*time.Second, maxFresh)
				}
			}
		}
	}
	if n, err := strconv.ParseUint(head.Get("Age"), 10, 31); err == nil { // how long others have kept it
		age = max(0, age-time.Duration(n)*time.Second)
	}
	if stale {
		age = 0
	}
	return keep, age
}
