package controller

import (
	"fmt"
	"time"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/scaling"
)

// statusOf is what a plan says of one of its schedules, after it was carried
// out, or could not be: then failed says why. Found is what is still held.
func statusOf(s *scaling.ScalingSchedule, p plan, found []scaling.Found, failed error, now time.Time) scaling.Status {
	set := schedule.Set{Bounds: p.bounds, Next: p.next, Lead: p.lead, Rule: p.rule}
	if p.target != nil {
		set.Revision = p.target.Name
	}
	switch err := p.invalid[s.Name]; {
	case err != nil:
		set.Reason, set.Message = "Invalid", err.Error()
	case failed != nil:
		set.Reason, set.Message = "NotSet", failed.Error()
	case p.target == nil:
		set.Reason, set.Message = p.lacks.reason, p.lacks.message
	}
	if p.unmet {
		set.Unenforced = fmt.Sprintf("revision %s began at zero (initial-scale 0) and has no pod: if it never had one, Knative starts none for the floor before its first request; send it one, or leave initial-scale out", p.target.Name)
	}
	if p.bounds.Closed {
		set.Unenforced = "the composer asks nothing of the service, and no floor keeps its pods; but a plain HTTP request still wakes it: nothing in a cluster refuses that"
	}
	st := set.Status(s, now)
	if st.Next != nil { // as the API server keeps it, or each look would differ from it
		st.Next = new(st.Next.Rfc3339Copy())
	}
	st.Found = found
	return st
}
