package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	p, err := processOf(cmd.Process.Pid)
	if err != nil || !p.alive() {
		t.Fatalf("%+v, %v", p, err)
	}
	file := filepath.Join(t.TempDir(), "p.json")
	if err := record(file, p); err != nil {
		t.Fatal(err)
	}
	if again, err := recorded(file); err != nil || again != p {
		t.Fatalf("read %+v, %v; written %+v", again, err, p)
	}
	stranger := p
	stranger.Start++
	if stranger.alive() {
		t.Error("another start time is the same process")
	}
	if err := stranger.signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a stranger: %v", err)
	}
	rebooted := p
	rebooted.BootID = "another"
	if rebooted.alive() {
		t.Error("a process of before a reboot lives")
	}
	if err := p.end(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if p.alive() {
		t.Error("it lives on")
	}
	<-waited
}

func TestRecordedNothing(t *testing.T) {
	p, err := recorded(filepath.Join(t.TempDir(), "none"))
	if err != nil || p.alive() {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestStandsOn(t *testing.T) {
	const line = "812 700 0:91 / / rw,relatime - overlay overlay rw,lowerdir=/l/1/fs:/l/2/fs,upperdir=/state/run/ctd/9/fs,workdir=/state/run/ctd/9/work\n"
	tests := []struct {
		name, table, dir string
		want             bool
	}{
		{"ours", line, "/state", true},
		{"another's with our prefix", line, "/sta", false},
		{"below a mount point that is not the root", strings.Replace(line, " / / ", " / /mnt ", 1), "/state", false},
		{"the machine's own root", "1 1 254:0 / / rw - ext4 /dev/vda rw\n", "/state", false},
		{"nothing", "", "/state", false},
	}
	for _, test := range tests {
		if got := standsOn(test.table, test.dir); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path, func(string) { t.Error("waited for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := lock(ctx, path, func(holder string) {
		if !strings.Contains(holder, "process") {
			t.Errorf("waits for %q", holder)
		}
		cancel()
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("the second: %v", err)
	}
	// A child of the holder does not hold it.
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	unlock()
	unlock, err = lock(t.Context(), path, func(string) { t.Error("a child holds the lock") })
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// onWrite is told all that is written.
type onWrite func(string)

func (f onWrite) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

// Whatever changes the cluster, two suites for one, waits while another does.
func TestCommandsWait(t *testing.T) {
	t.Setenv("AISLE_CLUSTER_STATE", t.TempDir())
	l, err := newLayout(".")
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(t.Context(), l.lockFile(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for _, command := range []string{"up", "down", "build", "e2e"} {
		ctx, cancel := context.WithCancel(t.Context())
		var said string
		err := run(ctx, []string{command}, onWrite(func(line string) { said += line; cancel() }), io.Discard)
		if !errors.Is(err, context.Canceled) || !strings.Contains(said, "waiting for process") {
			t.Errorf("%s: %v; it said %q", command, err, said)
		}
		cancel()
	}
}

func TestUntil(t *testing.T) {
	broken := errors.New("broken for good")
	if err := within(t.Context(), time.Minute, "it", func(context.Context) error { return fatal{broken} }); !errors.Is(err, broken) {
		t.Errorf("a fatal complaint: %v", err)
	}
	err := within(t.Context(), time.Millisecond, "the thing", func(context.Context) error { return errors.New("not there") })
	if err == nil || !strings.Contains(err.Error(), "the thing") || !strings.Contains(err.Error(), "not within 1ms") || !strings.Contains(err.Error(), "not there") {
		t.Errorf("out of time: %v", err)
	}
}
