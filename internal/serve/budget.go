package serve

import (
	"context"
	"net/http"

	"golang.org/x/sync/semaphore"
)

// smallBody is what an announced body may have without waiting for room: it
// must not stand behind large ones, and how many of them there are at once is
// bounded by other means.
const smallBody = 128 << 10

// Budget bounds the bytes of the request bodies that are held at the same
// time, so that many large ones do not fill the memory.
type Budget struct {
	room *semaphore.Weighted
	size int64
}

// NewBudget returns a Budget of size bytes.
func NewBudget(size int64) *Budget {
	return &Budget{room: semaphore.NewWeighted(size), size: size}
}

// Take waits for room for the body of r, and takes it: as many bytes as are
// announced, or max where the length is not known or is that of compressed
// bytes. Its error is ctx's. The caller calls Release in the end.
func (b *Budget) Take(ctx context.Context, r *http.Request, max int64) (*Share, error) {
	n := min(max, b.size)
	if r.ContentLength >= 0 && r.Header.Get("Content-Encoding") == "" {
		if n = min(n, r.ContentLength); n <= smallBody {
			return &Share{}, nil
		}
	}
	if err := b.room.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return &Share{room: b.room, n: n}, nil
}

// Hold waits for room for n bytes that were read already, and takes it, as Take
// does for a body.
func (b *Budget) Hold(ctx context.Context, n int64) (*Share, error) {
	if n = min(n, b.size); n <= smallBody {
		return &Share{}, nil
	}
	if err := b.room.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return &Share{room: b.room, n: n}, nil
}

// Share is one body's part of a Budget. It is not for concurrent use.
type Share struct {
	room *semaphore.Weighted // nil: nothing was taken
	n    int64
}

// Keep gives back what a body of n bytes does not need.
func (s *Share) Keep(n int) {
	if left := s.n - int64(n); s.room != nil && left > 0 {
		s.room.Release(left)
		s.n = int64(n)
	}
}

// Release gives all back. A second one does nothing.
func (s *Share) Release() { s.Keep(0) }
