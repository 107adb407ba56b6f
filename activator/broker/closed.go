package broker

import (
	"encoding/json"
	"time"

	"aisle.dev/aisle/internal/problem"
)

// whyClosed is what waits for a subscriber that is closed.
const whyClosed = "its subscriber is closed by a schedule"

// Reconsider looks anew at which subscribers are closed.
func (b *Broker) Reconsider() {
	select {
	case b.changed <- struct{}{}:
	default: // it will
	}
}

// closed says whether the Trigger's subscriber takes nothing now, and until
// when, as far as that is known.
func (b *Broker) closed(t *trigger) (until time.Time, closed bool) {
	if b.opts.Subscribers == nil {
		return time.Time{}, false
	}
	return b.opts.Subscribers.Closed(t.subscriber.url.Host)
}

// heed follows the subscriber being closed or opened: while it is closed
// nothing is begun and nothing is asked of the store, which counts as an
// attempt what it hands out. What is here already stays held.
func (d *dispatcher) heed(t *trigger) {
	_, shut := d.b.closed(t)
	if shut == d.shut {
		return
	}
	d.shut = shut
	if !shut {
		d.awaitMissing()
		return
	}
	if d.fetcher.events == 0 {
		return
	}
	// What was asked for is not to come any more: the store gives nothing to
	// who does not listen. What it has given already is still taken.
	inbox := d.b.store.nc.NewInbox()
	sub, err := d.b.store.nc.ChanSubscribe(inbox, d.msgs)
	if err == nil {
		err = d.sub.Drain()
		d.sub, d.inbox = sub, inbox
		d.fetcher.ended()
	}
	if err != nil {
		d.b.log.Warn("events come that their subscriber does not take now: they are held in memory", "trigger", t.name, "err", err)
	}
}

// maxProblem is how much of a failure's answer is looked into for what kind it
// is.
const maxProblem = 4 << 10

// saysClosed is whether an answer's body is the problem of a closed service.
func saysClosed(body []byte) bool {
	var p struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(body, &p) == nil && p.Type == problem.TypeClosed
}

// excuses is whether an attempt counts as none, since it came to a subscriber
// that had just closed. One that is open and says so all the same is excused
// once: it may have opened in this moment.
func (b *Broker) excuses(t *trigger, x *delivery, o outcome) bool {
	if !o.closed {
		return false
	}
	_, closed := b.closed(t)
	excused := closed || !x.excused
	x.excused = true
	return excused
}
