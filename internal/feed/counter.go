package feed

import (
	"io"
	"sync/atomic"
)

// counter counts what is read of the file, for progress: another goroutine
// may ask while the reader reads.
type counter struct {
	r io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
