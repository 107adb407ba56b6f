package broker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
)

const (
	// ackWait is after how long the store hands an event out again of which
	// it has heard nothing: so soon are the events that were in flight when the
	// process was killed delivered again.
	ackWait = 5 * time.Second
	// beat is how often the store hears of events that are under way.
	beat = ackWait / 3

	// settleWait is how long ordered events wait for those that an earlier
	// process had begun.
	settleWait = 2 * ackWait

	maxPulls = 64 // pull requests of a Trigger; a few are ever used

	// ownPlaces bounds deliveries at once to a host that Subscribers says
	// nothing about; maxPlaces what it may say.
	ownPlaces = 32
	maxPlaces = 1024

	// ownRetry is the wait after a failure that is not the subscriber's.
	ownRetry = ackWait
)

// dispatcher delivers the events of one Trigger. One goroutine owns its state;
// each attempt has its own.
//
// An event is held from when the store hands it out until it is acknowledged
// or given back. What is handed out twice, because this process was too slow
// to say that it is under way, is recognised by its sequence and not delivered
// twice.
type dispatcher struct {
	b      *Broker
	stream *stream
	cancel context.CancelFunc
	ended  chan struct{}

	msgs chan *nats.Msg
	done chan result
	wake chan struct{} // capacity 1

	// What follows is the loop's.
	trigger  *trigger // see current
	shut     bool     // its subscriber is closed: see heed
	sub      *nats.Subscription
	inbox    string
	next     string // where pull requests go
	link     *link  // the connection that events were asked of
	held     map[uint64]*delivery
	bytes    int // of what is held
	fetcher  fetcher
	ready    []*delivery
	lanes    map[string]*lane // of ordered delivery, by partitionkey
	running  int
	pulled   uint64    // sequence of the newest event that was handed out
	before   uint64    // sequence up to which events were handed out by an earlier process
	missing  int       // of these, how many are to come before ordered ones start
	settleBy time.Time // when they are not waited for any more
	settled  bool      // they are here

	retrying map[uint64]bool  // sequences that wait for their retry in the store
	earlier  int              // events that wait there likewise since an earlier process
	unstored map[uint64]error // of retrying: what came of the last attempt could not be stored
	stands   standing         // what was told last
	full     bool             // as many events are retrying as may be
}

// delivery is an event that is held.
type delivery struct {
	msg      *nats.Msg
	size     int // bytes of the message
	seq      uint64
	accepted time.Time
	attempt  int  // from 1: how often it was handed out
	excused  bool // it was turned away by a subscriber that was closed
	ev       ce.Event
	key      string // partitionkey, of ordered delivery
}

// lane is the events of one partitionkey.
type lane struct {
	current uint64 // being delivered, or waiting for its retry; 0: none
	queue   []*delivery
}

// result is what an attempt's goroutine reports: what the store is to be told
// of the event. The loop tells it, since it may have got the event again
// meanwhile.
type result struct {
	*delivery
	end  ending
	wait time.Duration // of retryLater and retryHeld

	unstored error // of these: why what came of it is nowhere yet
}

type ending int

const (
	stopped    ending = iota // say nothing: the store hands the event out again
	settled                  // acknowledge it
	retryLater               // have it handed out again after wait
	retryHeld                // likewise, but hold it meanwhile
	retryNow                 // the wait of retryHeld is over
	turnedAway               // hold it until its subscriber is open: that was no attempt
)

func (b *Broker) newDispatcher(ctx context.Context, t *trigger) (*dispatcher, error) {
	ctx, cancel := context.WithCancel(ctx)
	d := &dispatcher{
		b: b, stream: t.stream, cancel: cancel, ended: make(chan struct{}),
		msgs: make(chan *nats.Msg, 8192), done: make(chan result, 256), wake: make(chan struct{}, 1),
		inbox: b.store.nc.NewInbox(), next: "$JS.API.CONSUMER.MSG.NEXT." + t.stream.name + "." + t.consumer,
		held: map[uint64]*delivery{}, lanes: map[string]*lane{}, link: b.store.link.Load(),
		retrying: map[uint64]bool{}, unstored: map[uint64]error{},
	}
	d.trigger = t
	cons, err := b.store.js.Consumer(ctx, t.stream.name, t.consumer)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("deliver to Trigger %s: %w", t.name, err)
	}
	info := cons.CachedInfo()
	d.before, d.pulled, d.missing, d.earlier = info.Delivered.Stream, info.Delivered.Stream, info.NumAckPending, info.NumAckPending
	if d.sub, err = b.store.nc.ChanSubscribe(d.inbox, d.msgs); err != nil {
		cancel()
		return nil, fmt.Errorf("deliver to Trigger %s: %w", t.name, err)
	}
	d.awaitMissing()
	go func() {
		defer close(d.ended)
		d.run(ctx)
		_ = d.sub.Unsubscribe() // fails where the connection is closed
	}()
	return d, nil
}

