package serve_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/serve"
)

// pipes is a listener without a network, so that time in a bubble passes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// hostile runs f in a bubble against a server that echoes bodies.
func hostile(t *testing.T, f func(t *testing.T, dial func() net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		ln, served := newPipes(), make(chan error, 1)
		go func() {
			served <- serve.Run(ctx, serve.Options{Listener: ln, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				data, err := serve.ReadBody(w, r, 1<<20)
				if err != nil {
					problem.Write(w, err)
					return
				}
				_, _ = w.Write(data)
			})})
		}()
		f(t, ln.dial)
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func answered(t *testing.T, dial func() net.Conn) {
	t.Helper()
	conn := dial()
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi") }()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "hi" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

// Connections that say nothing, or a header byte by byte, are given up after
// the time that a header may take; others are answered meanwhile.
func TestSilentConnections(t *testing.T) {
	for name, tt := range map[string]struct {
		first, again string
		many         int
	}{
		"silent":               {"", "", 10_000},
		"header byte by byte":  {"POST / HTTP/1.1\r\nX-", "a", 100},
		"half of a request":    {"POST / HT", "", 100},
		"HTTP/2's preface":     {"PRI * HTTP/2.0\r\n\r\nSM", "", 100},
		"no more than a space": {" ", "", 100},
	} {
		t.Run(name, func(t *testing.T) {
			hostile(t, func(t *testing.T, dial func() net.Conn) {
				began := time.Now()
				var longest atomic.Int64
				var wg sync.WaitGroup
				for range tt.many {
					conn := dial()
					wg.Go(func() {
						_, err := io.WriteString(conn, tt.first)
						for err == nil && tt.again != "" {
							time.Sleep(time.Second)
							_, err = io.WriteString(conn, tt.again)
						}
					})
					wg.Go(func() {
						_, _ = io.Copy(io.Discard, conn) // until it is closed
						conn.Close()
						for took := int64(time.Since(began)); ; {
							if old := longest.Load(); old >= took || longest.CompareAndSwap(old, took) {
								return
							}
						}
					})
				}
				answered(t, dial)
				wg.Wait()
				if took := time.Duration(longest.Load()); took > 11*time.Second {
					t.Errorf("the last was held for %s", took)
				}
				answered(t, dial)
			})
		})
	}
}

// A body that trickles is a 408 after its time, on HTTP/1.1 and HTTP/2 alike.
func TestTricklingBody(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			hostile(t, func(t *testing.T, dial func() net.Conn) {
				tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(), nil }}
				tr.Protocols.SetHTTP1(!h2)
				tr.Protocols.SetUnencryptedHTTP2(h2)
				defer tr.CloseIdleConnections()
				began := time.Now()
				r, w := io.Pipe()
				var trickle sync.WaitGroup
				defer trickle.Wait()
				trickle.Go(func() {
					var err error
					for err == nil {
						_, err = io.WriteString(w, "x")
						time.Sleep(time.Second)
					}
				})
				req, err := http.NewRequest("POST", "http://a/", r)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := (&http.Client{Transport: tr}).Do(req)
				took := time.Since(began)
				// An HTTP/1.1 client that is still sending may see the connection's
				// end before the answer.
				if err == nil {
					body, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(body), "in time") {
						t.Errorf("%d %s", resp.StatusCode, body)
					}
				} else if h2 {
					t.Error(err)
				}
				r.CloseWithError(errors.New("answered"))
				if took < 25*time.Second || took > 40*time.Second {
					t.Errorf("given up after %s", took)
				}
				answered(t, dial)
			})
		})
	}
}

// Streams of one HTTP/2 connection are bounded: more wait at the client.
func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inside, most atomic.Int64
		release := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		ln, served := newPipes(), make(chan error, 1)
		go func() {
			served <- serve.Run(ctx, serve.Options{Listener: ln, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				n := inside.Add(1)
				defer inside.Add(-1)
				if n > most.Load() {
					most.Store(n)
				}
				<-release
			})})
		}()
		var dials atomic.Int64
		tr := &http.Transport{Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true},
			DialContext: func(context.Context, string, string) (net.Conn, error) { dials.Add(1); return ln.dial(), nil }}
		tr.Protocols.SetUnencryptedHTTP2(true)
		var wg sync.WaitGroup
		for range 400 {
			wg.Go(func() {
				resp, err := (&http.Client{Transport: tr}).Get("http://a/")
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
		}
		synctest.Wait()
		if n, conns := inside.Load(), dials.Load(); n > 256*conns {
			t.Errorf("%d streams are inside on %d connections", n, conns)
		}
		close(release)
		wg.Wait()
		tr.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
