// Package schedule says which bounds on a service's pods hold at a time, why,
// and when that changes: the meaning of ScalingSchedules (internal/scaling).
//
// It is pure: it keeps no clock and no timer, and remembers nothing. Who uses
// it asks At for the bounds and the next change, sets one timer, and asks anew
// when that ends, the clock jumps, or a schedule comes or goes. So a change that
// was slept through is caught up by asking, never by counting.
//
// What holds:
//   - Of all windows that hold, and the service's own bounds, the highest floor
//     and the lowest cap hold; a floor above the cap is cut to it. No order of
//     schedules matters.
//   - A window belongs to the date on which it begins, in its schedule's time
//     zone. On an exception's dates no window begins but the exception's own; one
//     that began the day before ends as it would have.
//   - Times are what the clock on the wall shows. A window that begins, or ends,
//     at a time that the clock leaves out does so when the clock is changed (so
//     one that lies wholly within what is left out does not come); one at a time
//     that the clock shows twice begins, or ends, at its first showing.
//   - While a window closes a service no floor holds, but for pods that get ready
//     for the time after it.
//   - Floors of schedules with readyBy hold early by the lead time: the floor at
//     a time is the highest that such a schedule has from then until the lead time
//     later, as it will be then, cut to the cap of then, and not where it is closed
//     then. So what opens with a floor opens with its pods.
//   - From its until on a schedule bounds nothing.
//
// It patches no Revision and starts no pod, and what a lead time is it is told
// (schedule/lead learns it).
package schedule

import (
	"time"

	"aisle.dev/aisle/internal/scaling"
)

// MaxLead is the longest lead time that raises a floor; a longer one counts as
// this.
const MaxLead = 24 * time.Hour

// Schedule is a ScalingSchedule made ready to be asked. It does not change and
// is safe for concurrent use.
type Schedule struct {
	name     string
	spec     *scaling.Spec // a copy of ours; never handed out
	loc      *time.Location
	until    time.Time // zero: never
	leadTime time.Duration
	windows  []window
}

// Name is the object's name, as Why gives it.
func (s *Schedule) Name() string { return s.name }

// Service is the name of the service that it bounds.
func (s *Schedule) Service() string { return s.spec.Service }

// Location is the zone of its times.
func (s *Schedule) Location() *time.Location { return s.loc }

// LeadTime is the lead time that it declares; 0: none.
func (s *Schedule) LeadTime() time.Duration { return s.leadTime }

// ReadyBy says whether its floors hold early.
func (s *Schedule) ReadyBy() bool { return s.spec.ReadyBy }

// Expired says whether it bounds nothing any more.
func (s *Schedule) Expired(now time.Time) bool {
	return !s.until.IsZero() && !now.Before(s.until)
}

// Until is when it expires; zero: never.
func (s *Schedule) Until() time.Time { return s.until }

// Lead is the lead time that holds for a service with these schedules: what was
// learned from a sample of starts, or, with none, the longest that a schedule
// declares.
func Lead(learned time.Duration, sample int, all []*Schedule, now time.Time) (time.Duration, scaling.Lead) {
	l := scaling.Lead{Source: "none"}
	if sample > 0 {
		l.Source, l.Time.Duration, l.Sample = "learned", learned, int32(sample)
		return learned, l
	}
	for _, s := range all {
		if s.leadTime > l.Time.Duration && !s.Expired(now) {
			l.Source, l.Time.Duration = "declared", s.leadTime
		}
	}
	return l.Time.Duration, l
}

// Window is one of a schedule's windows, for plans and for who checks them.
type Window struct {
	Name       string
	Floor, Cap int // 0: none
	Closed     bool
	DayLong    bool // it starts within a day and ends at the same time of the next

	of *Schedule
	w  *window
}

// Windows are the schedule's windows, the exceptions' own first.
func (s *Schedule) Windows() []Window {
	all := make([]Window, len(s.windows))
	for i := range s.windows {
		w := &s.windows[i]
		all[i] = Window{Name: w.name, Floor: w.floor, Cap: w.cap, Closed: w.closed, DayLong: w.cron == nil && w.start > 0 && w.end == w.start+minutesOfDay, of: s, w: w}
	}
	return all
}

// Span is when the window holds, at t or next after it, up to before end (zero:
// it never ends); false if it never does again.
func (w Window) Span(t time.Time) (begin, end time.Time, ok bool) {
	n, ok := w.of.turn(w.w, t)
	return n.begin, n.end, ok
}