// awaitMissing gives what an earlier process had begun the time to come again.
func (d *dispatcher) awaitMissing() {
	if d.missing > 0 {
		d.settleBy = time.Now().Add(settleWait)
		time.AfterFunc(settleWait, d.nudge)
	}
}

func (d *dispatcher) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends, and then waits for what is being delivered.
func (d *dispatcher) run(ctx context.Context) {
	// Attempts outlive ctx by the time to drain.
	attempts, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer d.b.waiting.forget(d)
	defer d.stand(standing{})
	beats := time.NewTimer(time.Hour)
	beats.Stop()
	beating := false
	for ctx.Err() == nil {
		t := d.current()
		d.heed(t)
		places := d.places(t)
		d.settle(t)
		for d.running < places && len(d.ready) > 0 {
			x := d.ready[0]
			d.ready[0] = nil // the array stays; a large event must not
			d.ready = d.ready[1:]
			d.running++
			wg.Go(func() { d.attempt(attempts, t, x) })
		}
		d.fetch(t, places)
		d.b.waiting.set(d, t.subscriber.url.Host, d.waits())
		d.stand(d.standing())
		if !beating && len(d.held) > 0 {
			beats.Reset(beat)
			beating = true
		}
		select {
		case <-ctx.Done():
		case m := <-d.msgs:
			d.take(d.current(), m)
		case r := <-d.done:
			d.finish(r)
		case <-d.wake:
		case <-d.link.lost: // and with it what was asked for
			d.link = d.b.store.link.Load()
			d.fetcher.ended()
		case <-beats.C:
			beating = false
			d.inProgress()
		}
	}
	d.drain(cut)
}

// drain waits for the attempts that are running. What was not begun the store
// hands out again to the next process.
func (d *dispatcher) drain(cut func()) {
	timer := time.NewTimer(d.b.opts.Drain)
	defer timer.Stop()
	beats := time.NewTicker(beat)
	defer beats.Stop()
	for d.running > 0 {
		select {
		case r := <-d.done:
			d.finish(r)
		case <-beats.C:
			d.inProgress()
		case <-timer.C:
			cut()
		}
	}
}

// current is the Trigger as it was applied last, so that an event that is
// accepted after Apply has returned is filtered and delivered by that; or as it
// was before it went, until the dispatcher ends.
func (d *dispatcher) current() *trigger {
	if t := d.b.config.Load().triggers[d.trigger.name]; t != nil && t.stream == d.stream && t.deferral == nil {
		d.trigger = t
	}
	return d.trigger
}

func (d *dispatcher) places(t *trigger) int {
	if d.shut {
		return 0
	}
	if s := d.b.opts.Subscribers; s != nil {
		if n := s.Places(t.subscriber.url.Host); n > 0 {
			return min(n, maxPlaces)
		}
	}
	return ownPlaces
}

