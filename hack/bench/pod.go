package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// pod is a server of this program's own, alone on a free port of loopback.
type pod struct {
	cmd     *exec.Cmd
	address string
	readyMs float64            // from exec until it said or answered that it is ready
	phases  map[string]float64 // of a classifier's start, in ms since its main began
	done    chan error
}

// startClassifier runs bin/classifier on a package, and waits until it says in
// its log that it is ready.
func startClassifier(ctx context.Context, dir string, env ...string) (*pod, error) {
	p, err := freePort()
	if err != nil {
		return nil, err
	}
	p.cmd = exec.CommandContext(ctx, "bin/classifier")
	_, port, _ := net.SplitHostPort(p.address)
	p.cmd.Env = append([]string{"MODEL=" + dir, "HOST=127.0.0.1", "PORT=" + port}, env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := p.start(); err != nil {
		return nil, fmt.Errorf("start bin/classifier (make build first): %w", err)
	}
	lines := bufio.NewScanner(stderr)
	var said strings.Builder
	for lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		var entry map[string]any
		if json.Unmarshal(lines.Bytes(), &entry) != nil || entry["msg"] != "ready" {
			continue
		}
		p.readyMs = float64(time.Since(start).Microseconds()) / 1000
		p.phases = make(map[string]float64)
		for k, v := range entry {
			if name, is := strings.CutSuffix(k, "Ms"); is {
				p.phases[name], _ = v.(float64)
			}
		}
		go func() {
			_, _ = io.Copy(io.Discard, stderr)
			p.done <- p.cmd.Wait()
		}()
		return p, nil
	}
	return nil, errors.Join(fmt.Errorf("bin/classifier did not get ready: %s", said.String()), p.cmd.Wait())
}

// startServer runs a server that is ready when GET /readyz says 200.
func startServer(ctx context.Context, env []string, command func(port string) []string) (*pod, error) {
	p, err := freePort()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(p.address)
	args := command(port)
	p.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	p.cmd.Env = env
	var said strings.Builder
	p.cmd.Stderr = &said
	if err := p.start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	err = until(ctx, time.Minute, func() (bool, error) {
		resp, err := client.Get("http://" + p.address + "/readyz")
		if err != nil {
			return false, nil
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s did not get ready: %w", args[0], err), p.stop(), errors.New(said.String()))
	}
	return p, nil
}

func freePort() (*pod, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &pod{address: l.Addr().String(), done: make(chan error, 1)}, l.Close()
}

func (p *pod) start() error {
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 20 * time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return p.cmd.Start()
}

// stop ends the server and waits for it. That it ended by our signal is no
// error.
func (p *pod) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended; Wait tells
	err := <-p.done
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return nil
	}
	return err
}
