package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"aisle.dev/aisle/activator/broker/cron"
	"aisle.dev/aisle/internal/scaling"
)

// Invalid is everything that is wrong with a schedule, by field.
type Invalid struct {
	Name     string
	Problems []Problem
}

// Problem is one thing that is wrong.
type Problem struct {
	Field  string // "spec.windows[2].end"
	Reason string // and what to do
}

func (e *Invalid) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ScalingSchedule %s cannot be used:", e.Name)
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %s: %s", p.Field, p.Reason)
	}
	return b.String()
}

// maxProblems bounds what a hostile schedule can make us report.
const maxProblems = 50

// compiler collects what is wrong.
type compiler struct {
	problems []Problem
	loc      *time.Location
}

func (c *compiler) refuse(field, format string, args ...any) {
	switch n := len(c.problems); {
	case n < maxProblems:
		c.problems = append(c.problems, Problem{Field: field, Reason: fmt.Sprintf(format, args...)})
	case n == maxProblems:
		c.problems = append(c.problems, Problem{Field: "spec", Reason: "more is wrong than is told here"})
	}
}

// Compile makes the schedule of that name ready to be asked. Its error is an
// *Invalid with all that is wrong. The spec is copied.
func Compile(name string, spec *scaling.Spec) (*Schedule, error) {
	c := &compiler{loc: time.UTC}
	s := &Schedule{name: name, spec: spec.DeepCopy()}
	if spec.Service == "" {
		c.refuse("spec.service", "is missing; name the Knative Service that this bounds")
	} else if why := validation.IsDNS1035Label(spec.Service); len(why) > 0 {
		c.refuse("spec.service", "%.64q is no name of a Knative Service: %s", spec.Service, why[0])
	}
	c.zone(spec.TimeZone)
	c.text("spec.reason", spec.Reason)
	if spec.LeadTime != nil {
		s.leadTime = spec.LeadTime.Duration
		if s.leadTime < 0 || s.leadTime > MaxLead {
			c.refuse("spec.leadTime", "is %s; it lies between 0s and %s", s.leadTime, MaxLead)
		}
	}
	if spec.Until != nil {
		if s.until = spec.Until.UTC(); s.until.IsZero() {
			c.refuse("spec.until", "is the zero time; leave it out where the schedule never ends")
		}
	}
	except := c.exceptions(s, spec.Exceptions)
	if len(spec.Windows) > scaling.MaxWindows {
		c.refuse("spec.windows", "has %d windows; at most %d are read: make a second schedule", len(spec.Windows), scaling.MaxWindows)
	}
	for i := range spec.Windows[:min(len(spec.Windows), scaling.MaxWindows)] {
		w := c.window(fmt.Sprintf("spec.windows[%d]", i), &spec.Windows[i])
		w.except = except
		s.add(w)
	}
	if n := s.weight(); n > scaling.MaxServiceWindows {
		c.refuse("spec.exceptions", "have %d windows with those of spec.windows; "+tooMany, n, scaling.MaxServiceWindows, scaling.CronWeight)
	}
	if len(s.windows) == 0 {
		c.refuse("spec.windows", "names none; a bound that always holds is one window with a floor or a cap and no times")
	}
	if len(c.problems) > 0 {
		return nil, &Invalid{Name: name, Problems: c.problems}
	}
	s.loc = c.loc
	return s, nil
}

// Admit refuses, with an *Invalid, a schedule that may not come in the place of
// an old one (nil: there is none), or beside the others of its service.
func (s *Schedule) Admit(old *scaling.Spec, others []*Schedule, now time.Time) error {
	var c compiler
	if old != nil && old.Service != s.spec.Service {
		c.refuse("spec.service", "is %s, and this schedule is of %s; a schedule stays with its service: delete it, and create it for the other one", s.spec.Service, old.Service)
	}
	own, rest := s.weight(), 0
	for _, o := range others {
		if o.name != s.name && !o.Expired(now) {
			rest += o.weight()
		}
	}
	if !s.Expired(now) && own+rest > scaling.MaxServiceWindows {
		c.refuse("spec.windows", "has %d windows with those of exceptions, and the service's other schedules have %d; "+tooMany+": delete schedules that are not needed", own, rest, scaling.MaxServiceWindows, scaling.CronWeight)
	}
	if len(c.problems) > 0 {
		return &Invalid{Name: s.name, Problems: c.problems}
	}
	return nil
}