// take begins with what the store sent.
func (d *dispatcher) take(t *trigger, m *nats.Msg) {
	md, err := m.Metadata()
	if err != nil { // no event, but word of the request
		d.word(t, m)
		return
	}
	size := m.Size()
	d.fetcher.came(size)
	seq := md.Sequence.Stream
	if x := d.held[seq]; x != nil {
		x.msg = m // the newer one is to be acknowledged
		return
	}
	if d.retrying[seq] {
		delete(d.retrying, seq)
	} else if seq <= d.before {
		d.earlier = max(d.earlier-1, 0) // it may come twice, where its acknowledgement was lost
	}
	if seq <= d.before {
		d.missing--
	}
	d.pulled = max(d.pulled, seq)
	x := &delivery{msg: m, size: size, seq: seq, accepted: md.Timestamp, attempt: int(md.NumDelivered)}
	if x.attempt > 1 {
		d.b.metrics.redelivered.WithLabelValues(t.name.Namespace, t.broker.Name, t.name.Name).Inc()
	}
	if x.ev, err = fromMessage(m.Header, m.Data); err != nil {
		d.b.log.Error("an event in the store cannot be read; it is left out", "trigger", t.name, "sequence", seq, "err", err)
		_ = m.Term() // fails where the connection is closed: it comes again
		return
	}
	if only := m.Header.Get(onlyHeader); only != "" && only != t.name.String() || only == "" && !t.filter.takes(x.ev) {
		_ = m.Ack() // likewise
		return
	}
	d.held[seq] = x
	d.bytes += size
	if t.ordered {
		x.key, _ = x.ev.Extensions()["partitionkey"].(string)
	}
	if x.key == "" {
		d.ready = append(d.ready, x)
		return
	}
	l := d.lanes[x.key]
	if l == nil {
		l = &lane{}
		d.lanes[x.key] = l
	}
	if l.current == seq { // here for its retry
		d.ready = append(d.ready, x)
		return
	}
	at, _ := slices.BinarySearchFunc(l.queue, seq, func(x *delivery, seq uint64) int { return cmp.Compare(x.seq, seq) })
	l.queue = slices.Insert(l.queue, at, x)
	d.advance(x.key)
}

// advance lets the next event of a key be delivered, if none is.
func (d *dispatcher) advance(key string) {
	l := d.lanes[key]
	switch {
	case l == nil || l.current != 0 || d.missing > 0:
	case len(l.queue) == 0:
		delete(d.lanes, key)
	default:
		l.current = l.queue[0].seq
		d.ready = append(d.ready, l.queue[0])
		l.queue = l.queue[1:]
	}
}

// settle ends the wait for the ordered events that an earlier process had
// begun: when they are here, when they do not fit (those here are the oldest),
// or when the store has had the time to hand them out again. What it has not
// by then waits for a retry and has no key: one that has is held meanwhile.
func (d *dispatcher) settle(t *trigger) {
	if d.shut {
		return
	}
	if d.missing > 0 && (len(d.held) >= aheadOrdered || d.fetcher.tight || !t.ordered || !time.Now().Before(d.settleBy)) {
		d.missing = 0
	}
	if d.missing > 0 || d.settled {
		return
	}
	d.settled = true
	for _, key := range slices.Sorted(maps.Keys(d.lanes)) {
		d.advance(key)
	}
}

// finish ends an attempt. What it tells the store gets lost where the
// connection is closed, and then the event comes again.
func (d *dispatcher) finish(r result) {
	switch {
	case r.unstored != nil:
		d.unstored[r.seq] = r.unstored
	case r.end != retryNow:
		delete(d.unstored, r.seq)
	}
	switch r.end {
	case stopped:
	case settled:
		_ = r.msg.Ack()
	case retryLater:
		_ = r.msg.NakWithDelay(r.wait)
		d.retrying[r.seq] = true
	case retryHeld:
		d.running--
		time.AfterFunc(r.wait, func() {
			select {
			case d.done <- result{delivery: r.delivery, end: retryNow}:
			case <-d.ended:
			}
		})
		return
	case retryNow: // its key stays blocked until it is here again
		_ = r.msg.Nak()
		d.retrying[r.seq] = true
		d.release(r.delivery)
		return
	case turnedAway:
		d.running--
		d.ready = slices.Insert(d.ready, 0, r.delivery)
		return
	}
	d.running--
	d.release(r.delivery)
	if l := d.lanes[r.key]; l != nil {
		l.current = 0
		d.advance(r.key)
	}
}

func (d *dispatcher) release(x *delivery) {
	if d.held[x.seq] != nil {
		d.bytes -= x.size
		d.fetcher.tight = false
		delete(d.held, x.seq)
	}
}

// inProgress tells the store of all events that are held.
func (d *dispatcher) inProgress() {
	for _, x := range d.held {
		_ = x.msg.InProgress() // fails where the connection is closed: it comes again
	}
}

// waits is how many events wait for a place. Those beyond what is held are all
// counted, whether the Trigger takes them or not.
func (d *dispatcher) waits() int {
	n := len(d.ready)
	for _, l := range d.lanes {
		n += len(l.queue)
	}
	if last := d.stream.last.Load(); d.fetcher.events == 0 && last > d.pulled {
		n += int(last - d.pulled)
	}
	return n
}
