package plan

import (
	"fmt"
	"slices"
	"time"

	"aisle.dev/aisle/activator/schedule"
)

// Finding is something about a schedule that cannot be meant.
type Finding struct {
	Namespace string `json:"namespace,omitempty"`
	Schedule  string `json:"schedule"`
	Where     string `json:"where,omitempty"` // a field, or a window's name
	Error     bool   `json:"error,omitempty"` // it cannot be used at all
	Message   string `json:"message"`
}

// looked is how far Lint looks ahead.
const looked = 400 * 24 * time.Hour

// Limits are what a place has at most; 0: not known.
type Limits struct{ GPUs int }

// Lint checks services' schedules for what cannot be meant, from now on.
// KnowsServices says whether a service that was not found is really absent.
func Lint(services []Service, limits Limits, knowsServices bool, now time.Time) []Finding {
	var all []Finding
	for _, s := range services {
		all = append(all, s.lint(limits, knowsServices, now)...)
	}
	return all
}

func (s Service) lint(limits Limits, knowsServices bool, now time.Time) (all []Finding) {
	say := func(of, where, format string, args ...any) {
		all = append(all, Finding{Namespace: s.Namespace, Schedule: of, Where: where, Message: fmt.Sprintf(format, args...)})
	}
	for _, of := range s.Schedules {
		if knowsServices && !s.There {
			say(of.Name(), "spec.service", "there is no service %s; it bounds nothing until there is one", s.Name)
		}
		if of.Expired(now) {
			say(of.Name(), "spec.until", "it expired on %s and bounds nothing; delete it", day(of.Until(), of))
			continue
		}
		floors := false
		for _, w := range of.Windows() {
			floors = floors || w.Floor > 0
			if _, _, ok := w.Span(now); !ok {
				say(of.Name(), w.Name, "it never begins again: no date is left for it")
				continue
			}
			if w.DayLong {
				say(of.Name(), w.Name, "it starts and ends at the same time of day, so it holds for 24 hours; is another end meant?")
			}
			switch {
			case w.Floor > 0 && s.Base.Max > 0 && w.Floor > s.Base.Max:
				say(of.Name(), w.Name, "its floor of %d can never be met: the service's own max-scale is %d", w.Floor, s.Base.Max)
			case w.Floor > 0 && limits.GPUs > 0 && w.Floor*s.GPUs > limits.GPUs:
				say(of.Name(), w.Name, "its floor of %d can never be met: that takes %d GPUs, and there are %d", w.Floor, w.Floor*s.GPUs, limits.GPUs)
			case w.Floor == 0 && w.Cap == 0 && !w.Closed:
				say(of.Name(), w.Name, "its floor of 0 asks for nothing")
			}
		}
		switch {
		case of.ReadyBy() && !floors:
			say(of.Name(), "spec.readyBy", "it has no floor that could hold early")
		case of.ReadyBy() && s.Lead.Time.Duration == 0:
			say(of.Name(), "spec.readyBy", "no lead time is known; until one is learned the floor is not held early: declare leadTime")
		}
	}
	return append(all, s.lintSpans(now)...)
}

func day(t time.Time, of *schedule.Schedule) string {
	return t.In(of.Location()).Format("Mon 2 Jan 2006 15:04")
}

// held is what came of a window wherever it held.
type held struct {
	schedule, window string
	useful           bool   // it was the highest floor or the lowest cap somewhere
	within           string // else: what was
	cut              *Finding
}

// lintSpans looks at what holds together.
func (s Service) lintSpans(now time.Time) (all []Finding) {
	if len(s.Schedules) == 0 {
		return nil
	}
	var windows []*held
	for _, span := range schedule.Spans(s.Base, 0, s.Schedules, now, now.Add(looked)) {
		for i, w := range span.Why {
			if w.Schedule == "" {
				continue
			}
			j := slices.IndexFunc(windows, func(h *held) bool { return h.schedule == w.Schedule && h.window == w.Window })
			if j < 0 {
				windows = append(windows, &held{schedule: w.Schedule, window: w.Window})
				j = len(windows) - 1
			}
			h := windows[j]
			if by := outdone(span, i); by == "" {
				h.useful = true
			} else {
				h.within = by
			}
			// Above the service's own cap it is told already, for all times.
			if w.Floor > span.Cap && span.Cut > 0 && h.cut == nil && (s.Base.Max == 0 || w.Floor <= s.Base.Max) {
				h.cut = &Finding{Namespace: s.Namespace, Schedule: w.Schedule, Where: w.Window,
					Message: fmt.Sprintf("its floor of %d is cut to the cap of %d, first on %s", w.Floor, span.Cap, span.From.Format("Mon 2 Jan 2006 15:04 MST"))}
			}
		}
		if span.Closed && span.Opens.IsZero() && span.To.Sub(span.From) > looked/2 {
			all = append(all, Finding{Namespace: s.Namespace, Schedule: span.Why[len(span.Why)-1].Schedule, Message: fmt.Sprintf("service %s is closed for ever", s.Name)})
		}
	}
	for _, h := range windows {
		if h.cut != nil {
			all = append(all, *h.cut)
		}
		if !h.useful {
			all = append(all, Finding{Namespace: s.Namespace, Schedule: h.schedule, Where: h.window,
				Message: "it changes nothing: whenever it holds, " + h.within})
		}
	}
	return all
}

// outdone says which of the other windows that hold ask for at least as much as
// one of them, by its place; empty: they do not. Of equal ones the first counts.
func outdone(s schedule.Span, i int) string {
	w := s.Why[i]
	floor, limit := w.Floor == 0, w.Cap == 0
	if floor && limit && !w.Closed {
		return "" // it asks for nothing, which is told otherwise
	}
	by := ""
	for j, o := range s.Why {
		if j == i {
			continue
		}
		name := "the service itself asks for as much"
		if o.Schedule != "" {
			name = o.Schedule + ": " + o.Window + " asks for as much"
		}
		switch {
		case w.Closed:
			if o.Closed && j < i {
				return name
			}
		case o.Closed:
			return o.Schedule + ": " + o.Window + " closes the service"
		default:
			if !floor && (o.Floor > w.Floor || o.Floor == w.Floor && j < i) {
				floor, by = true, name
			}
			if !limit && o.Cap > 0 && (o.Cap < w.Cap || o.Cap == w.Cap && j < i) {
				limit, by = true, name
			}
		}
	}
	if w.Closed || !floor || !limit {
		return ""
	}
	return by
}
