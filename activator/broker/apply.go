package broker

import (
	"context"
	"fmt"
	"reflect"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	duckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"

	"aisle.dev/aisle/activator/broker/deferral"
	"aisle.dev/aisle/activator/broker/ping"
)

// config is what was applied. It does not change.
type config struct {
	replaced chan struct{} // closed when another one is in its place
	brokers  map[types.NamespacedName]*stream
	triggers map[types.NamespacedName]*trigger
	orphans  map[[2]string]bool // stream and consumer of Triggers whose Broker is not there
	pings    []*ping.Source
}

// trigger is a Trigger, read. It does not change.
type trigger struct {
	name, broker types.NamespacedName
	stream       *stream
	consumer     string
	filter       filter
	policy       policy
	subscriber   target
	sink         *target // for dead letters; nil: they are kept here
	ordered      bool
	deferral     *deferral.Policy    // nil: events are delivered as they come
	spec         *eventingv1.Trigger // as applied, to see changes
	delivery     *duckv1.DeliverySpec
}

func (b *Broker) brokers() map[types.NamespacedName]*stream { return b.config.Load().brokers }

// Apply makes objects, as Parse gives them, the whole set of Brokers, Triggers
// and PingSources, and fills in their status. The same set again changes
// nothing.
//
// A Trigger that is gone takes with it what it had yet to deliver. A Broker
// that is gone keeps its events while some Trigger that is still there had yet
// to get them, for Options.MaxAge, and has them again when it comes back.
func (b *Broker) Apply(ctx context.Context, objects []Object) error {
	b.apply.Lock()
	defer b.apply.Unlock()
	old := b.config.Load()
	c := &config{replaced: make(chan struct{}), brokers: map[types.NamespacedName]*stream{}, triggers: map[types.NamespacedName]*trigger{}, orphans: map[[2]string]bool{}}
	declared := map[types.NamespacedName]*eventingv1.Broker{}
	for _, o := range objects {
		if o, ok := o.(*eventingv1.Broker); ok {
			name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
			s, err := b.openStream(ctx, name, old.brokers[name])
			if err != nil {
				return err
			}
			c.brokers[name], declared[name] = s, o
		}
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *eventingv1.Trigger:
			t, err := b.openTrigger(ctx, o, c, declared, old)
			if err != nil {
				return err
			}
			if t != nil {
				c.triggers[t.name] = t
			} else {
				name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
				c.orphans[[2]string{streamOf(types.NamespacedName{Namespace: o.Namespace, Name: o.Spec.Broker}), consumerOf(name)}] = true
			}
		case *sourcesv1.PingSource:
			source, err := openPing(o)
			if err != nil {
				return err
			}
			c.pings = append(c.pings, source)
		}
	}
	b.config.Store(c)
	close(old.replaced)
	b.pings.Set(c.pings)
	select {
	case b.changed <- struct{}{}:
	default:
	}
	err := b.sweep(ctx, c)
	b.Tell(objects)
	return err
}

// openStream makes sure of a Broker's stream.
func (b *Broker) openStream(ctx context.Context, name types.NamespacedName, known *stream) (*stream, error) {
	if known != nil {
		return known, nil
	}
	state, err := b.store.openStream(ctx, jetstream.StreamConfig{
		Name: streamOf(name), Subjects: []string{subjectOf(name)}, Description: brokerDescription + name.String(),
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		// Refuse rather than forget: see [Broker.trim] for what makes room.
		Discard: jetstream.DiscardNew, MaxBytes: b.opts.MaxBytes,
		Duplicates: minimalWindow,
	})
	if err != nil {
		return nil, err
	}
	if err := b.deleted.forget(ctx, streamOf(name)); err != nil {
		return nil, fmt.Errorf("open the stream of Broker %s: %w", name, err)
	}
	s := newStream(name, state)
	if lost := missing(state); lost > 0 {
		b.log.Error("the store has lost events: its files were damaged, by a power cut or by hand", "broker", name, "events", lost)
	}
	return s, nil
}

// missing counts the events that should be in a Broker's stream and are not:
// none is ever taken from between others.
func missing(s jetstream.StreamState) uint64 {
	if s.Msgs == 0 {
		return 0
	}
	return s.LastSeq - s.FirstSeq + 1 - s.Msgs
}

// openTrigger reads a Trigger and makes sure of its consumer. It gives nil for
// one whose Broker is not there.
func (b *Broker) openTrigger(ctx context.Context, o *eventingv1.Trigger, c *config, declared map[types.NamespacedName]*eventingv1.Broker, old *config) (*trigger, error) {
	name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	from := types.NamespacedName{Namespace: o.Namespace, Name: o.Spec.Broker}
	on := declared[from]
	if on == nil {
		return nil, nil
	}
	delivery := o.Spec.Delivery
	if delivery == nil { // one or the other, as Knative has it
		delivery = on.Spec.Delivery
	}
	t := &trigger{
		name: name, broker: from, stream: c.brokers[from], consumer: consumerOf(name),
		ordered: o.Annotations[OrderAnnotation] == "ordered", spec: o.DeepCopy(), delivery: delivery.DeepCopy(),
	}
	var err error
	if t.policy, err = newPolicy(delivery); err != nil {
		return nil, fmt.Errorf("apply Trigger %s: %w", name, err)
	}
	if t.subscriber, err = resolve(o.Spec.Subscriber, o.Namespace); err != nil {
		return nil, fmt.Errorf("apply Trigger %s: %w", name, err)
	}
	if t.sink, err = deadLetterSink(o, on); err != nil {
		return nil, fmt.Errorf("apply Trigger %s: %w", name, err)
	}
	if t.deferral, err = deferral.Parse(o.Annotations); err != nil {
		return nil, fmt.Errorf("apply Trigger %s: %w", name, err)
	}
	if known := old.triggers[name]; known != nil && known.same(t) {
		return known, nil
	}
	if t.filter, err = newFilter(o); err != nil {
		return nil, fmt.Errorf("apply Trigger %s: %w", name, err)
	}
	if known := old.triggers[name]; known != nil && known.stream == t.stream {
		return t, nil
	}
	if err := b.store.openConsumer(ctx, t.stream.name, jetstream.ConsumerConfig{
		Durable: t.consumer, Description: triggerDescription + name.String(),
		DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxDeliver: -1, MaxAckPending: b.opts.MaxRetrying, MaxWaiting: maxPulls,
	}); err != nil {
		return nil, err
	}
	return t, nil
}

// deadLetterSink gives the Trigger's sink, or its Broker's.
func deadLetterSink(o *eventingv1.Trigger, on *eventingv1.Broker) (*target, error) {
	for _, d := range []*duckv1.DeliverySpec{o.Spec.Delivery, on.Spec.Delivery} {
		if d != nil && d.DeadLetterSink != nil {
			sink, err := resolve(*d.DeadLetterSink, o.Namespace)
			return &sink, err
		}
	}
	return nil, nil
}

// same says whether u is t with nothing changed that matters to delivery.
func (t *trigger) same(u *trigger) bool {
	return t.stream == u.stream && t.ordered == u.ordered && reflect.DeepEqual(t.deferral, u.deferral) &&
		equality.Semantic.DeepEqual(t.spec.Spec, u.spec.Spec) && equality.Semantic.DeepEqual(t.delivery, u.delivery) && reflect.DeepEqual(t.sink, u.sink)
}
