// Package plan works out what ScalingSchedules will do within a range of dates,
// checks them for what cannot be meant, and draws them: as a picture (SVG, PNG)
// and as a chart of characters.
//
// What holds at a time it asks activator/schedule; it knows neither files nor
// places, and takes the time.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/scaling"
)

// Service is a service and its schedules, as they were found.
type Service struct {
	Namespace, Name string
	There           bool // the Knative Service itself was found
	Base            schedule.Base
	GPUs            int // that one pod takes
	Lead            scaling.Lead
	Schedules       []*schedule.Schedule
}

// Plan is what schedules will do from one time up to before another.
type Plan struct {
	From     time.Time        `json:"from"`
	To       time.Time        `json:"to"`
	TimeZone string           `json:"timeZone"`
	Clock    []ClockChange    `json:"clockChanges,omitempty"`
	Services []PlannedService `json:"services"`
}

// ClockChange is when the clock of a schedule's zone, or of the plan's, is
// changed.
type ClockChange struct {
	At       time.Time `json:"at"`
	TimeZone string    `json:"timeZone"`
	Hours    float64   `json:"hours"` // it goes forward by
}

// PlannedService is one service within a plan.
type PlannedService struct {
	Namespace string          `json:"namespace,omitempty"`
	Name      string          `json:"name"`
	Lead      scaling.Lead    `json:"lead"`
	Hours     Hours           `json:"hours"`
	Windows   []Lane          `json:"windows"`
	Spans     []schedule.Span `json:"spans"`
}

// Hours is what the bounds alone make of pods' time. Pods that requests start
// above a floor come on top, up to the caps.
type Hours struct {
	Unit     string   `json:"unit"`     // pod-hours, or GPU-hours where a pod takes GPUs
	Floor    float64  `json:"floor"`    // at least: floors are held
	Early    float64  `json:"early"`    // of Floor: pods that get ready for a window
	Cap      *float64 `json:"cap"`      // at most: caps are reached all the time; null: there is a time without cap
	AlwaysOn float64  `json:"alwaysOn"` // the largest floor, held all the time
	Largest  int      `json:"largest"`  // that floor, in pods
}

// Lane is one window and when it holds.
type Lane struct {
	Schedule string    `json:"schedule,omitempty"` // empty: the service's own bounds
	Window   string    `json:"window,omitempty"`
	Floor    int       `json:"floor,omitempty"`
	Cap      int       `json:"cap,omitempty"`
	Closed   bool      `json:"closed,omitempty"`
	Times    []Stretch `json:"times"`
}

// Stretch is a time within which a window holds; Early: its floor does already.
type Stretch struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Early bool      `json:"early,omitempty"`
}

// Make plans services from one time up to before another; times are in from's
// zone.
func Make(services []Service, from, to time.Time) Plan {
	p := Plan{From: from, To: to, TimeZone: from.Location().String(), Services: []PlannedService{}}
	zones := []*time.Location{from.Location()}
	for _, s := range services {
		for _, of := range s.Schedules {
			if !slices.ContainsFunc(zones, func(l *time.Location) bool { return l.String() == of.Location().String() }) {
				zones = append(zones, of.Location())
			}
		}
		p.Services = append(p.Services, s.planned(from, to))
	}
	for _, z := range zones {
		for at := from.In(z); ; {
			_, end := at.ZoneBounds()
			if end.IsZero() || !end.Before(to) {
				break
			}
			_, before := end.Add(-time.Second).Zone()
			_, after := end.Zone()
			if after != before {
				p.Clock = append(p.Clock, ClockChange{At: end.In(from.Location()), TimeZone: z.String(), Hours: float64(after-before) / 3600})
			}
			at = end
		}
	}
	slices.SortStableFunc(p.Clock, func(a, b ClockChange) int { return a.At.Compare(b.At) })
	return p
}

func (s Service) planned(from, to time.Time) PlannedService {
	made := PlannedService{Namespace: s.Namespace, Name: s.Name, Lead: s.Lead, Windows: []Lane{}}
	made.Spans = schedule.Spans(s.Base, s.Lead.Time.Duration, s.Schedules, from, to)
	h := Hours{Unit: "pod-hours"}
	each := 1.0
	if s.GPUs > 0 {
		h.Unit, each = "GPU-hours", float64(s.GPUs)
	}
	most, capped := 0.0, true
	for i := range made.Spans {
		span := &made.Spans[i]
		span.From, span.To = span.From.In(from.Location()), span.To.In(from.Location())
		hours := span.To.Sub(span.From).Hours() * each
		h.Floor += float64(span.Floor) * hours
		h.Early += float64(span.Early()) * hours
		h.Largest = max(h.Largest, span.Floor)
		if span.Closed {
			most += float64(span.Floor) * hours
		} else {
			most += float64(span.Cap) * hours
		}
		capped = capped && (span.Cap > 0 || span.Closed)
		for _, w := range span.Why {
			made.hold(w, span.From, span.To)
		}
	}
	if h.AlwaysOn = float64(h.Largest) * to.Sub(from).Hours() * each; capped {
		h.Cap = &most
	}
	made.Hours = h
	return made
}

// hold notes that a window holds for a time.
func (p *PlannedService) hold(w schedule.Why, from, to time.Time) {
	i := slices.IndexFunc(p.Windows, func(l Lane) bool { return l.Schedule == w.Schedule && l.Window == w.Window })
	if i < 0 {
		p.Windows = append(p.Windows, Lane{Schedule: w.Schedule, Window: w.Window, Floor: w.Floor, Cap: w.Cap, Closed: w.Closed})
		i = len(p.Windows) - 1
	}
	l := &p.Windows[i]
	l.Floor = max(l.Floor, w.Floor) // early it may be cut to the cap of then
	if n := len(l.Times); n > 0 && l.Times[n-1].To.Equal(from) && l.Times[n-1].Early == w.Early {
		l.Times[n-1].To = to
		return
	}
	l.Times = append(l.Times, Stretch{From: from, To: to, Early: w.Early})
}

// FullName is the service's name, with its namespace where that is not the
// usual one.
func (p PlannedService) FullName() string {
	if p.Namespace == "" || p.Namespace == "default" {
		return p.Name
	}
	return p.Namespace + "/" + p.Name
}

// Reasons are the names of what holds in a span: windows, those that hold early
// said so, and the service's own bounds.
func Reasons(s schedule.Span) string {
	var all []string
	for _, w := range s.Why {
		name := windowName(w)
		if name == "" {
			name = "the service's own"
		}
		if w.Early {
			name += " (early)"
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

// Windows are the names of the windows that hold in a span.
func Windows(s schedule.Span) string {
	var all []string
	for _, w := range s.Why {
		if w.Schedule != "" {
			all = append(all, windowName(w))
		}
	}
	return strings.Join(all, ", ")
}

// windowName is empty for the service's own bounds.
func windowName(w schedule.Why) string {
	if w.Window == "" {
		return w.Schedule
	}
	return w.Schedule + ": " + w.Window
}

// Notes are what there is to know of a span besides floor and cap.
func Notes(s schedule.Span) string {
	var all []string
	if s.Closed {
		all = append(all, "closed")
	}
	if n := s.Early(); n > 0 {
		all = append(all, fmt.Sprintf("%d early", n))
	}
	if s.Cut > 0 {
		all = append(all, fmt.Sprintf("cut from %d", s.Cut))
	}
	return strings.Join(all, ", ")
}
