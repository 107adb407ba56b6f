package classify

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"aisle.dev/aisle/internal/problem"
)

// slots bound what is inside at once: a request takes one, and one more for
// each inference that it wants at the same time.
type slots struct {
	size int64
	used atomic.Int64
}

// take takes n slots or none. Its error is a 503 to be retried.
func (s *slots) take(n int) error {
	for used := s.used.Load(); used+int64(n) <= s.size; used = s.used.Load() {
		if s.used.CompareAndSwap(used, used+int64(n)) {
			return nil
		}
	}
	return &problem.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second,
		Detail: fmt.Sprintf("the classifier is full: %d requests are inside at most", s.size)}
}

func (s *slots) give(n int) { s.used.Add(-int64(n)) }

// share is how many slots one request may have, so that others are answered
// beside it.
func (s *slots) share() int { return int(max(1, s.size/2)) }
