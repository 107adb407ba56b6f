package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"aisle.dev/aisle/internal/client"
)

// running is an `aisle up` of this program's own, on a free port.
type running struct {
	*client.Engine
	cmd     *exec.Cmd
	address string
	dir     string
	state   string   // its data directory
	flags   []string // of aisle up
	stderr  bytes.Buffer
	http    *http.Client
}

// up starts an engine with a fresh data directory and waits until it serves.
func up(ctx context.Context) (*running, error) {
	dir, err := os.MkdirTemp("", "aisle-bench-")
	if err != nil {
		return nil, err
	}
	r := newRunning(dir)
	r.dir = dir
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return r, nil
}

// newRunning is an engine that is to be started, with a data directory and
// flags of aisle up.
func newRunning(state string, flags ...string) *running {
	return &running{Engine: client.NewEngine(state), state: state, flags: flags}
}

func (r *running) start(ctx context.Context) error {
	r.cmd = exec.CommandContext(ctx, "bin/aisle", append([]string{"up", "--addr", "127.0.0.1:0", "--data-dir", r.state}, r.flags...)...)
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(syscall.SIGTERM) }
	r.cmd.WaitDelay = 20 * time.Second
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	r.cmd.Stderr = &r.stderr
	if err := r.cmd.Start(); err != nil {
		return fmt.Errorf("start bin/aisle (make build first): %w", err)
	}
	err := until(ctx, 20*time.Second, func() (bool, error) {
		v, err := r.Version(ctx)
		r.address = v.Address
		return err == nil && v.Address != "", nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("aisle up did not serve: %w\n%s", err, r.stderr.String()), r.stop())
	}
	r.http = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: inFlight,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.address)
		},
	}, Timeout: time.Minute}
	return nil
}

// stop ends the engine and waits for it; its data directory stays.
func (r *running) stop() error {
	if r.http != nil {
		r.http.CloseIdleConnections()
	}
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return r.cmd.Wait()
}

// withEngine measures something of one engine, and ends it.
func withEngine(ctx context.Context, measure func(*running) ([]row, error)) ([]row, error) {
	r, err := up(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := measure(r)
	return rows, errors.Join(err, r.stop(), os.RemoveAll(r.dir))
}

// url is a service's URL by name; the client above dials the engine for it.
func (r *running) url(service, path string) string {
	return "http://" + service + ".default.localhost" + path
}

// atZero waits until no pod is left.
func (r *running) atZero(ctx context.Context) error {
	return until(ctx, 2*time.Minute, func() (bool, error) {
		pods, err := r.Pods(ctx)
		return len(pods) == 0, err
	})
}

// until asks often whether something holds.
func until(ctx context.Context, limit time.Duration, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// post sends one JSON body and returns how long the whole answer took, in
// milliseconds, and the answer.
func post(ctx context.Context, c *http.Client, url, host string, body []byte) (ms float64, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if host != "" {
		req.Host = host
	}
	req.Header.Set("Content-Type", "application/json")
	start := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	ms = float64(time.Since(start).Microseconds()) / 1000
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", url, resp.Status, strings.TrimSpace(string(answer)))
	}
	return ms, answer, err
}
