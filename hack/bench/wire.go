package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// wire sends prepared HTTP/1.1 requests over kept connections, one at a time
// on each. It reads of an answer only its status and length: what a load
// generator costs is taken from the server that shares its cores.
type wire struct {
	conns []*bufio.ReadWriter
	close func() error
}

// dial opens n connections to address.
func dial(ctx context.Context, address string, n int) (*wire, error) {
	w := &wire{}
	var all []net.Conn
	w.close = func() error {
		var errs []error
		for _, c := range all {
			errs = append(errs, c.Close())
		}
		return errors.Join(errs...)
	}
	for range n {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
		all = append(all, c)
		w.conns = append(w.conns, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriterSize(c, 64<<10)))
	}
	return w, nil
}

// request is a POST of a JSON body, ready for a connection.
func request(address, path string, body []byte) []byte {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, address, len(body))
	return append([]byte(head), body...)
}

// exchange sends a request on connection i and returns the answer's body,
// which must come with 200 and a Content-Length.
func (w *wire) exchange(i int, request []byte) ([]byte, error) {
	c := w.conns[i]
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	if err := c.Flush(); err != nil {
		return nil, err
	}
	status, err := c.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	refused := ""
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
		refused = string(bytes.TrimSpace(status))
	}
	length := -1
	for {
		line, err := c.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, err
			}
		}
	}
	if length < 0 {
		return nil, errors.New("an answer without Content-Length")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, err
	}
	if refused != "" {
		return nil, fmt.Errorf("%s: %.300s", refused, body)
	}
	return body, nil
}

// burst is what a run of requests gave.
type burst struct {
	rate      float64 // answers/s
	latencies sample  // ms
	generator float64 // cores that the generator took
}

// closed keeps every connection busy for a while: each sends its next request
// when the last was answered.
func (w *wire) closed(ctx context.Context, requests [][]byte, last time.Duration) (burst, error) {
	var next atomic.Int64
	each := make([]sample, len(w.conns))
	errs := make([]error, len(w.conns))
	before, start := processor(), time.Now()
	var wg sync.WaitGroup
	for i := range w.conns {
		wg.Go(func() {
			for time.Since(start) < last && errs[i] == nil && ctx.Err() == nil {
				sent := time.Now()
				_, errs[i] = w.exchange(i, requests[int(next.Add(1))%len(requests)])
				each[i] = append(each[i], float64(time.Since(sent).Microseconds())/1000)
			}
		})
	}
	wg.Wait()
	seconds := time.Since(start).Seconds()
	l := burst{generator: (processor() - before).Seconds() / seconds}
	for _, s := range each {
		l.latencies = append(l.latencies, s...)
	}
	l.rate = float64(len(l.latencies)) / seconds
	return l, errors.Join(append(errs, ctx.Err())...)
}

// processor is what this process has used of the processors so far.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
