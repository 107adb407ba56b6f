package main

import (
	"context"
	"fmt"
	"time"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/activator/schedule/lead/leadtest"
	"aisle.dev/aisle/internal/scaling"
)

// schedules is how many there are, of manyServices services.
const schedules = 10_000

// oneChange measures what it costs that one schedule of many changes: it is
// compiled, and its service's bounds and their next change are asked for.
func oneChange(ctx context.Context, b *bench) ([]row, error) {
	office := func(zone string) []scaling.Window {
		if zone == "UTC" {
			return []scaling.Window{{Cron: &scaling.Cron{Start: "0 8 * * 1-5", End: "0 18 * * 1-5"}, Hold: scaling.Hold{Cap: new(int32(4))}}}
		}
		return []scaling.Window{
			{Days: []string{"Mon-Fri"}, Start: "08:00", End: "18:00", Hold: scaling.Hold{Floor: new(int32(2))}},
			{Days: []string{"Sat-Sun"}, Hold: scaling.Hold{Closed: true}}}
	}
	zones := []string{"Europe/Prague", "America/New_York", "UTC", "Asia/Kathmandu"}
	specs := make([]*scaling.Spec, schedules)
	services := make([][]*schedule.Schedule, manyServices)
	for i := range specs {
		zone := zones[i%len(zones)]
		specs[i] = &scaling.Spec{Service: fmt.Sprintf("service-%d", i%manyServices), TimeZone: zone, ReadyBy: i%2 == 0, Windows: office(zone),
			Exceptions: []scaling.Exception{{Dates: []string{"2026-12-24", "2026-12-25"}}}}
		s, err := schedule.Compile(fmt.Sprintf("schedule-%d", i), specs[i])
		if err != nil {
			return nil, err
		}
		services[i%manyServices] = append(services[i%manyServices], s)
	}
	fmt.Fprintf(b.log, "schedules: %d compiled\n", schedules)
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	var took sample
	for i := range specs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		began := time.Now()
		s, err := schedule.Compile(fmt.Sprintf("schedule-%d", i), specs[i])
		if err != nil {
			return nil, err
		}
		of := services[i%manyServices]
		of[i/manyServices] = s
		schedule.At(schedule.Base{Max: 10}, 30*time.Second, of, now.Add(time.Duration(i)*time.Minute))
		took = append(took, float64(time.Since(began))/float64(time.Millisecond))
	}
	return []row{{fmt.Sprintf("one of %d schedules changes, ms", schedules), fmt.Sprintf("%s; p99 %.3g", took, took.quantile(0.99)), "≤ 1"}}, nil
}

// openings simulates services that open by a schedule with readyBy.
func openings(_ context.Context, _ *bench) ([]row, error) {
	var rows []row
	for _, d := range leadtest.Distributions {
		var inTime, waste sample
		for seed := range uint64(20) {
			r := leadtest.Openings(d, 200, seed)
			inTime, waste = append(inTime, 100*r.InTime), append(waste, r.Waste)
		}
		rows = append(rows,
			row{"200 openings ready in time, lead time " + d.Name + ", %", inTime.String(), "≥ 95"},
			row{"pods ready before an opening, in p95 lead times", waste.String(), "≤ 1.5"})
	}
	return rows, nil
}
