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

func (p *Poster) retry(ctx context.Context, once func() (Answer, error, time.Duration)) Answer {
	for attempt := 1; ; attempt++ {
		a, err, after := once()
		a.Attempts = attempt
		if err == nil {
			return a
		}
		if attempt >= p.Attempts {
			a.Err = err
			if attempt > 1 {
				a.Err = fmt.Errorf("%w (after %d attempts)", err, attempt)
			}
			return a
		}
		wait := time.NewTimer(Wait(attempt, after, rand.Float64()))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			a.Err = p.ended(ctx)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				a.Err = fmt.Errorf("%w; the last: %w", a.Err, err)
			}
			return a
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
