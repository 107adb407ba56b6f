package acceptance

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aisle.dev/aisle/internal/client"
)

// fork lets a service's pod start a process of its own and returns its id.
func fork(t *testing.T, c *caller, service string) int {
	t.Helper()
	a := c.do(t.Context(), http.MethodPost, service, "/fork", "")
	a.want(t, http.StatusOK)
	pid, err := strconv.Atoi(strings.TrimSpace(a.body))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestGrandchildGoesWithItsPod(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster's pods have process namespaces")
	e := newEngine(t, "", servicesDir)
	c := call(t, e)
	crashed := fork(t, c, "forking")
	c.do(t.Context(), http.MethodPost, "forking", "/crash", "").want(t, http.StatusBadGateway)
	awaitGone(t, crashed)
	stopped := fork(t, c, "forking")
	if err := e.stop(patience); err != nil {
		t.Fatal(err)
	}
	if alive(stopped) {
		t.Error("a pod's process outlived the engine")
	}
}

func TestEngineKilled(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "it is about the engine's own death")
	e := newEngine(t, "", servicesDir)
	c := call(t, e)
	grandchild := fork(t, c, "forking")
	c.get(t, "stubborn", "/sleep?ms=0")
	all, err := e.Pods(t.Context())
	if err != nil || len(all) < 3 {
		t.Fatalf("pods %+v, %v", all, err)
	}
	e.kill(t)
	for _, p := range all {
		awaitGone(t, p.PID)
	}
	if _, err := e.Version(t.Context()); !errors.Is(err, client.ErrNotRunning) || !strings.Contains(err.Error(), "aisle up") {
		t.Errorf("asked after its death: %v", err)
	}
	if !alive(grandchild) {
		t.Skip("the kernel has killed the grandchild too: nothing is left to reap")
	}
	again := newEngine(t, e.version.DataDir, servicesDir)
	if alive(grandchild) {
		t.Error("the next engine left a pod's process behind")
	}
	if own := pods(t, again, "forking"); len(own) > 0 {
		t.Errorf("the next engine started what was not asked for: %+v", own)
	}
	call(t, again).get(t, "forking", "/sleep?ms=0")
	if err := again.stop(patience); err != nil {
		t.Error(err)
	}
}

// A recorded pid that belongs to another process by now is left alone.
func TestStrangerIsNotReaped(t *testing.T) {
	t.Parallel()
	first := engineOnly(t, shared, "it is about the engine's records")
	dataDir := newDataDir(t)
	dir := filepath.Join(dataDir, "pods", "default", "echo-00001-zzzzz")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	stranger := first.cmd.Process.Pid
	record := `{"pid":` + strconv.Itoa(stranger) + `,"startTime":12345,"bootID":"` + strings.TrimSpace(string(boot)) + `"}`
	if err := os.WriteFile(filepath.Join(dir, "process.json"), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, dataDir, servicesDir)
	if !alive(stranger) {
		t.Fatal("a process was killed that had only the pid of a pod")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record stays: %v", err)
	}
	if err := e.stop(patience); err != nil {
		t.Error(err)
	}
}

func TestSecondEngineRefused(t *testing.T) {
	t.Parallel()
	first := engineOnly(t, shared, "it is about the data directory")
	_, err := startEngine(shared.root, first.version.DataDir, servicesDir)
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(first.version.PID)) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a second engine: %v; want it refused with the first one's pid and what to do", err)
	}
	if _, err := shared.Version(t.Context()); err != nil {
		t.Errorf("the first engine afterwards: %v", err)
	}
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	first := engineOnly(t, shared, "it is about the data directory")
	call(t, first).get(t, "floor", "/sleep?ms=0") // the first pod brings the folder of logs
	for path, want := range map[string]os.FileMode{"": 0o700, client.SocketName: 0o600, "state.json": 0o600, "logs": 0o700} {
		info, err := os.Stat(filepath.Join(first.version.DataDir, path))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%q has mode %o, want %o", path, got, want)
		}
	}
}

// Requests in flight are answered when the engine is told to stop; those that
// wait are told.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "it is about the engine's own end")
	e := newEngine(t, "", servicesDir)
	c := call(t, e)
	c.get(t, "echo", "/sleep?ms=0")
	inFlight := c.begin(t.Context(), "echo", "/sleep?ms=6000")
	waiting := c.begin(t.Context(), "slow", "/sleep?ms=0")
	await(t, "both to be there", func() string {
		if pods := pods(t, e, "echo"); pods[0].InFlight != 1 {
			return "not in flight"
		}
		if r := revision(t, e, "slow"); r.Waiting != 1 {
			return "not waiting"
		}
		return ""
	})
	if err := e.stop(patience); err != nil {
		t.Error(err)
	}
	(<-inFlight).want(t, http.StatusOK)
	if detail := (<-waiting).problem(t, http.StatusServiceUnavailable); !strings.Contains(detail, "stopping") {
		t.Errorf("who waited was told %q", detail)
	}
	if _, err := os.Stat(filepath.Join(e.version.DataDir, client.SocketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(e.version.DataDir, "pods", "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("pods' folders stay: %v, %v", left, err)
	}
}

func TestStopOfPodsThatIgnoreIt(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "it is about the engine's own end")
	tests := []struct {
		service string
		signals int
		atLeast time.Duration
		within  time.Duration
	}{
		{"stubborn", 1, 2 * time.Second, patience}, // its grace is over
		{"deaf", 2, 0, 40 * time.Second},           // a second signal does not wait for its minute
	}
	for _, test := range tests {
		t.Run(test.service, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, "", servicesDir)
			call(t, e).get(t, test.service, "/sleep?ms=0")
			pid := pods(t, e, test.service)[0].PID
			begun := time.Now()
			for i := range test.signals - 1 {
				if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				await(t, "signal to be taken", func() string {
					if i == 0 && !strings.Contains(e.log.String(), "engine stopping") {
						return "not stopping"
					}
					return ""
				})
			}
			if err := e.stop(test.within); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took < test.atLeast {
				t.Errorf("stopped after %s; its pod had %s", took, test.atLeast)
			}
			if alive(pid) {
				t.Error("the pod lives")
			}
		})
	}
}

// A changed template is the service's next revision; an unchanged one is not.
func TestGenerations(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster numbers by itself")
	dir := filepath.Join(newDataDir(t), "manifests")
	write := func(value string) {
		t.Helper()
		for name, text := range map[string]string{
			"kustomization.yaml": "resources: [service.yaml, config.yaml]\n",
			"config.yaml":        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler, namespace: knative-serving}\ndata: {allow-zero-initial-scale: \"true\", initial-scale: \"0\"}\n",
			"service.yaml": "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: one}\nspec: {template: {spec: {containers: [{image: \"ko://aisle.dev/aisle/test/acceptance/fixture\", env: [{name: V, value: \"" +
				value + "\"}]}]}}}\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	dataDir := newDataDir(t)
	for _, step := range []struct{ value, revision string }{{"a", "one-00001"}, {"a", "one-00001"}, {"b", "one-00002"}, {"a", "one-00003"}} {
		write(step.value)
		e := newEngine(t, dataDir, dir)
		await(t, step.revision+" to be the latest that is ready", func() string {
			return strings.TrimPrefix(service(t, e, "one").LatestRevision, step.revision)
		})
		if err := e.stop(patience); err != nil {
			t.Fatal(err)
		}
	}
}
