package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/scaling"
)

// statusOf is what a plan says of one of its schedules, after it was carried
// out, or could not be: then failed says why. Found is what is still held.
func statusOf(s *scaling.ScalingSchedule, p plan, found []scaling.Found, failed error, now time.Time) scaling.Status {
	st := scaling.Status{
		ObservedGeneration: s.Generation,
		Conditions:         slices.Clone(s.Status.Conditions),
		Closed:             p.bounds.Closed,
		Floor:              new(int32(p.bounds.Floor)),
		Rule:               p.rule,
		Found:              found,
		Window:             windows(s.Name, p.bounds),
		Lead:               new(p.lead),
	}
	if p.bounds.Cap > 0 {
		st.Cap = new(int32(p.bounds.Cap))
	}
	if !p.next.IsZero() {
		st.Next = new(metav1.NewTime(p.next))
	}
	if p.target != nil {
		st.Revision = p.target.Name
	}
	set := func(kind string, is bool, reason, message string) {
		status := metav1.ConditionFalse
		if is {
			status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&st.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: s.Generation,
		})
	}
	ready, why := readiness(s.Name, p, failed)
	set(scaling.Ready, ready, why.reason, why.message)
	if b := p.bounds; b.Cut > 0 {
		set(scaling.FloorCut, true, "FloorAboveCap", fmt.Sprintf("the floor of %d is cut to the cap of %d: %s", b.Cut, b.Cap, because(b)))
	} else {
		set(scaling.FloorCut, false, "FloorWithinCap", "")
	}
	if b := p.bounds; b.Closed {
		set(scaling.NotEnforced, true, "ClosedByComposerAlone", "the composer asks nothing of the service and no floor keeps its pods, but a plain HTTP request still wakes it: nothing in a cluster refuses that")
	} else {
		set(scaling.NotEnforced, false, "NotClosed", "")
	}
	if i := slices.IndexFunc(p.schedules, func(c *schedule.Schedule) bool { return c.Name() == s.Name }); i >= 0 && p.schedules[i].Expired(now) {
		set(scaling.Expired, true, "UntilPassed", "it bounds nothing since "+p.schedules[i].Until().Format(time.RFC3339))
	} else {
		set(scaling.Expired, false, "NotExpired", "")
	}
	return st
}

// readiness is the condition Ready of a schedule.
func readiness(name string, p plan, failed error) (bool, reason) {
	switch err := p.invalid[name]; {
	case err != nil:
		return false, reason{"Invalid", err.Error()}
	case failed != nil:
		return false, reason{"NotSet", failed.Error()}
	case p.target == nil:
		return false, p.lacks
	default:
		return true, reason{"Set", because(p.bounds)}
	}
}

// windows names the windows of a schedule that hold.
func windows(name string, b schedule.Bounds) string {
	var all []string
	for _, w := range b.Why {
		if w.Schedule == name {
			all = append(all, called(w))
		}
	}
	return strings.Join(all, ", ")
}