const tooMany = "at most %d bound one service (one by cron counts as %d)"

// weight is how many windows there are, as the bound of a service counts them:
// what it costs to ask them.
func (s *Schedule) weight() int {
	n := 0
	for i := range s.windows {
		if s.windows[i].cron != nil {
			n += scaling.CronWeight
		} else {
			n++
		}
	}
	return n
}

func (s *Schedule) add(w window) {
	w.index = len(s.windows)
	s.windows = append(s.windows, w)
}

func (c *compiler) text(field, s string) {
	if len(s) > scaling.MaxText {
		c.refuse(field, "has %d bytes; at most %d are kept", len(s), scaling.MaxText)
	}
}

func (c *compiler) zone(name string) {
	if name == "" {
		return
	}
	loc, err := zone(name)
	if err != nil {
		c.refuse("spec.timeZone", "%s", err)
		return
	}
	c.loc = loc
}

// exceptions adds the exceptions' windows and returns all their dates, sorted.
func (c *compiler) exceptions(s *Schedule, all []scaling.Exception) []day {
	const path = "spec.exceptions"
	if len(all) > scaling.MaxExceptions {
		c.refuse(path, "has %d exceptions; at most %d are read", len(all), scaling.MaxExceptions)
		return nil
	}
	of := map[day]string{}
	for i := range all {
		e, field := &all[i], fmt.Sprintf("%s[%d]", path, i)
		c.text(field+".name", e.Name)
		if len(e.Dates) == 0 {
			c.refuse(field+".dates", "names no date; write one such as 2026-12-24")
		}
		if len(e.Dates) > scaling.MaxExceptions || len(of)+len(e.Dates) > scaling.MaxExceptions {
			c.refuse(field+".dates", "there are more than %d dates in all exceptions; make a second schedule", scaling.MaxExceptions)
			return nil
		}
		var dates []day
		for j, text := range e.Dates {
			at := fmt.Sprintf("%s.dates[%d]", field, j)
			d, ok := c.date(at, text)
			if before, twice := of[d]; ok && twice {
				c.refuse(at, "%s is in %s already; name each date once", text, before)
			} else if ok {
				of[d] = at
				dates = append(dates, d)
			}
		}
		slices.Sort(dates)
		if len(e.Windows) > scaling.MaxExceptionWindows {
			c.refuse(field+".windows", "has %d windows; at most %d are read", len(e.Windows), scaling.MaxExceptionWindows)
			continue
		}
		for j := range e.Windows {
			at, from := fmt.Sprintf("%s.windows[%d]", field, j), &e.Windows[j]
			if len(from.Days) > 0 || from.Cron != nil || from.From != "" || from.Until != "" {
				c.refuse(at, "has days, cron, from or until of its own; it holds on the exception's dates: leave them out")
			}
			w := c.window(at, from)
			w.days, w.only = everyDay, dates
			if from.Name == "" && len(dates) > 0 {
				w.name = strings.Trim(cmp.Or(e.Name, e.Dates[0])+" "+times(from), " ")
			}
			s.add(w)
		}
	}
	dates := make([]day, 0, len(of))
	for d := range of {
		dates = append(dates, d)
	}
	slices.Sort(dates)
	return dates
}

// window compiles one window.
func (c *compiler) window(path string, from *scaling.Window) window {
	w := window{name: cmp.Or(from.Name, described(from)), loc: c.loc, last: noDay, days: everyDay, end: minutesOfDay}
	c.text(path+".name", from.Name)
	c.hold(path, &from.Hold, &w)
	ok := true
	if from.From != "" {
		w.first, _ = c.date(path+".from", from.From)
	}
	if from.Until != "" {
		w.last, ok = c.date(path+".until", from.Until)
	}
	if ok && w.last < w.first {
		c.refuse(path+".until", "%s is before from, %s", from.Until, from.From)
	}
	if from.Cron != nil {
		if len(from.Days) > 0 || from.Start != "" || from.End != "" {
			c.refuse(path+".cron", "stands beside days, start or end; write either cron or those")
		}
		w.cron = &cronTimes{start: c.cron(path+".cron.start", from.Cron.Start), end: c.cron(path+".cron.end", from.Cron.End)}
		return w
	}
	if len(from.Days) > 0 {
		w.days = c.days(path+".days", from.Days)
	}
	if from.Start != "" {
		w.start = c.timeOfDay(path+".start", from.Start, "23:59")
	}
	if from.End != "" {
		w.end = c.timeOfDay(path+".end", from.End, "24:00")
	}
	if w.end <= w.start {
		w.end += minutesOfDay
	}
	return w
}

