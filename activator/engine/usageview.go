package engine

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"aisle.dev/aisle/activator/engine/usage"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/problem"
)

// maxUsage bounds the rows of an answer about usage.
const maxUsage = 50_000

// usageDays answers what services used on the days from one to another, both
// dates of UTC and both included; without them today's. Names are of services,
// as NAMESPACE/NAME; without any it is all.
func (e *Engine) usageDays(w http.ResponseWriter, req *http.Request) error {
	today := time.Now().UTC().Format(time.DateOnly)
	at := map[string]string{"from": today, "to": today}
	for name := range at {
		v := req.FormValue(name)
		if v == "" {
			continue
		}
		if _, err := time.Parse(time.DateOnly, v); err != nil {
			return problem.New(http.StatusBadRequest, "%s=%.40s is not a date such as %s", name, v, today)
		}
		at[name] = v
	}
	wanted := map[string]bool{}
	for _, name := range req.Form["service"] {
		wanted[name] = true
	}
	answer := client.Usage{Rows: []client.UsageRow{}}
	for d, err := range e.usage.Read(at["from"], at["to"]) {
		if err != nil {
			return err
		}
		if d.Damaged {
			answer.Damaged = append(answer.Damaged, d.Date)
		}
		for service, a := range d.Services {
			if len(wanted) == 0 || wanted[service] {
				answer.Rows = append(answer.Rows, usageRow(d.Date, service, a))
			}
		}
		if len(answer.Rows) > maxUsage {
			return problem.New(http.StatusBadRequest, "that is more than %d services and days; ask for fewer days, or name services", maxUsage)
		}
	}
	answer.Sort()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the caller has gone; there is nobody left to tell
	return nil
}

func usageRow(date, service string, a usage.Amount) client.UsageRow {
	namespace, name, _ := strings.Cut(service, "/")
	return client.UsageRow{
		Date: date, Namespace: namespace, Service: name,
		PodSeconds: a.Pods.Seconds(), GPUSeconds: a.GPUs.Seconds(),
		DeclaredSeconds: a.Declared.Seconds(), DeclaredGPUSeconds: a.DeclaredGPUs.Seconds(), Peak: a.Peak,
		FloorSeconds: a.Floor.Seconds(), PeakFloor: a.PeakFloor,
	}
}
