package broker

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/rickb777/date/period"
	duckv1 "knative.dev/eventing/pkg/apis/duck/v1"
)

const (
	// attemptTimeout bounds an attempt where the delivery spec does not:
	// Knative sets none, and a subscriber that never answers would hold its
	// place for ever. It is a Knative Service's own default.
	attemptTimeout = 5 * time.Minute

	// maxBackoff bounds the wait for an attempt, and so what exponents yield.
	maxBackoff = 24 * time.Hour
)

// policy is a delivery spec, read.
type policy struct {
	retries       int
	exponential   bool
	delay         time.Duration
	timeout       time.Duration // of one attempt
	retryAfterMax time.Duration // 0: Retry-After is not looked at
	structured    bool
}

// newPolicy reads a delivery spec; nil means no retries, as in Knative.
func newPolicy(d *duckv1.DeliverySpec) (policy, error) {
	p := policy{timeout: attemptTimeout}
	if d == nil {
		return p, nil
	}
	if d.Retry != nil {
		p.retries = int(*d.Retry)
	}
	p.exponential = d.BackoffPolicy != nil && *d.BackoffPolicy == duckv1.BackoffPolicyExponential
	p.structured = d.Format != nil && *d.Format == duckv1.DeliveryFormatJson
	var errs []error
	read := func(name string, s *string, max time.Duration) time.Duration {
		if s == nil {
			return 0
		}
		v, err := period.Parse(*s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %.40q is not an ISO 8601 duration: %w", name, *s, err))
			return 0
		}
		length, _ := v.Duration() // inexact for months alone
		if length < 0 || length > max {
			errs = append(errs, fmt.Errorf("%s %.40q is not between 0 and %v", name, *s, max))
		}
		return length
	}
	if delay := read("backoffDelay", d.BackoffDelay, maxBackoff); d.BackoffPolicy != nil { // Knative wants both
		p.delay = delay
	}
	p.timeout = cmp.Or(read("timeout", d.Timeout, maxBackoff), attemptTimeout)
	p.retryAfterMax = read("retryAfterMax", d.RetryAfterMax, maxBackoff)
	return p, errors.Join(errs...)
}

// outcome is what came of one attempt.
type outcome struct {
	status     int // HTTP status; 0 where there was no answer
	retryAfter time.Duration
	data       []byte // the beginning of the answer's body, of a failure
	closed     bool   // the subscriber says that it is closed by schedule
	err        error  // nil: delivered
}

// verdict is what to do after a failed attempt.
type verdict struct {
	dead bool          // give up
	wait time.Duration // before the next attempt
}

// after decides what follows a failed attempt, the attempt-th of its event,
// counted from 1: Knative's rules, kncloudevents.SelectiveRetry and its
// back-off, which counts retries from 0.
func (p policy) after(attempt int, o outcome) verdict {
	if attempt > p.retries || !retriable(o.status) {
		return verdict{dead: true}
	}
	wait := float64(p.delay)
	if p.exponential {
		wait *= math.Exp2(float64(min(attempt-1, 62))) // beyond it maxBackoff holds, and no delay at all stays none
	} else {
		wait *= float64(attempt - 1)
	}
	v := verdict{wait: time.Duration(min(wait, float64(maxBackoff)))}
	if o.status == http.StatusTooManyRequests || o.status == http.StatusServiceUnavailable {
		v.wait = max(v.wait, min(o.retryAfter, p.retryAfterMax))
	}
	return v
}

// maxUnstored bounds the wait for an attempt whose outcome could not be stored.
const maxUnstored = 5 * time.Minute

// unstoredWait is the wait after the attempt-th attempt of an event where what
// came of it could not be stored: the subscriber did its work for nothing, and
// would again. It doubles, and chance, from 0 to 1, takes up to half of it, so
// that not all events come back at once.
func unstoredWait(attempt int, chance float64) time.Duration {
	wait := min(float64(ownRetry)*math.Exp2(float64(min(attempt-1, 62))), float64(maxUnstored))
	return time.Duration(wait * (1 - chance/2))
}

// retriable says whether an answer may be another one later. 404 is: a service
// that is being set up says it. So is 421, which Knative gives up at: the
// engine says it of a service that is not there, where a cluster's name would
// not resolve.
func retriable(status int) bool {
	switch status {
	case 0, http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusMisdirectedRequest, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// retryAfter reads a Retry-After header; 0 if there is none that says a time to
// come.
func retryAfter(h http.Header, now time.Time) time.Duration {
	s := h.Get("Retry-After")
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return time.Duration(max(n, 0)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
