package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/activator/broker"
)

// engine is the process that is tormented.
type engine struct {
	address string
	data    string // its data directory
	output  string // what it says
	argv    []string
	env     []string
	log     *slog.Logger

	pid    atomic.Int64 // 0: it is not running
	struck atomic.Bool  // this process has been killed from here
	starts atomic.Int64
	points atomic.Int64
	memory samples
}

// newEngine prepares an engine that delivers to the collector.
func newEngine(ctx context.Context, o options, collector string, log *slog.Logger) (*engine, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	// Each event is stored twice, as product and as answer, and each of these is acknowledged.
	oneIn := 0
	if o.points > 0 {
		oneIn = max(2*o.events/o.points, 1)
	}
	e := &engine{
		address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), data: filepath.Join(o.dir, "data"), output: filepath.Join(o.dir, "engine.log"), log: log,
		env: append(os.Environ(), "FAILPOINT_ONE_IN="+strconv.Itoa(oneIn)),
	}
	if o.standIn {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		e.argv = []string{self}
		e.env = append(e.env, roleVariable+"="+roleEngine, "CHAOS_ADDRESS="+e.address, "CHAOS_DATA="+e.data, "CHAOS_COLLECTOR="+collector)
		return e, nil
	}
	aisle := filepath.Join(o.dir, "aisle")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "failpoint", "-o", aisle, "./cmd/aisle")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build the engine (run this in the project's root): %w", err)
	}
	manifests := filepath.Join(".cache", "chaos", "manifests")
	if err := writeManifests(manifests, collector); err != nil {
		return nil, err
	}
	e.argv = []string{aisle, "up", "-k", manifests, "--addr", e.address, "--data-dir", e.data}
	return e, nil
}

// writeManifests writes a kustomization for the engine: what is shipped for
// one machine, with quicker retries, and Triggers to the collector.
func writeManifests(dir, collector string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const kustomization = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../../../manifests/overlays/local
  - triggers.yaml
patches:
  - target: {group: eventing.knative.dev, kind: Broker, name: default}
    patch: |-
      - {op: replace, path: /spec/delivery/retry, value: 20}
      - {op: replace, path: /spec/delivery/backoffPolicy, value: linear}
      - {op: replace, path: /spec/delivery/backoffDelay, value: PT0.2S}
`
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(kustomization), 0o644),
		os.WriteFile(filepath.Join(dir, "triggers.yaml"), []byte(collecting(collector)), 0o644))
}

// brokers are the Brokers of a run with the stand-in, as the shipped ones are
// with the real engine, and its Trigger to the composer.
func brokers(composer string) string {
	return `apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, namespace: default}
spec:
  delivery:
    retry: 20
    backoffPolicy: linear
    backoffDelay: PT0.2S
    deadLetterSink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: dead-letters}}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: dead-letters, namespace: default}
---
` + trigger("products", "default", "dev.aisle.product.v1", composer)
}

// collecting is the Triggers to the collector.
func collecting(collector string) string {
	return trigger("answers", "default", "dev.aisle.category.v1", "http://"+collector+"/answers") + "---\n" +
		trigger("the-dead", "dead-letters", "", "http://"+collector+"/dead")
}

func trigger(name, broker, of, subscriber string) string {
	filter := "{}"
	if of != "" {
		filter = "{attributes: {type: " + of + "}}"
	}
	return fmt.Sprintf(`apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: %s, namespace: default}
