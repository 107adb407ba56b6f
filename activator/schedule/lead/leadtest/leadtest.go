// Package leadtest simulates a service that opens by a schedule with readyBy,
// whose pods take times with heavy tails to get ready: how often they are ready
// in time, and how long they wait. It is for the test that holds the promise and
// the bench that prints it; no time passes, and equal seeds give equal answers.
package leadtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/activator/schedule/lead"
	"aisle.dev/aisle/internal/scaling"
)

// Distribution is how long pods take to get ready.
type Distribution struct {
	Name string
	Draw func(*rand.Rand) time.Duration
}

// Distributions have heavy tails: a hundredth of the starts takes many times the
// median.
var Distributions = []Distribution{
	{Name: "lognormal(20s, 0.8)", Draw: func(r *rand.Rand) time.Duration {
		return seconds(20 * math.Exp(0.8*r.NormFloat64()))
	}},
	{Name: "pareto(10s, 2.5)", Draw: func(r *rand.Rand) time.Duration {
		return seconds(10 * math.Pow(1-r.Float64(), -1/2.5))
	}},
	// One start of ten needs a new node.
	{Name: "warm or new node", Draw: func(r *rand.Rand) time.Duration {
		if r.IntN(10) == 0 {
			return seconds(90 * math.Exp(0.4*r.NormFloat64()))
		}
		return seconds(8 * math.Exp(0.3*r.NormFloat64()))
	}},
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Result is what came of some openings.
type Result struct {
	Openings int
	InTime   float64       // share of the openings at which the pod was ready
	Waste    float64       // mean time that pods were ready before, in units of P95
	P95      time.Duration // of the distribution itself
}

// Openings lets a service open on n days, one pod each, and learn from each.
// The first goes by a declared lead time, the 90th percentile: somebody's guess.
func Openings(d Distribution, n int, seed uint64) Result {
	r := rand.New(rand.NewPCG(seed, 1))
	truth := make([]time.Duration, 20_000)
	for i := range truth {
		truth[i] = d.Draw(r)
	}
	slices.Sort(truth)
	res := Result{Openings: n, P95: truth[len(truth)*95/100]}

	spec := &scaling.Spec{Service: "title", ReadyBy: true, Windows: []scaling.Window{{
		Start: "08:00", End: "18:00", Hold: scaling.Hold{Floor: new(int32(1))}}}}
	office, err := schedule.Compile("office", spec)
	if err != nil {
		panic(fmt.Sprintf("leadtest: %v", err)) // it is written above
	}
	all := []*schedule.Schedule{office}
	var book lead.Book
	inTime, waste := 0, time.Duration(0)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range n {
		opening := now.Truncate(24 * time.Hour).Add(8 * time.Hour)
		learned, sample := book.P95("title", "title-00001", now)
		if sample == 0 {
			learned = truth[len(truth)*9/10]
		}
		_, raised := schedule.At(schedule.Base{}, learned, all, now)
		took := d.Draw(r)
		ready := raised.Add(took)
		if !ready.After(opening) {
			inTime++
			waste += opening.Sub(ready)
		}
		book.Observe("title", "title-00001", took, ready)
		now = now.Add(24 * time.Hour)
	}
	res.InTime = float64(inTime) / float64(n)
	res.Waste = float64(waste) / float64(n) / float64(res.P95)
	return res
}
