package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A keeper starts the node's parts and keeps them: they are its children, live
// in its network namespace and die with it.
type keeper struct {
	layout layout
	log    *slog.Logger
	parts  map[string]part
	fork   chan func()    // run by the one thread that is in the namespace and forks
	kept   sync.WaitGroup // one goroutine for each part
	gaveUp chan error     // a part that does not stay up; has room for all
}

const (
	restarts      = 5 // in a row, of a part that ran for less than steady
	steady        = 20 * time.Second
	restartPause  = time.Second
	partGrace     = 5 * time.Second
	nodeReadyTime = 3 * time.Minute
)

// keepNode is the command `node`: it brings the node up, says so with a file,
// and ends it when ctx does. What it leaves then is for sweep.
func keepNode(ctx context.Context, l layout, log *slog.Logger) error {
	if runsContainerd2(l) {
		if err := preferContainerd2(l); err != nil {
			return err
		}
	}
	k := &keeper{layout: l, log: log, parts: parts(l), fork: make(chan func())}
	k.gaveUp = make(chan error, len(k.parts))
	entered := make(chan error)
	forkerDone := make(chan struct{})
	go func() {
		defer close(forkerDone)
		// Never unlocked, so that the thread ends with this goroutine. The
		// parent-death signal is for this thread's death.
		runtime.LockOSThread()
		entered <- enterNetwork(ctx)
		for f := range k.fork {
			f()
		}
	}()
	if err := <-entered; err != nil {
		close(k.fork)
		return err
	}
	// Two lifetimes: each part ends in its turn.
	var stops []func()
	err := k.start(ctx, &stops)
	if err == nil {
		log.Info("node ready")
		if err = writeFile(l.nodeReady(), nil, 0o600); err == nil {
			select {
			case err = <-k.gaveUp:
			case <-ctx.Done():
			}
		}
	}
	// Before any part ends: who looks for a node now waits until this one has gone.
	if gone := os.Remove(l.nodeReady()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	log.Info("node ends", "error", err)
	// The order is start's reversed: the kubelet goes before the containers,
	// the API server after all who speak to it.
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	k.kept.Wait()
	close(k.fork)
	<-forkerDone
	return err
}

// start brings the parts up in the order in which they need each other.
func (k *keeper) start(ctx context.Context, stops *[]func()) error {
	ctx, cancel := context.WithTimeoutCause(ctx, nodeReadyTime, fmt.Errorf("not within %s", nodeReadyTime))
	defer cancel()
	if err := joinNetwork(ctx); err != nil {
		return err
	}
	if err := issueAll(k.layout); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if err := configure(k.layout); err != nil {
		return err
	}
	begin := func(names ...string) {
		for _, name := range names {
			*stops = append(*stops, k.keep(k.parts[name]))
		}
	}
	begin("etcd", "containerd", "kube-apiserver")
	if err := importImages(ctx, k.layout, "base"); err != nil { // holds the sandbox, before there are pods
		return err
	}
	if err := k.until(ctx, "the API server", "get", "--raw", "/readyz"); err != nil {
		return err
	}
	begin("kube-controller-manager", "kube-scheduler", "coredns", "kubelet")
	if err := k.until(ctx, "the kubelet's Node", "get", "node", nodeName); err != nil {
		return err
	}
	begin("kube-proxy") // without the Node it would take the loopback address for the node's
	return k.until(ctx, "the Node to be ready", "wait", "--for=condition=Ready", "--timeout=1s", "node/"+nodeName)
}

// until repeats kubectl until it succeeds, a part gives up or ctx ends.
func (k *keeper) until(ctx context.Context, what string, args ...string) error {
	return until(ctx, what, func(ctx context.Context) error {
		select {
		case err := <-k.gaveUp:
			return fatal{err}
		default:
			_, err := kubectl(ctx, k.layout.bin("hyper"), k.layout.kubeconfig(), nil, args...)
			return err
		}
	})
}

// keep runs a part until the returned function ends it, starting it again when
// it ends by itself.
func (k *keeper) keep(p part) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background()) // not ctx: the parts end in order
	done := make(chan struct{})
	k.kept.Go(func() {
		defer close(done)
		failures := 0
		for {
			begun := time.Now()
			err := k.run(ctx, p)
			if ctx.Err() != nil {
				return
			}
			k.log.Warn("ended by itself", "part", p.name, "after", time.Since(begun), "error", err)
			if time.Since(begun) > steady {
				failures = 0
			}
			if failures++; failures > restarts {
				k.gaveUp <- fmt.Errorf("%s ended %d times in a row, last with: %w; its log is %s", p.name, failures, err, k.layout.logs(p.name+".log"))
				return
			}
			select {
			case <-time.After(restartPause):
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		<-done
	}
}

// run is one life of a part.
func (k *keeper) run(ctx context.Context, p part) error {
	out, err := os.OpenFile(k.layout.logs(p.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "KUBECONFIG=") // each part is told its own
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = partGrace
	started := make(chan error)
	k.fork <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return err
	}
	path := filepath.Join(k.layout.processes(), p.name+".json")
	if self, err := processOf(cmd.Process.Pid); err != nil {
		k.log.Warn("not recorded", "part", p.name, "error", err) // it may be gone already
	} else if err := record(path, self); err != nil {
		k.log.Warn("not recorded", "part", p.name, "error", err)
	}
	k.log.Info("started", "part", p.name, "pid", cmd.Process.Pid)
	if err := cmd.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	_ = os.Remove(path)
	return errors.New("exit status 0")
}

// kubectl runs one command against the API server.
func kubectl(ctx context.Context, hyper, kubeconfig string, in io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, hyper, append([]string{"kubectl", "--request-timeout=20s"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	cmd.Stdin = in
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", args[0], err, stderr)
	}
	return string(out), nil
}

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	*t = (*t)[max(0, len(*t)-2000):]
	return len(p), nil
}

func (t tail) String() string { return string(t) }
