package pod

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Probe says when a pod is ready. Its zero value is a TCP probe: ready when
// the port accepts a connection.
type Probe struct {
	HTTP    bool        // GET Path must answer 200-399
	Path    string      // with HTTP: begins with a slash
	Host    string      // with HTTP: the Host header; empty means the pod's address
	Header  http.Header // with HTTP: further headers
	Delay   time.Duration
	Timeout time.Duration // of one attempt; 0 means a second
	Success int           // passes in a row; 0 means 1
}

// How long is waited between attempts: a small part of what the start has
// taken so far, so that a pod that is up after 40 ms is seen a millisecond
// later and one that takes ten seconds costs no processor that it needs
// itself.
const (
	minPause   = time.Millisecond
	maxPause   = 100 * time.Millisecond
	pauseShare = 32
)

// Wait returns nil once the pod at addr is ready. When ctx ends first, its
// error says what the last attempt found, and wraps ctx's cause.
func (p Probe) Wait(ctx context.Context, addr string) error {
	start := time.Now()
	pause := time.NewTimer(p.Delay)
	defer pause.Stop()
	last := errors.New("not probed yet")
	for passed := 0; ; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the last readiness probe: %w", context.Cause(ctx), last)
		case <-pause.C:
		}
		if err := p.once(ctx, addr); err != nil {
			passed = 0
			if ctx.Err() == nil { // a probe that was cut short has found nothing
				last = err
			}
		} else if passed++; passed >= p.Success {
			return nil
		}
		pause.Reset(min(max((time.Since(start)-p.Delay)/pauseShare, minPause), maxPause))
	}
}

// once is one attempt. Until the port listens it costs one refused connect;
// HTTP is spoken over the connection that succeeds.
func (p Probe) once(ctx context.Context, addr string) error {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens on %s", addr)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if !p.HTTP {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+p.Path, nil)
	if err != nil {
		return err
	}
	for k, v := range p.Header {
		req.Header[k] = v
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "kube-probe/aisle")
	}
	req.Host, req.Close = p.Host, true
	if err := req.Write(conn); err != nil {
		return fmt.Errorf("GET %s: %w", p.Path, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, 64<<10)), req)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("GET %s: no answer within %s", p.Path, timeout)
		}
		return fmt.Errorf("GET %s: %w", p.Path, err)
	}
	_ = resp.Body.Close() // the answer's status is all that is asked
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("GET %s answered %s", p.Path, resp.Status)
	}
	return nil
}
