package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"aisle.dev/aisle/activator/broker/deferral"
	"aisle.dev/aisle/internal/scaling"
)

// arrival is one product that comes to be classified.
type arrival struct {
	at    time.Time
	event bool // through a Broker, which keeps it; else somebody waits for the answer
}

// trace is what comes in three days, and what its owner would declare for it
// without having seen it.
type trace struct {
	name, about string
	generate    func(r *rand.Rand, begin time.Time) []arrival
	schedule    *scaling.Spec // nil: there is nothing that the clock knows
	window      string        // of the schedule, in words, and why it is that one
	// deferred is the schedule beside deferral, and defer the Trigger's
	// annotations.
	deferred *scaling.Spec
	deferBy  map[string]string
	deferWhy string
}

// zone is that of all traces. They begin on a Monday.
const zone = "Europe/Berlin"

const days = 3

func windows(all ...scaling.Window) *scaling.Spec {
	return &scaling.Spec{
		Service: "photo", TimeZone: zone, Windows: all,
		ReadyBy: true, LeadTime: &metav1.Duration{Duration: 10 * time.Second}, // until it is learned
	}
}

var (
	importing = scaling.Window{Start: "02:00", End: "02:10", Hold: scaling.Hold{Floor: new(int32(2))}}
	working   = scaling.Window{Days: []string{"Mon-Fri"}, Start: "08:00", End: "18:00", Hold: scaling.Hold{Floor: new(int32(1))}}
	// unhurried is for a service whose events wait anyway: what is released at
	// once would else be done by as many pods as there may be, each of which
	// stays for the stable window.
	unhurried = scaling.Window{Hold: scaling.Hold{Cap: new(int32(1))}}
)

var traces = []trace{
	{
		name: "nightly",
		about: "An import of 40,000 products every night, begun by the clock at 02:00 and sent at 150 a second once its export is done, 0 to 5 minutes later; " +
			"by day 60 corrections by hand between 07:00 and 19:00. All are events.",
		generate: nightly,
		schedule: windows(importing),
		window:   "floor 2 from 02:00 to 02:10, readyBy: the import's time, with what its export may take and what it takes itself, and 150 a second times what a product takes, 1.2 pods",
		deferBy:  map[string]string{deferral.UntilAnnotation: "02:15 " + zone},
		deferred: windows(unhurried),
		deferWhy: "until 02:15, when the import is there as a whole; corrections are in the catalogue the next morning. Nobody waits, so in place of the floor there is a cap of 1",
	},
	{
		name: "office",
		about: "Editors ask from 08:00 to 18:00 on workdays, 1.5 times a minute with a dip at lunch, and 6 times in the rest of the day: they wait for the answer. " +
			"A feed of supplier changes brings 4 events an hour, day and night.",
		generate: office,
		schedule: windows(working),
		window:   "floor 1 from 08:00 to 18:00, Monday to Friday, readyBy: the office's hours",
		deferBy:  map[string]string{deferral.MaxAgeAnnotation: "4h", deferral.BacklogAnnotation: "100"},
		deferred: windows(working, unhurried),
		deferWhy: "events for 4 hours at most, or until 100 wait. Beside the floor there is a cap of 1",
	},
	{
		name: "bursts",
		about: "Partners send files when they like: 12 a day, of 100 to 4,000 products (median 600) at 20 a second, as events. " +
			"Beside that one request an hour for which somebody waits.",
		generate: bursts,
		window:   "none: nothing of it keeps to the clock, so a schedule would be a guess",
		deferBy:  map[string]string{deferral.MaxAgeAnnotation: "1h", deferral.BacklogAnnotation: "5000"},
		deferred: windows(unhurried),
		deferWhy: "events for an hour at most, or until 5,000 wait, and a cap of 1",
	},
}

// poisson calls add at times of a Poisson process of a rate per hour.
func poisson(r *rand.Rand, from, to time.Time, perHour float64, add func(time.Time)) {
	for t := from; ; {
		t = t.Add(time.Duration(r.ExpFloat64() / perHour * float64(time.Hour)))
		if !t.Before(to) {
			return
		}
		add(t)
	}
}

// hour is a time of a day; a day may have 23 or 25 hours.
func hour(day time.Time, h, m int) time.Time {
	return time.Date(day.Year(), day.Month(), day.Day(), h, m, 0, 0, day.Location())
}

func nightly(r *rand.Rand, begin time.Time) (all []arrival) {
	add := func(at time.Time) { all = append(all, arrival{at, true}) }
	for d := range days {
		day := begin.AddDate(0, 0, d)
		t := hour(day, 2, 0).Add(time.Duration(r.Float64() * float64(5*time.Minute)))
		for range 40_000 {
			t = t.Add(time.Duration(r.ExpFloat64() / 150 * float64(time.Second)))
			add(t)
		}
		poisson(r, hour(day, 7, 0), hour(day, 19, 0), 60.0/12, add)
	}
	return all
}

func office(r *rand.Rand, begin time.Time) (all []arrival) {
	ask := func(at time.Time) { all = append(all, arrival{at, false}) }
	for d := range days {
		day := begin.AddDate(0, 0, d)
		poisson(r, hour(day, 8, 0), hour(day, 12, 0), 100, ask)
		poisson(r, hour(day, 12, 0), hour(day, 13, 0), 40, ask)
		poisson(r, hour(day, 13, 0), hour(day, 18, 0), 92, ask)
		poisson(r, hour(day, 0, 0), hour(day, 8, 0), 3.0/8, ask)
		poisson(r, hour(day, 18, 0), hour(day, 24, 0), 3.0/6, ask)
	}
	poisson(r, begin, begin.AddDate(0, 0, days), 4, func(at time.Time) { all = append(all, arrival{at, true}) })
	return all
}

func bursts(r *rand.Rand, begin time.Time) (all []arrival) {
	end := begin.AddDate(0, 0, days)
	poisson(r, begin, end, 0.5, func(at time.Time) {
		n := int(min(4000, max(100, 600*math.Exp(0.8*r.NormFloat64()))))
		for range n {
			at = at.Add(time.Duration(r.ExpFloat64() / 20 * float64(time.Second)))
			if at.Before(end) {
				all = append(all, arrival{at, true})
			}
		}
	})
	poisson(r, begin, end, 1, func(at time.Time) { all = append(all, arrival{at, false}) })
	return all
}

// arrivals are a trace's, by time.
func (t *trace) arrivals(seed uint64, begin time.Time) []arrival {
	all := t.generate(rand.New(rand.NewPCG(seed, 1)), begin)
	slices.SortStableFunc(all, func(a, b arrival) int { return a.at.Compare(b.at) })
	return all
}

// throughGate are the arrivals for which a gate holds, each with the same
// chance: which products a title leaves unsure does not depend on when they come.
func throughGate(all []arrival, share float64, seed uint64) (woken []arrival) {
	r := rand.New(rand.NewPCG(seed, 3))
	for _, a := range all {
		if r.Float64() < share {
			woken = append(woken, a)
		}
	}
	return woken
}
