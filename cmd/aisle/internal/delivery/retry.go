package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The waits between attempts: doubled from first, never above longest.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 30 * time.Second
)

// exchange makes attempts until one succeeds, fails for good, or is the last.
func (p *Poster) exchange(ctx context.Context, header http.Header, body []byte) reply {
	for attempt := 1; ; attempt++ {
		r, again, after := p.once(ctx, header, body)
		r.attempts = attempt
		if !again {
			return r
		}
		if p.Attempts > 0 && attempt >= p.Attempts {
			if attempt > 1 {
				r.err = fmt.Errorf("%w (after %d attempts)", r.err, attempt)
			}
			return r
		}
		wait := time.NewTimer(Wait(attempt, after, rand.Float64()))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			last := r.err
			r.err = p.ended(ctx)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				r.err = fmt.Errorf("%w; the last attempt: %w", r.err, last)
			}
			return r
		}
	}
}

// Wait returns how long to wait after the attempt that failed (1 is the
// first). What the service asked for is the least; jitter in [0, 1) spreads
// callers that failed together.
func Wait(attempt int, after time.Duration, jitter float64) time.Duration {
	spread := min(longestWait, firstWait<<min(attempt-1, 20))
	return min(longestWait, max(after, spread/4)+time.Duration(jitter*float64(spread)))
}

// RetryAfter reads the header of that name: seconds, or a date (RFC 9110,
// section 10.2.3). What cannot be read, or is past, is 0.
func RetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if s, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
