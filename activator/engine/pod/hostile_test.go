package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aisle.dev/aisle/activator/engine/cgroup"
)

// What a pod may do to harm itself, and that it harms nobody else: its
// neighbour goes on.
func TestHostile(t *testing.T) {
	for _, test := range []struct {
		name, script string
		stop         bool // once it has written "up"
		want         string
	}{
		{name: "ends at once", script: "exit 0", want: "exit status 0"},
		{name: "fails with last words", script: "echo 'no such model' >&2; exit 3", want: "exit status 3"},
		{name: "crashes", script: "kill -SEGV $$$$", want: "signal SIGSEGV"},
		{name: "forks and exits", script: "(while :; do sleep 0.01; done) & exit 0", want: "exit status 0, leaving processes behind, which were killed: a pod must stay in the foreground"},
		{name: "ignores SIGTERM", script: `trap "" TERM; echo up; while :; do sleep 0.01; done`, stop: true, want: "signal SIGKILL"},
		{name: "leaves a child that ignores SIGTERM", script: `(trap "" TERM; while :; do sleep 0.01; done) & echo up; wait`, stop: true, want: "signal SIGTERM"},
		{name: "stops itself", script: `echo up; kill -STOP $$$$`, stop: true, want: "signal SIGKILL"},
		{name: "closes its output", script: `exec >/dev/null 2>&1; exit 5`, want: "exit status 5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := machine(t)
			neighbour, err := m.Start(Spec{Namespace: "default", Name: "neighbour", Command: []string{"/bin/sh", "-c", "while :; do sleep 0.01; done"}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { neighbour.Kill(); neighbour.Remove() })
			p := shell(t, m, test.script)
			if test.stop {
				awaitLine(t, m, "up")
				p.Stop(50*time.Millisecond, nil)
			}
			end(t, p)
			if got := p.Outcome(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if left, err := members(p.PID(), p.startTime); err != nil || len(left) > 0 && awaitGone(left, 20*time.Second) != nil {
				t.Errorf("%v are left: %v", left, err)
			}
			select {
			case <-neighbour.Exited():
				t.Errorf("its neighbour ended: %s", neighbour.Outcome())
			default:
			}
		})
	}
}

// What starts a session of its own is ended with its pod where there are
// control groups.
func TestDaemonEndsWithItsPod(t *testing.T) {
	m := machine(t)
	if m.groups.Dir() == "" {
		t.Skipf("NOT TESTED here: %v", m.Lacks())
	}
	file := filepath.Join(t.TempDir(), "pid")
	p := shell(t, m, fmt.Sprintf(`setsid sh -c 'trap "" TERM HUP; echo $$$$ >%s.new; mv %s.new %s; while :; do sleep 0.01; done' &
		while ! test -e %s; do sleep 0.01; done; exit 0`, file, file, file, file))
	end(t, p)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := awaitGone([]int{pid}, 0); err != nil {
		t.Errorf("the daemon outlives its pod: %v", err)
	}
	if !p.Ending().Daemon {
		t.Errorf("%q does not say that it left a daemon", p.Outcome())
	}
}

// A pod that writes without end keeps its logs within their bound while it
// runs, loses its own time with it, and its last words come last.
func TestLogFlood(t *testing.T) {
	m := machine(t)
	p := shell(t, m, `yes "a line that is written again and again and again" | head -c 40000000; echo last words; exit 1`)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for over := false; !over; {
		select {
		case <-p.Exited():
			over = true
		case <-look.C:
		}
		if s := filled(t, m.LogDir("default"), "test-00001-bcdfg"); s[0] > MaxLog || s[1] > MaxLog {
			t.Fatalf("the logs have %d bytes, the bound is %d each", s, MaxLog)
		}
	}
	if got := Tail(m.LogDir("default"), "test-00001-bcdfg", 1); !strings.HasSuffix(got, "last words") {
		t.Errorf("the log ends with %q", got)
	}
}

// A pod that eats memory is ended alone, by its limit.
func TestMemoryEater(t *testing.T) {
	m := machine(t)
	if err := m.Lacks(); err != nil {
		t.Skipf("NOT TESTED here: %v", err)
	}
	p, err := m.Start(Spec{Namespace: "default", Name: "eater", Limits: cgroup.Limits{Memory: 16 << 20},
		Command: []string{"/bin/sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); p.Remove() })
	end(t, p)
	if got := p.Outcome(); got != "OOMKilled: it needed more memory than its limit of 16Mi" {
		t.Errorf("%q", got)
	}
}

func TestEndings(t *testing.T) {
	for _, test := range []struct {
		ending Ending
		want   string
	}{
		{Ending{Code: 137, Signal: syscall.SIGKILL, OOMKilled: 256 << 20, Daemon: true}, "OOMKilled: it needed more memory than its limit of 256Mi"},
		{Ending{Code: 137, Signal: syscall.SIGKILL}, "signal SIGKILL"},
		{Ending{Err: errors.New("unknown")}, "unknown"},
	} {
		if got := test.ending.String(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// When the machine runs out of memory, the kernel is to take a pod.
func TestPodsGoBeforeTheEngine(t *testing.T) {
	p := shell(t, machine(t), "while :; do sleep 0.01; done")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.PID()))
	if err != nil || strings.TrimSpace(string(text)) != oomScore {
		t.Errorf("%q, %v", text, err)
	}
}

// A pod that never listens is told of as such, not waited for in vain.
func TestNeverListens(t *testing.T) {
	p := shell(t, machine(t), "while :; do sleep 0.01; done")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := time.AfterFunc(50*time.Millisecond, func() { cancel(errStop) })
	defer stop.Stop()
	err := p.Watch(ctx, Probes{}, func(error) { t.Error("ready") })
	if !errors.Is(err, errStop) || !errors.Is(err, errNotListening) {
		t.Errorf("%v", err)
	}
	if ph := p.Phases(); !ph.Listening.IsZero() || !ph.Ready.IsZero() || ph.Launched.IsZero() {
		t.Errorf("%+v", ph)
	}
}

func TestVolumes(t *testing.T) {
	dir := t.TempDir()
	at, err := WriteMounts(dir, []Mount{
		{Path: "/etc/secret", Volume: "s", Files: map[string][]byte{"key": []byte("k"), "run/it": []byte("#!/bin/sh\n")}, Modes: map[string]os.FileMode{"run/it": 0o755}},
		{Path: "/cache", Volume: "c", Empty: true},
		{Path: "/other", Volume: "c", Empty: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if at["/cache"] != at["/other"] || at["/cache"] == at["/etc/secret"] {
		t.Errorf("written to %v: a volume is one folder", at)
	}
	for path, want := range map[string]os.FileMode{
		at["/etc/secret"]: 0o700 | os.ModeDir, at["/etc/secret"] + "/key": 0o400, at["/etc/secret"] + "/run/it": 0o555, at["/cache"]: 0o700 | os.ModeDir,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode()&^0o055 != want&^0o055 {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	locked := filepath.Join(at["/cache"], "locked")
	if err := errors.Join(os.Mkdir(locked, 0o700), os.WriteFile(locked+"/f", nil, 0o600), os.Chmod(locked, 0)); err != nil {
		t.Fatal(err)
	}
	if err := removeAll(dir); err != nil {
		t.Error(err)
	}
}
