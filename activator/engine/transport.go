package engine

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// idlePod is how long an unused connection to a pod is kept: less than the
// five seconds after which Node's and Python's usual servers close theirs, so
// that no request is sent into a connection that is being closed.
const idlePod = 4 * time.Second

func newTransport(h2c bool) *http.Transport {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     idlePod,
		ReadBufferSize:      16 << 10,
		WriteBufferSize:     16 << 10,
		Protocols:           new(http.Protocols),
	}
	t.Protocols.SetHTTP1(!h2c)
	t.Protocols.SetUnencryptedHTTP2(h2c)
	return t
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// bufferPool lends ReverseProxy the buffers for copying bodies.
type bufferPool struct{}

func (bufferPool) Get() []byte  { return buffers.Get().(*[32 << 10]byte)[:] }
func (bufferPool) Put(b []byte) { buffers.Put((*[32 << 10]byte)(b)) }
