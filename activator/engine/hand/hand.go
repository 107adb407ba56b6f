// Package hand sets bounds of a service by hand: over the engine's API, and by
// a CloudEvent. Both write the one ScalingSchedule of the service that has the
// name [scaling.HandName]; there is no other store of bounds.
//
// Guarantees: who has read a service's bounds and sets them with If-Match sets
// them only if nobody else has in between (412). What is written expires,
// unless it is said to be permanent. An event sets no more than the maximum
// that the service declares, nothing for good, and once, however often it
// comes, also after somebody has taken back what it set: the audit log has the
// last events of a service. Every change is in it, with who made it.
//
// Non-goals: deciding what bounds mean at a time (activator/schedule), and who
// may do what (engine/access).
package hand

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/scaling"
)

// State is what bounds a service at a moment.
type State struct {
	Now       time.Time
	Base      schedule.Base // its own min-scale and max-scale
	Lead      time.Duration // from its wake to its being ready
	Schedules []*scaling.ScalingSchedule
	Hand      audit.Hand // how it was bounded by hand so far
}

// Backend has the services and their schedules.
type Backend interface {
	// State is what bounds a service; false: there is no such service.
	State(namespace, service string) (State, bool)
	// Services names all of them: NAMESPACE/NAME.
	Services() []string
	// Update makes of the schedule that was set by hand what change says, while
	// nothing else changes anything, and records the change. It gives what bounds
	// the service then. An error of change's is its own; nothing is changed then.
	Update(namespace, service string, change func(State) (Change, error)) (State, error)
}

// Change is what is to become of the schedule that was set by hand.
type Change struct {
	Schedule *scaling.ScalingSchedule // nil: it is deleted
	Entry    audit.Entry              // who does it and why; all else is the backend's to say
}

// set is the schedule that was set by hand; nil: there is none, or it is over.
func (s State) set(service string) *scaling.ScalingSchedule {
	i := slices.IndexFunc(s.Schedules, func(o *scaling.ScalingSchedule) bool {
		return o.Name == scaling.HandName(service) && !o.Expired(s.Now)
	})
	if i < 0 {
		return nil
	}
	return s.Schedules[i]
}

// With is the state as it would be with another schedule set by hand; nil: none.
func (s State) With(service string, set *scaling.ScalingSchedule) State {
	s.Schedules = slices.DeleteFunc(slices.Clone(s.Schedules), func(o *scaling.ScalingSchedule) bool { return o.Name == scaling.HandName(service) })
	if set != nil {
		s.Schedules = append(s.Schedules, set)
	}
	return s
}

// View says what bounds a service, and why. A schedule that cannot be used
// bounds nothing, and is a warning.
func View(namespace, service string, s State) client.Scale {
	v := client.Scale{Namespace: namespace, Service: service, ByHand: s.set(service)}
	var all []*schedule.Schedule
	byName := map[string]*scaling.ScalingSchedule{}
	for _, o := range s.Schedules {
		compiled, err := schedule.Compile(o.Name, &o.Spec)
		if err != nil {
			v.Warnings = append(v.Warnings, err.Error())
			continue
		}
		all, byName[o.Name] = append(all, compiled), o
	}
	b, next := schedule.At(s.Base, s.Lead, all, s.Now)
	v.Floor, v.Cap, v.Closed, v.Opens, v.Cut, v.Next = b.Floor, b.Cap, b.Closed, b.Opens.UTC(), b.Cut, next.UTC()
	for _, w := range b.Why {
		h := client.Holding{Schedule: w.Schedule, Window: w.Window, Floor: w.Floor, Cap: w.Cap, Closed: w.Closed, Early: w.Early, Until: w.Until}
		if o := byName[w.Schedule]; o != nil {
			h.Reason, h.By = o.Spec.Reason, o.Annotations[scaling.ByAnnotation]
		}
		v.Why = append(v.Why, h)
	}
	return v
}

// Told is the view after a change, with what who changed it should know.
func Told(namespace, service string, s State) client.Scale {
	v := View(namespace, service, s)
	if v.ByHand == nil || v.Closed {
		if v.Closed {
			v.Warnings = append(v.Warnings, "the service is closed by a schedule: no floor holds until it opens")
		}
		return v
	}
	for _, w := range v.ByHand.Spec.Windows {
		if w.Floor != nil && int(*w.Floor) < v.Floor {
			v.Warnings = append(v.Warnings, fmt.Sprintf("a higher floor holds than the %d that is set: the highest one does", *w.Floor))
		}
		if w.Cap != nil && v.Cap > 0 && int(*w.Cap) > v.Cap {
			v.Warnings = append(v.Warnings, fmt.Sprintf("a lower cap holds than the %d that is set: the lowest one does", *w.Cap))
		}
	}
	if v.Cut > 0 {
		v.Warnings = append(v.Warnings, fmt.Sprintf("the floor of %d is cut to the cap of %d", v.Cut, v.Cap))
	}
	return v
}

// missing is the error of a service that is not there.
func missing(b Backend, status int, namespace, service string) error {
	all := b.Services()
	known := "there is none"
	if len(all) > 0 {
		known = "the services are: " + strings.Join(all[:min(len(all), 20)], ", ")
	}
	return problem.New(status, "there is no service %q in namespace %.80q; %s", service, namespace, known)
}

// etag is [client.ETag] of a schedule; empty where there is none.
func etag(set *scaling.ScalingSchedule) string {
	if set == nil {
		return ""
	}
	return client.ETag(set)
}

// permitted holds a change against the request's conditions (RFC 9110, 13.1).
func permitted(h http.Header, set *scaling.ScalingSchedule) error {
	tag := etag(set)
	matches := func(list []string) bool {
		for item := range strings.SplitSeq(strings.Join(list, ","), ",") {
			if item = strings.TrimSpace(item); set != nil && (item == "*" || item == tag) {
				return true
			}
		}
		return false
	}
	now := "nothing is set by hand"
	if set != nil {
		now = "it is " + tag + " now, set by " + cmp.Or(set.Annotations[scaling.ByAnnotation], "somebody")
	}
	if want, given := h["If-Match"]; given && !matches(want) {
		return problem.New(http.StatusPreconditionFailed, "somebody has changed it meanwhile: %s; read it again", now)
	}
	if unwanted, given := h["If-None-Match"]; given && matches(unwanted) {
		return problem.New(http.StatusPreconditionFailed, "something is set by hand already: %s; read it first", now)
	}
	return nil
}