// hold takes what holds in the window.
func (c *compiler) hold(path string, h *scaling.Hold, w *window) {
	w.closed = h.Closed
	switch {
	case h.Closed && (h.Floor != nil || h.Cap != nil):
		c.refuse(path+".closed", "stands beside a floor or a cap; a closed service has no pods to bound: leave them out")
	case !h.Closed && h.Floor == nil && h.Cap == nil:
		c.refuse(path, "asks for nothing; give it a floor, a cap or closed: true")
	}
	if h.Floor != nil {
		if w.floor = int(*h.Floor); w.floor < 0 || w.floor > scaling.MaxScale {
			c.refuse(path+".floor", "is %d; it lies between 0 and %d", w.floor, scaling.MaxScale)
		}
	}
	if h.Cap != nil {
		w.cap = int(*h.Cap)
		switch {
		case w.cap == 0:
			c.refuse(path+".cap", "is 0, which Knative reads as no cap; use closed: true where no pod may run")
		case w.cap < 1 || w.cap > scaling.MaxScale:
			c.refuse(path+".cap", "is %d; it lies between 1 and %d", w.cap, scaling.MaxScale)
		case w.floor > w.cap:
			c.refuse(path+".floor", "is %d, above the window's cap of %d", w.floor, w.cap)
		}
	}
}

func (c *compiler) cron(field, schedule string) cron.Schedule {
	s, err := cron.ParseFive(schedule, c.loc)
	if err != nil {
		c.refuse(field, "%s", err)
	}
	return s
}

// date reads "2026-12-24".
func (c *compiler) date(field, text string) (day, bool) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		c.refuse(field, "%.64q is no date; write one that there is, such as 2026-12-24", text)
		return 0, false
	}
	if t.Year() < 1970 {
		c.refuse(field, "%s is before 1970", text)
		return 0, false
	}
	return dayOf(t.Date()), true
}

// timeOfDay reads "08:00" as minutes, up to last.
func (c *compiler) timeOfDay(field, text, last string) int {
	if text == "24:00" && last == text {
		return minutesOfDay
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		c.refuse(field, "%.64q is no time of day; write 00:00 to %s", text, last)
		return 0
	}
	return t.Hour()*60 + t.Minute()
}

// weekdays are the names of days, by time.Weekday.
var weekdays = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// days reads "Mon" and "Mon-Fri" into a set by weekday.
func (c *compiler) days(field string, all []string) uint8 {
	if len(all) > len(weekdays) {
		c.refuse(field, "has %d entries; a week has 7 days", len(all))
		return everyDay
	}
	var set uint8
	for i, text := range all {
		from, to, stretch := strings.Cut(text, "-")
		first, last := slices.Index(weekdays, from), slices.Index(weekdays, to)
		if !stretch {
			last = first
		}
		if first < 0 || last < 0 {
			c.refuse(fmt.Sprintf("%s[%d]", field, i), "%.64q is no day; write Mon, Tue, Wed, Thu, Fri, Sat, Sun or a stretch such as Mon-Fri", text)
			continue
		}
		for d := first; ; d = (d + 1) % 7 {
			set |= 1 << d
			if d == last {
				break
			}
		}
	}
	return set
}

// times is a window's times of day as people write them; empty: whole days.
func times(w *scaling.Window) string {
	if w.Start == "" && w.End == "" {
		return ""
	}
	return cmp.Or(w.Start, "00:00") + "-" + cmp.Or(w.End, "24:00")
}

// described names a window that has no name.
func described(w *scaling.Window) string {
	if w.Cron != nil {
		return "cron " + w.Cron.Start
	}
	var parts []string
	switch {
	case w.From != "" && w.From == w.Until:
		parts = append(parts, w.From)
	case w.From != "":
		parts = append(parts, "from "+w.From)
	}
	if len(w.Days) > 0 {
		parts = append(parts, strings.Join(w.Days, ","))
	}
	if t := times(w); t != "" {
		parts = append(parts, t)
	}
	return cmp.Or(strings.Join(parts, " "), "always")
}
