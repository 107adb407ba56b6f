package acceptance

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"aisle.dev/aisle/activator/engine"
	"aisle.dev/aisle/activator/engine/cgroup"
	"aisle.dev/aisle/activator/engine/clock/clocktest"
	"aisle.dev/aisle/internal/client"
)

// engineEnv makes this test binary be an engine instead of running tests: the
// engine then is a process of its own that can be killed, and is built with
// -race when the tests are. `aisle up` is the same with flags in place of JSON
// (its own tests are in cmd/aisle).
const engineEnv = "AISLE_ACCEPTANCE_ENGINE"

// secret is in every engine's environment, and in no pod's.
const secret = "AISLE_ACCEPTANCE_SECRET"

// shared is the place that most tests use.
var shared struct {
	place
	root string // of engines: has bin/fixture
}

func TestMain(m *testing.M) {
	if text := os.Getenv(engineEnv); text != "" {
		if err := runEngine([]byte(text)); err != nil {
			fmt.Fprintln(os.Stderr, "engine:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	// Nearly all of a test's time is waiting for windows to pass.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	root, err := os.MkdirTemp("", "aisle-acceptance-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	shared.root = root
	if config := os.Getenv(clusterEnv); config != "" {
		patience = 3 * time.Minute
		shared.place, err = deployed(config)
	} else {
		build := exec.Command("go", "build", "-o", filepath.Join(root, "bin", "fixture"), "./fixture")
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("build the fixture: %w\n%s", err, out)
		}
		var e *engineProcess
		e, err = startEngine(root, filepath.Join(root, "data"), "testdata/machine")
		shared.place = e
	}
	if err != nil {
		return 1, err
	}
	code = m.Run()
	products.stop()
	pods, err := shared.Pods(context.Background())
	if code != 0 {
		shared.dump(os.Stderr)
	}
	err = errors.Join(err, shared.stop(patience))
	for _, p := range pods {
		if p.PID != 0 && alive(p.PID) {
			err = errors.Join(err, fmt.Errorf("pod %s (process %d) outlived the engine", p.Name, p.PID))
		}
	}
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	return code, err
}

const servicesDir = "testdata/services"

// engineProcess is an engine in a process of its own.
type engineProcess struct {
	*client.Engine
	api
	cmd     *exec.Cmd
	hold    io.WriteCloser // the engine ends when its standard input does; times in it move its clock
	version client.Version
	log     *logBuffer
	exited  chan struct{}
	err     error // of Wait; set before exited is closed
}

var _ place = (*engineProcess)(nil)

func (e *engineProcess) address() string         { return e.version.Address }
func (e *engineProcess) engine() *engineProcess  { return e }
func (e *engineProcess) onCluster() *cluster     { return nil }
func (e *engineProcess) host(name string) string { return name + ".default.localhost" }

type engineConfig struct {
	Manifests, Root, DataDir, Address string
	GPUs                              []string
	AdminAddress, AdminTokens         string
	ScaleEvents                       bool
	Clock                             time.Time // of schedules; zero: the machine's
}

// runEngine is the engine's main.
func runEngine(text []byte) error {
	var c engineConfig
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var clock engine.Clock
	var moved *clocktest.Clock
	if !c.Clock.IsZero() {
		moved = clocktest.At(c.Clock)
		clock = moved
	}
	e, err := engine.New(engine.Options{
		Clock:     clock,
		Manifests: c.Manifests, Root: c.Root, DataDir: c.DataDir, Address: c.Address, Version: "test", GPUs: c.GPUs,
		AdminAddress: c.AdminAddress, AdminTokens: c.AdminTokens, ScaleEvents: c.ScaleEvents,
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Started: func(v client.Version) { _ = json.NewEncoder(os.Stdout).Encode(v) },
	})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		e.Hurry()
	}()
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			to, err := time.Parse(time.RFC3339Nano, lines.Text())
			if err != nil || moved == nil {
				panic(fmt.Sprintf("a clock cannot be moved to %q: %v", lines.Text(), err))
			}
			moved.Move(to)
		}
		// The tests are gone, however they ended.
		cancel()
		e.Hurry()
	}()
	before := goleak.IgnoreCurrent()
	if err := e.Run(ctx); err != nil {
		return err
	}
	return goleak.Find(before) // a leak makes the engine's stop a failure of its test
}