spec: {broker: %s, filter: %s, subscriber: {uri: "%s"}}
`, name, broker, filter, subscriber)
}

// freePort gives a port that nothing listens on, below those that Linux gives
// to outgoing connections: it must be free again after each kill.
func freePort() (int, error) {
	for range 100 {
		port := 21000 + rand.IntN(8000)
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, ln.Close()
		}
	}
	return 0, errors.New("no port is free between 21000 and 29000")
}

// supervise keeps the engine running until ctx ends, and then stops it.
func (e *engine) supervise(ctx context.Context) error {
	out, err := os.OpenFile(e.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	for quick := 0; ctx.Err() == nil; {
		cmd := exec.CommandContext(ctx, e.argv[0], e.argv[1:]...)
		cmd.Env, cmd.Stdout, cmd.Stderr = e.env, out, out
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = time.Minute
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		began := time.Now()
		e.struck.Store(false)
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start the engine: %w", err)
		}
		e.starts.Add(1)
		e.pid.Store(int64(cmd.Process.Pid))
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		err := e.watch(done, cmd.Process.Pid)
		e.pid.Store(0)
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		switch {
		case ctx.Err() != nil:
		case status.Signaled() && status.Signal() == syscall.SIGKILL:
			if !e.struck.Load() {
				e.points.Add(1)
			}
			quick = 0
		default:
			e.log.Error("the engine ended by itself", "err", err)
			if quick++; quick == 5 || time.Since(began) > time.Minute {
				return fmt.Errorf("the engine ended by itself: %w; it said:\n%s", err, tail(e.output))
			}
		}
	}
	return nil
}

// tail is the end of a file, for a message.
func tail(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return text[max(0, len(text)-2000):]
}

// watch measures the engine's memory until it has ended.
func (e *engine) watch(done <-chan error, pid int) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			if mb, err := resident(pid); err == nil {
				e.memory.add(mb)
			}
		}
	}
}

// resident reads a process's resident memory, in MB.
func resident(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, errors.New("statm is too short")
	}
	pages, err := strconv.Atoi(fields[1])
	return pages * os.Getpagesize() >> 20, err
}

// killAtRandom kills the engine, its composer and its classifiers until ctx
// ends.
func (e *engine) killAtRandom(ctx context.Context, o options) (k kills) {
	chance := rand.New(rand.NewPCG(o.seed, 0))
	for {
		select {
		case <-ctx.Done():
			return k
		case <-time.After(time.Duration(chance.ExpFloat64() * float64(o.kills))):
		}
		pid := int(e.pid.Load())
		if pid == 0 {
			continue
		}
		switch chance.IntN(6) {
		case 0: // it takes the longest to come back, and its pods with it
			e.struck.Store(true)
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				k.Engine++
			}
		case 1, 2:
			k.Composer += strike(chance, children(pid, roleComposer))
		default:
			k.Classifier += strike(chance, children(pid, roleClassifier))
		}
	}
}

// strike kills one of the processes.
func strike(chance *rand.Rand, pids []int) int {
	if len(pids) == 0 || syscall.Kill(pids[chance.IntN(len(pids))], syscall.SIGKILL) != nil {
		return 0
	}
	return 1
}

// children gives the children of a process that run a function, by the name of
// its binary or by the role in its arguments.
func children(parent int, function string) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // the thread has ended: no children
		for _, field := range strings.Fields(string(text)) {
			argv, _ := os.ReadFile("/proc/" + field + "/cmdline") // the process has ended: not one of them
			for arg := range strings.SplitSeq(string(argv), "\x00") {
				if filepath.Base(arg) == function {
					if pid, err := strconv.Atoi(field); err == nil {
						pids = append(pids, pid)
					}
					break
				}
			}
		}
	}
	return pids
}

// stored reads out of the engine's store, after its end, how many events it
// was given.
func (e *engine) stored(ctx context.Context) (uint64, error) {
	b, err := broker.Open(ctx, broker.Options{Dir: filepath.Join(e.data, "events")})
	if err != nil {
		return 0, err
	}
	n, err := func() (uint64, error) {
		set, err := parse(brokers("http://nowhere.invalid/"))
		if err != nil {
			return 0, err
		}
		if err := b.Apply(ctx, set); err != nil {
			return 0, err
		}
		return b.Last(types.NamespacedName{Namespace: "default", Name: "default"})
	}()
	return n, errors.Join(err, b.Close())
}
