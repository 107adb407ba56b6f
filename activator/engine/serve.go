// Package engine runs Knative Services on one machine without a cluster: a
// revision's pods are operating-system processes, started when a request
// waits for one and stopped when Knative's autoscaler says so.
//
// Guarantees:
//
//   - A request for a service at zero is held, within bounds, and answered once
//     a pod is ready; it is never lost to a pod that was just told to stop.
//
//   - What was started is stopped: by a normal end of Run, and by the kernel or
//     the next engine after an abrupt one.
//
//   - At zero, without requests, nothing runs: no ticker, no timer, no probe.
//
//   - One engine at a time uses a data directory, and all that it remembers is
//     there.
//
//   - A new revision of a service gets requests once it has been ready, and
//     one that never is leaves the one before serving and says why.
//
//   - What is applied is on disk when the answer says so: a killed engine's
//     successor has the same revisions, routes and roll-outs.
//
// Non-goals: isolation of pods from each other (they are processes of one
// user), and what a folder says after the engine has read it.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/resident"
	"aisle.dev/aisle/internal/client"
)

func listenAdmin(dataDir string) (net.Listener, error) {
	path := filepath.Join(dataDir, client.SocketName)
	if len(path) > 107 { // sun_path of unix(7)
		return nil, fmt.Errorf("the admin socket's path %s is longer than the system's 107 bytes; choose a shorter --data-dir", path)
	}
	// We hold the lock: a socket that is there is that of a killed engine.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the admin socket of an earlier engine: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("make the admin socket its owner's only: %w", err)
	}
	return l, nil
}

// maxHeader bounds a request's header.
const maxHeader = 64 << 10

// serve runs the servers and the revisions until ctx ends or a server fails.
// Remote is where the admin API is served to tokens; nil: nowhere.
func (e *Engine) serve(ctx context.Context, listener, socket, remote net.Listener) error {
	errorLog := slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)
	front := &http.Server{
		Handler:           e.newProxy(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		Protocols:         new(http.Protocols),
		ErrorLog:          errorLog,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	front.Protocols.SetHTTP1(true)
	front.Protocols.SetUnencryptedHTTP2(true)
	admin := e.admin()
	back := &http.Server{Handler: admin, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: maxHeader, ErrorLog: errorLog, ConnContext: access.Peer}
	far := e.remoteServer(admin, errorLog)

	if err := e.control.start(); err != nil {
		e.log.Error("it starts with objects that the disk does not have", "err", err)
	}
	if err := e.control.startEvents(); err != nil {
		e.control.stop()
		return errors.Join(err, e.events.close())
	}
	if err := e.forgetLogs(e.control.store); err != nil {
		e.log.Warn("logs of earlier revisions stay", "err", err)
	}
	var servers sync.WaitGroup
	failed := make(chan error, 3)
	for _, s := range []struct {
		*http.Server
		net.Listener
	}{{front, listener}, {back, socket}, {far, remote}} {
		if s.Listener == nil {
			continue
		}
		servers.Go(func() {
			if err := s.Server.Serve(s.Listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	e.log.Info("engine started", "address", e.version.Address, "services", len(e.control.services), "dataDir", e.opts.DataDir)
	if e.opts.Started != nil {
		e.opts.Started(e.version)
	}
	e.busy(0)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve requests: %w", err)
	}
	e.log.Info("engine stopping")
	close(e.stopping)
	// 1. No event is accepted any more, and no delivery begins; those under way
	//    get a moment. What is left is in the store.
	e.events.rest()
	// 2. No new connection; the requests at hand go on. Their answers close
	//    their connections.
	shut, hard := context.WithCancel(context.WithoutCancel(ctx))
	defer hard()
	servers.Go(func() { _ = front.Shutdown(shut) }) // what it cannot end is closed below
	// 3. Requests that wait are refused; pods drain, are told SIGTERM, and after
	//    their grace SIGKILL. Hurry skips the waiting.
	e.control.stop()
	// 4. No pod is left that could answer. What is answered already gets a
	//    moment to reach its caller; what is then still connected is closed.
	last, enough := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	_ = front.Shutdown(last) // what is left is closed below
	enough()
	hard()
	_ = front.Close()
	_ = back.Close()
	_ = far.Close()
	servers.Wait()
	err = errors.Join(err, e.events.close())
	// 5. Nothing is awake any more, nor will be.
	e.mu.Lock()
	if e.resign != nil {
		e.resign.Stop()
	}
	e.mu.Unlock()
	e.log.Info("engine stopped")
	return err
}

// lastWords is how long answers may take to reach their callers once no pod is
// left.
const lastWords = time.Second

// settle is how long nothing must have happened before memory is given back.
const settle = 3 * time.Second

// busy counts the revisions that are awake. When the last one has come to
// rest, the memory that requests and the start took is given back to the system:
// an idle engine's cost is its resident memory.
func (e *Engine) busy(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.awake += n
	if e.resign != nil {
		e.resign.Stop()
		e.resign = nil
	}
	if e.awake == 0 {
		e.resign = time.AfterFunc(settle, func() {
			if err := resident.Release(); err != nil {
				e.log.Warn("an idle engine takes more memory than it needs", "err", err)
			}
		})
	}
}
