package schedule

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"aisle.dev/aisle/internal/scaling"
)

// Set is what was set of a service's bounds, for the status of its schedules.
type Set struct {
	Bounds Bounds
	Next   time.Time // when they change by the clock; zero: never
	Lead   scaling.Lead
	// Revision has them, and Rule says why that one does.
	Revision, Rule string
	// Reason and Message say why they are not set; empty: they are.
	Reason, Message string
	// Unenforced is what nothing enforces of them; empty: nothing of the kind.
	Unenforced string
}

// Status is what is to be said of one of the service's schedules.
func (s Set) Status(o *scaling.ScalingSchedule, now time.Time) scaling.Status {
	b := s.Bounds
	st := scaling.Status{
		ObservedGeneration: o.Generation,
		Conditions:         slices.Clone(o.Status.Conditions),
		Window:             b.Windows(o.Name),
		Floor:              new(int32(b.Floor)),
		Closed:             b.Closed,
		Lead:               new(s.Lead),
		Revision:           s.Revision,
		Rule:               s.Rule,
	}
	if b.Cap > 0 {
		st.Cap = new(int32(b.Cap))
	}
	if !s.Next.IsZero() {
		st.Next = new(metav1.NewTime(s.Next))
	}
	set := func(kind string, is bool, yes, no, message string) {
		c := metav1.Condition{
			Type: kind, Status: metav1.ConditionFalse, Reason: no, Message: message,
			ObservedGeneration: o.Generation, LastTransitionTime: metav1.NewTime(now),
		}
		if is {
			c.Status, c.Reason = metav1.ConditionTrue, yes
		}
		meta.SetStatusCondition(&st.Conditions, c)
	}
	if s.Reason == "" {
		set(scaling.Ready, true, "Set", "", b.Because())
	} else {
		set(scaling.Ready, false, "", s.Reason, s.Message)
	}
	cut, over := "", ""
	if b.Cut > 0 {
		cut = fmt.Sprintf("the floor of %d is cut to the cap of %d: %s", b.Cut, b.Cap, b.Because())
	}
	if until := o.Spec.Until; until != nil && !now.Before(until.Time) {
		over = "it bounds nothing since " + until.UTC().Format(time.RFC3339)
	}
	set(scaling.FloorCut, cut != "", "FloorAboveCap", "FloorWithinCap", cut)
	set(scaling.NotEnforced, s.Unenforced != "", "NothingEnforcesIt", "Enforced", s.Unenforced)
	set(scaling.Expired, over != "", "UntilPassed", "NotExpired", over)
	return st
}

// Because names the windows that hold.
func (b Bounds) Because() string {
	var all []string
	for _, w := range b.Why {
		if w.Schedule == "" {
			continue
		}
		said := w.Schedule + ": " + w.called()
		if !w.Until.IsZero() {
			said += " until " + w.Until.Format(time.RFC3339)
		}
		all = append(all, said)
	}
	if all == nil {
		return "no window holds"
	}
	return strings.Join(all, "; ")
}

// Windows names those of a schedule that hold.
func (b Bounds) Windows(schedule string) string {
	var all []string
	for _, w := range b.Why {
		if w.Schedule == schedule {
			all = append(all, w.called())
		}
	}
	return strings.Join(all, ", ")
}

// By names the schedules whose windows hold; empty: none does.
func (b Bounds) By() string {
	var all []string
	for _, w := range b.Why {
		if w.Schedule != "" && !slices.Contains(all, w.Schedule) {
			all = append(all, w.Schedule)
		}
	}
	return strings.Join(all, ", ")
}

// called is how people call a window.
func (w Why) called() string {
	if w.Early {
		return w.Window + " (early)"
	}
	return w.Window
}
