package client

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"time"
)

// Usage is what services used, by day.
type Usage struct {
	Rows []UsageRow `json:"rows"` // by date, namespace and service
	// Damaged are the days of which something was kept in a file that could not
	// be read: their rows are too low.
	Damaged []string `json:"damaged,omitempty"`
}

// UsageRow is what a service used on a day of UTC.
type UsageRow struct {
	Date      string `json:"date"` // 2026-11-23
	Namespace string `json:"namespace"`
	Service   string `json:"service"`

	PodSeconds float64 `json:"podSeconds"` // that its pods ran, together
	GPUSeconds float64 `json:"gpuSeconds"` // that they held GPUs, together

	// DeclaredSeconds is for how long it was there to be asked, and
	// DeclaredGPUSeconds the same, times the GPUs of a pod: what one pod would
	// have used that is always on.
	DeclaredSeconds    float64 `json:"declaredSeconds"`
	DeclaredGPUSeconds float64 `json:"declaredGpuSeconds"`
	Peak               int     `json:"peak"` // the most pods that took requests at once

	// FloorSeconds is its floor times how long that held, PeakFloor the highest.
	FloorSeconds float64 `json:"floorSeconds"`
	PeakFloor    int     `json:"peakFloor"`
}

// Sort puts the rows in their order.
func (u *Usage) Sort() {
	slices.SortFunc(u.Rows, func(a, b UsageRow) int {
		return cmp.Or(cmp.Compare(a.Date, b.Date), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service))
	})
}

// Usage asks what services used on the days of UTC from one to another, both
// included. They are named as NAMESPACE/NAME; without any it is all.
func (e *Engine) Usage(ctx context.Context, from, to time.Time, services ...string) (Usage, error) {
	q := url.Values{"from": {from.Format(time.DateOnly)}, "to": {to.Format(time.DateOnly)}, "service": services}
	var u Usage
	err := e.get(ctx, "/v1/usage?"+q.Encode(), &u)
	u.Rows = slices.DeleteFunc(u.Rows, func(r UsageRow) bool { return e.elsewhere(r.Namespace) })
	return u, err
}
