// Package broker is Knative Eventing's Broker and Trigger on one machine, over
// NATS JetStream with file storage, embedded or not.
//
// Guarantees:
//   - An event that ingress answered with 202 is in the store's file: killing
//     this process loses none of them. Against a power cut that is so with
//     [Options.SyncAlways] alone; without it the operating system may take two
//     minutes to put the file on the disk.
//   - Every Trigger whose filter an accepted event passes gets it at least
//     once, or a dead letter says why not. An event that is delivered again is
//     the same event; how often it was tried is kept in the store.
//   - What a subscriber replies is in the store before the event that it
//     answers counts as delivered.
//   - Events that some Trigger has yet to get are never discarded: when the
//     bound is reached, ingress refuses. What all Triggers are done with is
//     history, bounded by age and size, and makes room first. Those of a Broker
//     that is deleted are kept for its return as long as history is.
//   - What is for a subscriber that is closed by schedule stays in the store,
//     and costs no attempt, until it is open.
//   - Deliveries at once are bounded for each Trigger. An event does not wait
//     for an earlier one's retry, except behind one of the same partitionkey
//     where the Trigger says that order matters.
//   - Nothing ticks while no event is under way, but the store's own timers,
//     some of them a minute apart.
//
// A Trigger gets what is accepted after it was first applied, as in Knative.
//
// Non-goals: more than one broker process on one store, exactly-once delivery,
// HTTPS and authentication, and Channels.
package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/activator/broker/ping"
	"aisle.dev/aisle/activator/broker/results"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
)

// Options of [Open]. Only Dir or NATS must be set.
type Options struct {
	Dir         string // the embedded server's store; made, for its owner only
	NATS        string // URL of a NATS server with JetStream to use instead
	SyncAlways  bool   // fsync before 202 (of the embedded server)
	Subscribers Subscribers
	Transport   http.RoundTripper // reaches subscribers; nil means http.DefaultTransport
	Logger      *slog.Logger      // nil discards
	Registry    prometheus.Registerer

	// StatusChanged is called from Run's goroutine when Tell has something
	// else to say than before, for another reason than Apply. May be nil.
	StatusChanged func()

	MaxEvent     int64         // bytes of one event; 0 means 24 MiB, a product with its pictures
	MaxBytes     int64         // bytes of one Broker's events; 0 means 4 GiB
	HistoryBytes int64         // of these, at most so many of history; 0 means a quarter
	MaxAge       time.Duration // of history, and of a deleted Broker's events; 0 means 7 days
	MaxRetrying  int           // events of a Trigger that are under way or wait for a retry; 0 means 10,000
	Drain        time.Duration // how long deliveries may go on when Run's context has ended; 0 means 5 s
}

// Subscribers is whoever runs the subscribers. Hosts are as in the
// subscribers' URLs: NAME.NAMESPACE.svc.cluster.local for a Service. All
// methods return at once.
type Subscribers interface {
	// Places says how many deliveries to host are useful at once now, at least
	// 1 for a service at zero, so that it wakes. 0: host is another's, and the
	// broker's own bound applies.
	Places(host string) int
	// Waiting says how many stored events wait for host, those being
	// delivered not counted.
	Waiting(host string, events int)
	// Closed says that host takes no requests now, by a schedule, and until
	// when; the zero time: it is not known. It calls [Broker.Reconsider] when
	// that changes.
	Closed(host string) (until time.Time, closed bool)
	// Exists says whether there is a Service of that name. What is sent to one
	// that is not there waits for it as the delivery spec says; the status of
	// who sends says so, as in Knative.
	Exists(service types.NamespacedName) bool
}

// maxEvent is a product in base64 within a structured event.
const maxEvent = product.MaxBody*4/3 + 2<<20

// Broker is the Brokers and Triggers of one store. Its methods may be called
// at once from several goroutines.
type Broker struct {
	opts     Options
	log      *slog.Logger
	store    *store
	metrics  *metrics
	bodies   *serve.Budget // of requests at the ingress
	replies  *serve.Budget // of subscribers' answers until they are stored
	waiting  waiting
	pings    *ping.Runner
	standing sync.Map // types.NamespacedName of a Trigger whose events do not flow → standing
	gates    sync.Map // types.NamespacedName of a Trigger that defers its events → *gate

	stopping atomic.Bool // ingress refuses
	results  *results.Results
	end      context.CancelFunc // ends who follows results

	deleted *bucket                  // time.Time by stream
	parked  atomic.Pointer[[]parked] // what Brokers have left that are not declared any more; nil: nothing

	letters sync.Mutex             // one change to the list of dead letters at a time: none is sent twice
	apply   sync.Mutex             // one Apply at a time
	config  atomic.Pointer[config] // what was applied last; never nil
	changed chan struct{}          // capacity 1: config is another one
	told    chan struct{}          // capacity 1: what Tell says has changed
	trimNow chan struct{}          // capacity 1: much was stored since history was trimmed
}

// Open opens the store, and starts the embedded server where Options say so.
// The caller calls Apply, Run and in the end Close.
func Open(ctx context.Context, o Options) (*Broker, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	o.MaxEvent = cmp.Or(o.MaxEvent, maxEvent)
	o.MaxBytes = cmp.Or(o.MaxBytes, 4<<30)
	o.HistoryBytes = cmp.Or(o.HistoryBytes, o.MaxBytes/4)
	o.MaxAge = cmp.Or(o.MaxAge, 7*24*time.Hour)
	o.MaxRetrying = cmp.Or(o.MaxRetrying, 10_000)
	o.Drain = cmp.Or(o.Drain, 5*time.Second)
	if o.MaxEvent > maxPayload-maxHeader {
		return nil, fmt.Errorf("open the broker: an event of %d bytes is more than NATS carries; at most %d", o.MaxEvent, maxPayload-maxHeader)
	}
	m, err := newMetrics(o.Registry)
	if err != nil {
		return nil, err
	}
	st, err := openStore(ctx, o)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		opts: o, log: o.Logger, store: st, metrics: m,
		bodies:  serve.NewBudget(8 * o.MaxEvent),
		replies: serve.NewBudget(8 * o.MaxEvent),
		changed: make(chan struct{}, 1), told: make(chan struct{}, 1), trimNow: make(chan struct{}, 1),
	}
	b.waiting.report = o.Subscribers
	var ending context.Context
	ending, b.end = context.WithCancel(context.WithoutCancel(ctx))
	b.results = results.New(ending, kept{b})
	b.pings = ping.NewRunner(b.sendPing, pingMemory{&bucket{js: st.js, name: "pingsources", purpose: "The last tick of each PingSource"}}, o.Logger)
	b.deleted = &bucket{js: st.js, name: "deletedbrokers", purpose: "Since when each Broker with undelivered events is deleted"}
	b.config.Store(&config{replaced: make(chan struct{})})
	if err := b.openDeadLetters(ctx); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return b, nil
}

// Close ends what Open started. Nothing of b may be in use any more.
func (b *Broker) Close() error {
	b.end()
	b.stopping.Store(true)
	return b.store.close()
}
