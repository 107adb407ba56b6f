package engine

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/internal/problem"
)

// errClosed tells who waits in a lane that the service was closed meanwhile.
var errClosed = errors.New("the service is closed by a schedule")

// closure is a service that takes no requests, by a schedule.
type closure struct {
	service string
	opens   time.Time // zero: that is not known
	now     func() time.Time
}

// maxRetryAfter bounds what a caller is told to wait: a schedule may be changed.
const maxRetryAfter = 24 * time.Hour

// refusal is what a caller is told. A nil closure is one that has just ended.
func (c *closure) refusal() *problem.Error {
	if c == nil {
		return &problem.Error{Status: http.StatusServiceUnavailable, Type: problem.TypeClosed, Detail: "the service was closed by a schedule and has just been opened; try again", RetryAfter: time.Second}
	}
	p := &problem.Error{
		Status: http.StatusServiceUnavailable, Type: problem.TypeClosed, RetryAfter: maxRetryAfter,
		Detail: c.service + " is closed by a schedule; see: aisle get schedules",
	}
	if !c.opens.IsZero() {
		p.Detail = fmt.Sprintf("%s is closed by a schedule until %s; see: aisle get schedules", c.service, c.opens.UTC().Format(time.RFC3339))
		p.RetryAfter = min(max(c.opens.Sub(c.now()), time.Second), maxRetryAfter)
	}
	return p
}

// bound gives the revision bounds from outside; nil: its own hold.
func (r *revision) bound(b *scale.Bounds) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b == r.bounds || b != nil && r.bounds != nil && *b == *r.bounds {
		return
	}
	opened := r.isClosed() && !(b != nil && b.Closed)
	r.bounds, r.rebound = b, true
	if opened {
		r.lane.Accept()
	}
	r.nudge()
}

// isClosed is whether requests count for nothing. REQUIRES: r.mu is held.
func (r *revision) isClosed() bool { return r.bounds != nil && r.bounds.Closed }

// own are the revision's own min-scale and max-scale.
func (r *revision) own() (minScale, maxScale int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next != nil {
		return r.next.Own()
	}
	return r.decider.Own()
}
