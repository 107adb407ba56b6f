package broker

import (
	"errors"
	"fmt"

	"knative.dev/pkg/apis"
)

// Progressing is a Trigger's condition that is there, and False, while its
// events are delivered with longer and longer waits or not at all, for a reason
// that is not their subscriber's. It does not make the Trigger less ready.
const Progressing apis.ConditionType = "Progressing"

// Reasons of [Progressing].
const (
	DeadLettersFull = "DeadLettersFull" // events cannot be given up
	NotStored       = "NotStored"       // replies or dead letters cannot be stored
	RetriesFull     = "RetriesFull"     // so many wait for a retry that no other is begun
)

// standing is why a Trigger's events do not flow; empty if they do.
type standing struct{ reason, message string }

// standing says how the Trigger stands.
func (d *dispatcher) standing() standing {
	waiting := len(d.retrying) + d.earlier
	d.b.metrics.retrying.WithLabelValues(d.trigger.name.Namespace, d.trigger.broker.Name, d.trigger.name.Name).Set(float64(waiting))
	most := d.b.opts.MaxRetrying
	if all := waiting + len(d.held); all >= most {
		d.full = true
	} else if all < most-most/10 { // between them it stays what it was: it would be told of every event
		d.full = false
	}
	for _, err := range d.unstored {
		if errors.Is(err, errLettersFull) {
			return standing{DeadLettersFull, err.Error() + "; until then events that would be given up are tried again, with longer and longer waits"}
		}
	}
	for _, err := range d.unstored {
		return standing{NotStored, fmt.Sprintf("what came of an event cannot be stored: %v; it is tried again, with longer and longer waits", err)}
	}
	if d.full {
		return standing{RetriesFull, fmt.Sprintf("%d events wait for their retry, the most that may; no other begins until one of them has ended", most)}
	}
	return standing{}
}

// stand tells how the Trigger stands, where that is another way.
func (d *dispatcher) stand(s standing) {
	if s.reason == d.stands.reason {
		return
	}
	d.stands = s
	if s.reason == "" {
		d.b.standing.Delete(d.trigger.name)
	} else {
		d.b.standing.Store(d.trigger.name, s)
		d.b.log.Warn("a Trigger's events do not flow", "trigger", d.trigger.name, "reason", s.reason, "message", s.message)
	}
	d.b.statusChanged()
}

// statusChanged has Run say that Tell says something else.
func (b *Broker) statusChanged() {
	select {
	case b.told <- struct{}{}:
	default:
	}
}
