package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// callerBody is a request's body; it remembers what went wrong in reading it.
type callerBody struct {
	io.ReadCloser

	mu  sync.Mutex
	err error // guarded by mu
}

func (b *callerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
	}
	return n, err
}

func (b *callerBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// watchCaller cancels a request whose caller hangs up while it waits. net/http
// notices that by itself only once the body has been read, and the body is not
// read before there is a pod to send it to. Of a caller whose body is larger
// than the system's socket buffers, nothing can be noticed before that either.
func watchCaller(conn net.Conn, cancel context.CancelCauseFunc) (stop func()) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return func() {}
	}
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-quit:
				return
			case <-look.C:
			}
			gone := false
			err := raw.Control(func(fd uintptr) {
				info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
				gone = err == nil && info.State != unix.BPF_TCP_ESTABLISHED
			})
			if gone || err != nil {
				cancel(context.Canceled)
				return
			}
		}
	})
	return func() { close(quit); done.Wait() }
}
