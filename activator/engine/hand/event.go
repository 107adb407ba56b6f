package hand

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/scaling"
)

// EventsPath is where events that set bounds are taken, at the engine's own
// host on the proxy's address.
const EventsPath = "/v1/scale"

// pingType is the type of every PingSource's events, which their writer cannot
// choose. At [EventsPath] such an event says in its data what one of
// [event.TypeScale] does.
const pingType = "dev.knative.sources.ping"

// order is an event's data.
type order struct {
	Namespace string `json:"namespace"` // empty: default
	Service   string `json:"service"`
	Min       *int32 `json:"min"`
	Max       *int32 `json:"max"`
	For       string `json:"for"` // from the event's time on
	Reason    string `json:"reason"`
}

// Events takes CloudEvents that set bounds, from this machine alone, and where
// on is false refuses them. Bounds above the maximum that the service declares
// are clamped to it, and one that declares none is not scaled by events. An
// event that has been taken already, or is older than what was set since,
// changes nothing. It replies with an event whose data is a [client.Scale]; its
// refusals are none that Knative would deliver again.
func Events(b Backend, on bool, log *slog.Logger) http.Handler {
	return problem.Handler(func(w http.ResponseWriter, req *http.Request) error {
		if !on {
			return problem.New(http.StatusForbidden, "events set no bounds here; the engine's operator allows it with: aisle up --scale-events")
		}
		if !local(req) {
			return problem.New(http.StatusForbidden, "events set bounds from this machine alone; elsewhere use the API with a token")
		}
		ev, structured, err := event.Read(w, req, maxBody)
		if err != nil {
			return err
		}
		v, err := take(b, ev)
		if err != nil {
			return err
		}
		reply, err := event.New(event.TypeScaled, "/aisle/engine", event.ID(ev.Source(), ev.ID()), "", v)
		if err != nil {
			return err
		}
		return event.Write(w, reply, structured)
	}, func(_ *http.Request, err error) { log.Error("an event sets no bounds", "err", err) })
}

// local is whether a request comes from this machine: over loopback, or, where
// that is not listened to, from the very address that it came to, which no other
// machine's connection does.
func local(req *http.Request) bool {
	from, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return false
	}
	if from.Addr().Unmap().IsLoopback() {
		return true
	}
	at, ok := req.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && at.AddrPort().Addr().Unmap() == from.Addr().Unmap()
}

// errTaken means that an event has nothing to change.
var errTaken = errors.New("taken already")

func take(b Backend, ev ce.Event) (client.Scale, error) {
	var o order
	if t := ev.Type(); t != event.TypeScale && t != pingType {
		return client.Scale{}, problem.New(http.StatusBadRequest, "events of type %.80q set no bounds; use %s, or a PingSource's", t, event.TypeScale)
	}
	if len(ev.Source()) > scaling.MaxText {
		return client.Scale{}, problem.New(http.StatusBadRequest, "the event's source has more than %d bytes", scaling.MaxText)
	}
	if err := decode(ev.Data(), &o); err != nil {
		return client.Scale{}, problem.New(http.StatusBadRequest, "the event's data: %s", err)
	}
	if o.Service == "" {
		return client.Scale{}, problem.New(http.StatusBadRequest, "the event's data names no service")
	}
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if _, ok := b.State(o.Namespace, o.Service); !ok {
		return client.Scale{}, missing(b, http.StatusUnprocessableEntity, o.Namespace, o.Service)
	}
	var warnings []string
	after, err := b.Update(o.Namespace, o.Service, func(s State) (c Change, err error) {
		c, warnings, err = o.change(ev, s)
		return c, err
	})
	if errors.Is(err, errTaken) {
		s, _ := b.State(o.Namespace, o.Service)
		v := View(o.Namespace, o.Service, s)
		v.Warnings = append(v.Warnings, warnings...)
		return v, nil
	}
	if err != nil {
		return client.Scale{}, err
	}
	v := Told(o.Namespace, o.Service, after)
	v.Warnings = append(warnings, v.Warnings...)
	return v, nil
}

// change is what an event asks for, within what it may.
func (o order) change(ev ce.Event, s State) (c Change, warnings []string, err error) {
	declared := int32(min(s.Base.Max, scaling.MaxScale))
	if declared == 0 {
		return c, nil, problem.New(http.StatusUnprocessableEntity,
			"%s declares no maximum, so events do not scale it; give it autoscaling.knative.dev/max-scale", o.Service)
	}
	begin := s.Now
	if t := ev.Time(); !t.IsZero() && t.Before(s.Now) {
		begin = t // however late it comes, it holds for no longer
	}
	id := event.ID(ev.Source(), ev.ID())
	switch {
	case slices.Contains(s.Hand.Events, id):
		return c, []string{"this event has been taken already; nothing has changed"}, errTaken
	case begin.Before(s.Hand.Changed):
		return c, []string{"something was set or taken back by hand after this event; nothing has changed"}, errTaken
	}
	wanted := scaling.ByHand{Min: o.Min, Max: o.Max, For: o.For, Reason: o.Reason}
	set, err := wanted.Schedule(o.Namespace, o.Service, "event of "+ev.Source(), begin)
	if err == nil && set.Expired(s.Now) {
		err = fmt.Errorf("for: the event is of %s, and %s later is past", begin.UTC().Format(time.RFC3339), o.For)
	}
	if err != nil {
		return c, nil, problem.New(http.StatusUnprocessableEntity, "the event's data: %s", err)
	}
	did, hold := "set by an event", &set.Spec.Windows[0].Hold
	for _, b := range []struct {
		name  string
		bound **int32
	}{{"min", &hold.Floor}, {"max", &hold.Cap}} {
		if *b.bound != nil && **b.bound > declared {
			clamp := fmt.Sprintf("%s %d is clamped to %d, the maximum that %s declares", b.name, **b.bound, declared, o.Service)
			*b.bound = &declared
			warnings, did = append(warnings, clamp), did+"; "+clamp
		}
	}
	set.Annotations[scaling.EventAnnotation] = id
	return Change{set, audit.Entry{Way: audit.Event, By: ev.Source(), Did: did, Event: id}}, warnings, nil
}
