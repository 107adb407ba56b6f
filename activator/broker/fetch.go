package broker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// Bounds of what a dispatcher holds: events beyond those being delivered,
	// so that the next one is at hand and the number waiting is known; more
	// where order matters, so that a key that is blocked seldom blocks others.
	ahead        = 64
	aheadOrdered = 1024
	maxHeld      = 32 << 20 // bytes, and one event at least

	// minFetch is the least room, in bytes, that events are asked for; a
	// request with less than fewBytes left is given up.
	minFetch = 2 << 20
	fewBytes = 64 << 10

	// statusPause is the wait after the store ended a request for events, as
	// it does when a Trigger is deleted.
	statusPause = time.Second
)

// fetcher asks the store for events: one request at a time, bounded in number
// and bytes. Requests do not expire: nothing is asked again while nothing
// comes.
type fetcher struct {
	events int       // asked for and not yet here
	bytes  int       // that these may have
	tight  bool      // the next event is larger than the room that there was
	pause  time.Time // until then nothing is asked for
}

// came notes an event of the request. The store ends a request without a word
// when its bytes are used up to the last one, which few are as good as.
func (f *fetcher) came(size int) {
	f.events, f.bytes = max(f.events-1, 0), f.bytes-size
	if f.bytes < fewBytes {
		f.ended()
	}
}

func (f *fetcher) ended() { f.events, f.bytes = 0, 0 }

// fetch asks for as many events as there is room for.
func (d *dispatcher) fetch(t *trigger, places int) {
	f := &d.fetcher
	if d.shut || f.events > 0 || f.tight || time.Now().Before(f.pause) {
		return
	}
	window := places + ahead
	if t.ordered {
		window = max(window, aheadOrdered)
	}
	// An event must fit where none is held.
	n, room := window-len(d.held), max(maxHeld, int(d.b.opts.MaxEvent)+2*maxHeader)-d.bytes
	if n < window/4 || room < minFetch {
		return
	}
	if err := d.b.store.nc.PublishRequest(d.next, d.inbox, fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d}`, n, room)); err != nil {
		d.b.log.Error("events cannot be fetched out of the store", "trigger", t.name, "err", err)
		return
	}
	f.events, f.bytes = n, room
}

// word is what the store says of a request: that it has ended.
func (d *dispatcher) word(t *trigger, m *nats.Msg) {
	f := &d.fetcher
	says := m.Header.Get("Description")
	switch {
	case strings.Contains(says, "Batch Completed"): // all its events came, and were counted
		return
	case strings.Contains(says, "Exceeds MaxBytes"): // the next event is larger than what is left
		left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Bytes"))
		if err != nil || left >= f.bytes/2 { // else it is of one that was given up
			f.ended()
			f.tight = len(d.held) > 0
		}
		return
	}
	f.ended()
	d.b.log.Info("the store ended a request for events", "trigger", t.name, "status", m.Header.Get("Status"), "says", says)
	f.pause = time.Now().Add(statusPause)
	time.AfterFunc(statusPause, d.nudge)
}