// startEngine starts an engine and returns once it accepts requests.
func startEngine(root, dataDir, manifests string, gpus ...string) (*engineProcess, error) {
	return startEngineOn("127.0.0.1:0", root, dataDir, manifests, gpus...)
}

func startEngineOn(address, root, dataDir, manifests string, gpus ...string) (*engineProcess, error) {
	return startConfigured(engineConfig{Manifests: manifests, Root: root, DataDir: dataDir, Address: address, GPUs: gpus})
}

func startConfigured(c engineConfig) (*engineProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if c.Manifests, err = filepath.Abs(c.Manifests); err != nil {
		return nil, err
	}
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	e := &engineProcess{Engine: client.NewEngine(c.DataDir), api: overSocket(c.DataDir), log: &logBuffer{}, exited: make(chan struct{})}
	e.cmd = exec.Command(self)
	e.cmd.Env = append(os.Environ(), engineEnv+"="+string(config), secret+"=do not pass on", "GORACE=halt_on_error=1")
	e.cmd.Stderr = e.log
	if e.hold, err = e.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	err = json.NewDecoder(bufio.NewReader(out)).Decode(&e.version)
	go func() {
		e.err = e.cmd.Wait()
		close(e.exited)
	}()
	if err != nil {
		_ = e.hold.Close()
		<-e.exited
		return nil, fmt.Errorf("engine: %w: %s", e.err, e.log)
	}
	return e, nil
}

// overSocket is the protocol of an engine's objects.
func overSocket(dataDir string) api {
	return api{namespace: "default", server: "http://engine", image: "ko://aisle.dev/aisle/test/acceptance/fixture", ours: true, http: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", filepath.Join(dataDir, client.SocketName))
			},
			DisableKeepAlives: true,
		},
		Timeout: patience,
	}}
}

// newEngine starts an engine for one test. Its data directory is dataDir, a
// fresh one if that is empty.
func newEngine(t *testing.T, dataDir, manifests string, gpus ...string) *engineProcess {
	t.Helper()
	return newEngineAt(t, shared.root, dataDir, manifests, gpus...)
}

func newEngineAt(t *testing.T, root, dataDir, manifests string, gpus ...string) *engineProcess {
	t.Helper()
	return newEngineWith(t, engineConfig{Manifests: manifests, Root: root, DataDir: dataDir, GPUs: gpus})
}

// newEngineWith starts an engine for one test, with defaults for what is empty.
func newEngineWith(t *testing.T, c engineConfig) *engineProcess {
	t.Helper()
	c.Manifests, c.Root, c.Address = cmp.Or(c.Manifests, servicesDir), cmp.Or(c.Root, shared.root), cmp.Or(c.Address, "127.0.0.1:0")
	if c.DataDir == "" {
		c.DataDir = newDataDir(t)
	}
	e, err := startConfigured(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.cmd.Process.Kill() // most tests have ended it already
		<-e.exited
		if groups := e.groups(); groups != "" { // as the next engine would
			if err := cgroup.Sweep(groups, patience); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			e.dump(os.Stderr)
		}
	})
	return e
}

// groups is where the engine's control groups are; empty where it has none.
func (e *engineProcess) groups() string {
	text, err := os.ReadFile(filepath.Join(e.version.DataDir, "cgroup"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// newDataDir is short: a unix socket's path is.
func newDataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.root, "d")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// stop ends the engine in the normal way and expects it to have gone well.
func (e *engineProcess) stop(within time.Duration) error {
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-e.exited:
		return e.err
	case <-time.After(within):
		return fmt.Errorf("the engine did not stop within %s", within)
	}
}

// kill is SIGKILL.
func (e *engineProcess) kill(t *testing.T) {
	t.Helper()
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-e.exited
}

// dump shows the end of the engine's log.
func (e *engineProcess) dump(w io.Writer) {
	lines := strings.Split(strings.TrimSpace(e.log.String()), "\n")
	fmt.Fprintf(w, "--- the engine's log, last of %d lines ---\n%s\n", len(lines), strings.Join(lines[max(0, len(lines)-150):], "\n"))
}

// logBuffer is a bytes.Buffer for two goroutines.
type logBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	await(t, fmt.Sprintf("process %d to go", pid), func() string {
		if alive(pid) {
			return "it runs"
		}
		return ""
	})
}
