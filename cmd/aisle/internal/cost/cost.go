// Package cost says what services used and cost by day, and what that is
// against pods that are always on.
//
// What is compared:
//
//   - Always on, one pod: one pod for as long as the service was there, by day.
//     It is the least that a service costs which does not scale to zero. Who
//     used more pods at once than one may have used more than that.
//   - Always on, at peak: as many pods as the service needed at once on that
//     day, for as long as it was there: what gives the same answers without
//     scaling at all. A fleet for a month is as large as the month's largest
//     day, so the days' sum is less than it would cost.
//   - Floors, all day: a day's highest floor for as long as the service was
//     there, against the floors that held: what schedules saved, of what pods
//     cost that are kept ready. It needs no guess of what requests would have
//     started.
//
// What deferral and gates save is not told here, since nobody counts the pods
// that were not started; hack/replay tells it for traces.
//
// It is pure.
package cost

import (
	"cmp"
	"fmt"
	"slices"

	"aisle.dev/aisle/internal/client"
)

// Amount is a use.
type Amount struct {
	PodSeconds float64 `json:"podSeconds"`
	GPUSeconds float64 `json:"gpuSeconds"`
	Cost       float64 `json:"cost,omitempty"` // in the prices' currency; 0 without prices
}

func (a *Amount) add(b Amount) {
	a.PodSeconds += b.PodSeconds
	a.GPUSeconds += b.GPUSeconds
	a.Cost += b.Cost
}

// Line is what a service used on a day, or what several have together.
type Line struct {
	Date      string `json:"date,omitempty"` // empty in totals
	Namespace string `json:"namespace,omitempty"`
	Service   string `json:"service,omitempty"`

	Used Amount `json:"used"`
	One  Amount `json:"alwaysOn"`       // one pod, always on
	Most Amount `json:"alwaysOnAtPeak"` // as many as were needed at once, always on
	Peak int    `json:"peak"`           // the most pods that took requests at once, of one service on one day

	Floors Amount `json:"floors"` // as they held
	AllDay Amount `json:"floorsAllDay"`

	// Saved is the share of One that was not used, SavedAtPeak that of Most; by
	// cost, or without prices by GPU-seconds, or by pod-seconds where there are
	// no GPUs. Below 0: more was used. nil: there is nothing to compare with.
	Saved       *float64 `json:"saved,omitempty"`
	SavedAtPeak *float64 `json:"savedAtPeak,omitempty"`
}

// Report is what was used from one day to another.
type Report struct {
	From     string   `json:"from"` // dates of UTC, both included
	To       string   `json:"to"`
	Currency string   `json:"currency,omitempty"`
	Days     []Line   `json:"days"`     // by date and service
	Services []Line   `json:"services"` // of all days
	Total    Line     `json:"total"`
	Unpriced []string `json:"unpriced,omitempty"` // services that used GPUs which have no price: their cost is too low
	Damaged  []string `json:"damaged,omitempty"`  // days of which something was lost
}

// Of makes the report. Without prices there are no costs.
func Of(u client.Usage, p *Prices, from, to string) Report {
	r := Report{From: from, To: to, Days: []Line{}, Services: []Line{}, Damaged: u.Damaged}
	if p != nil {
		r.Currency = p.Currency
	}
	byService := map[string]*Line{}
	for _, row := range u.Rows {
		name := row.Namespace + "/" + row.Service
		l, priced := lineOf(row, p)
		if !priced && !slices.Contains(r.Unpriced, name) {
			r.Unpriced = append(r.Unpriced, name)
		}
		sum := byService[name]
		if sum == nil {
			sum = &Line{Namespace: row.Namespace, Service: row.Service}
			byService[name] = sum
		}
		sum.add(l)
		r.Total.add(l)
		l.share(p != nil)
		r.Days = append(r.Days, l)
	}
	for _, l := range byService {
		l.share(p != nil)
		r.Services = append(r.Services, *l)
	}
	r.Total.share(p != nil)
	slices.SortFunc(r.Services, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service))
	})
	return r
}

// lineOf is a row with what it is compared with; priced is whether all that it
// used has a price.
func lineOf(row client.UsageRow, p *Prices) (l Line, priced bool) {
	l = Line{Date: row.Date, Namespace: row.Namespace, Service: row.Service, Peak: row.Peak}
	perPod := 0.0 // GPUs
	if row.DeclaredSeconds > 0 {
		perPod = row.DeclaredGPUSeconds / row.DeclaredSeconds
	}
	pods := func(seconds float64) Amount { return Amount{PodSeconds: seconds, GPUSeconds: seconds * perPod} }
	l.Used = Amount{PodSeconds: row.PodSeconds, GPUSeconds: row.GPUSeconds}
	l.One = pods(row.DeclaredSeconds)
	l.Most = pods(row.DeclaredSeconds * float64(max(1, row.Peak)))
	l.Floors = pods(row.FloorSeconds)
	l.AllDay = pods(row.DeclaredSeconds * float64(row.PeakFloor))
	if p == nil {
		return l, true
	}
	pod, gpu, ok := p.of(row.Namespace + "/" + row.Service)
	for _, a := range []*Amount{&l.Used, &l.One, &l.Most, &l.Floors, &l.AllDay} {
		a.Cost = (a.PodSeconds*pod + a.GPUSeconds*gpu) / 3600
	}
	return l, ok || l.Used.GPUSeconds == 0 && l.Most.GPUSeconds == 0
}

func (l *Line) add(o Line) {
	l.Used.add(o.Used)
	l.One.add(o.One)
	l.Most.add(o.Most)
	l.Floors.add(o.Floors)
	l.AllDay.add(o.AllDay)
	l.Peak = max(l.Peak, o.Peak)
}

// share fills in what was saved.
func (l *Line) share(priced bool) {
	of := l.Most.by(priced)
	part := func(always Amount) *float64 {
		if of(always) <= 0 {
			return nil
		}
		return new(1 - of(l.Used)/of(always))
	}
	l.Saved, l.SavedAtPeak = part(l.One), part(l.Most)
}

// by is what amounts are compared by.
func (a Amount) by(priced bool) func(Amount) float64 {
	switch {
	case priced && a.Cost > 0:
		return func(a Amount) float64 { return a.Cost }
	case a.GPUSeconds > 0:
		return func(a Amount) float64 { return a.GPUSeconds }
	}
	return func(a Amount) float64 { return a.PodSeconds }
}

// Unit is what a report's bars are in, and how much of it an amount is.
func (r Report) Unit() (string, func(Amount) float64) {
	of := r.Total.Most.by(r.Currency != "")
	switch {
	case r.Currency != "" && r.Total.Most.Cost > 0:
		return r.Currency, of
	case r.Total.Most.GPUSeconds > 0:
		return "GPU-hours", func(a Amount) float64 { return of(a) / 3600 }
	}
	return "pod-hours", func(a Amount) float64 { return of(a) / 3600 }
}

// Title says of which days a report is.
func (r Report) Title() string {
	if r.From == r.To {
		return fmt.Sprintf("What services used on %s (UTC)", r.From)
	}
	return fmt.Sprintf("What services used from %s to %s (UTC)", r.From, r.To)
}
