package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// faultsEnv lets TestKilled run: it takes a quarter of an hour, root, the
// cluster's binaries, and a machine on which no cluster is up.
const faultsEnv = "AISLE_CLUSTER_FAULTS"

// A killing is a signal to the harness or to its keeper at a step: a line that
// the harness or the keeper's log has.
type killing struct {
	during  string // up, down, or after: once up has ended
	step    string
	inLog   bool // the step is the keeper's
	harness syscall.Signal
	keeper  syscall.Signal
}

func (k killing) String() string {
	who := fmt.Sprintf("harness %v", k.harness)
	switch {
	case k.harness == 0:
		who = fmt.Sprintf("keeper %v", k.keeper)
	case k.keeper != 0:
		who += fmt.Sprintf(" and keeper %v", k.keeper)
	}
	return fmt.Sprintf("%s, %s: %s", k.during, k.step, who)
}

var killings = []killing{
	{during: "up", step: "starting a node", harness: syscall.SIGKILL},
	{during: "up", step: "its keeper is process", harness: syscall.SIGKILL},
	{during: "up", step: "part=kubelet", inLog: true, harness: syscall.SIGKILL},
	{during: "up", step: "node ready", harness: syscall.SIGKILL},
	{during: "up", step: "images of serving imported", harness: syscall.SIGKILL},
	{during: "up", step: "Knative applied", harness: syscall.SIGKILL},
	{during: "up", step: "images of eventing imported", harness: syscall.SIGKILL},
	{during: "up", step: "starting a node", harness: syscall.SIGINT},
	{during: "up", step: "images of serving imported", harness: syscall.SIGINT},
	{during: "up", step: "part=containerd", inLog: true, keeper: syscall.SIGKILL},
	{during: "up", step: "part=kube-proxy", inLog: true, keeper: syscall.SIGKILL},
	{during: "up", step: "images of serving imported", keeper: syscall.SIGKILL},
	{during: "up", step: "Knative applied", harness: syscall.SIGKILL, keeper: syscall.SIGKILL},
	{during: "after", step: "up:", keeper: syscall.SIGKILL},
	{during: "down", step: "node ends", inLog: true, harness: syscall.SIGKILL},
	{during: "down", step: "node ends", inLog: true, harness: syscall.SIGKILL, keeper: syscall.SIGKILL},
	{during: "down", step: "node ends", inLog: true, harness: syscall.SIGINT},
	{during: "down", step: "node ended", harness: syscall.SIGKILL},
}

// Whatever is killed at whatever step: `up` then comes up, `down` leaves nothing.
func TestKilled(t *testing.T) {
	if os.Getenv(faultsEnv) == "" {
		t.Skip("only by make cluster-faults: it needs root and a quarter of an hour")
	}
	l, err := newLayout(".")
	if err != nil {
		t.Fatal(err)
	}
	program := compiled(t)
	for command, want := range map[string]int{"ready": 0, "status": 3} {
		cmd := exec.Command(program, command)
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != want {
			t.Fatalf("cluster %s ended with %d, want %d: %s", command, cmd.ProcessState.ExitCode(), want, out)
		}
	}
	clean := look(t, l)
	inherited, err := os.Create(filepath.Join(t.TempDir(), "inherited"))
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	for _, k := range killings {
		t.Run(k.String(), func(t *testing.T) {
			// Nothing of this test is left, whatever it finds.
			t.Cleanup(func() { _ = exec.Command(program, "down").Run() })
			if k.during != "up" {
				start(t, program, "up").succeeds(t)
			}
			k.happens(t, program, l)
			start(t, program, "up", inherited).succeeds(t)
			start(t, program, "status").succeeds(t)
			if users := having(inherited.Name()); len(users) > 1 { // this one
				t.Errorf("the node keeps open what its caller had open: %v", users)
			}
			start(t, program, "down").succeeds(t)
			// The last of what was killed may take a moment to go.
			err := within(t.Context(), 5*time.Second, "nothing to be left", func(context.Context) error {
				if left := differences(clean, look(t, l)); left != "" {
					return fmt.Errorf("\n%s", left)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A build that is killed is done again, in a state directory of its own.
func TestKilledBuild(t *testing.T) {
	if os.Getenv(faultsEnv) == "" {
		t.Skip("only by make cluster-faults: it builds all of Kubernetes")
	}
	program := compiled(t)
	state := t.TempDir()
	t.Setenv("AISLE_CLUSTER_STATE", state)
	c := start(t, program, "build")
	pieces := func() int {
		found, _ := filepath.Glob(filepath.Join(state, "build-*"))
		return len(found)
	}
	err := within(t.Context(), time.Minute, "the build to have begun", func(context.Context) error {
		if pieces() == 0 {
			return fmt.Errorf("it said %q", c.output.Bytes())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-c.done
	if pieces() == 0 {
		t.Error("the build was killed too late to leave anything")
	}
	if cmd := exec.Command(program, "ready"); cmd.Run() == nil {
		t.Error("ready without a whole build")
	}
	start(t, program, "build").succeeds(t)
	start(t, program, "ready").succeeds(t)
	if pieces() > 0 {
		t.Error("what the first left is there")
	}
}

func compiled(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "cluster")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// happens starts the harness and kills what it says at its step.
func (k killing) happens(t *testing.T, program string, l layout) {
	t.Helper()
	log := l.logs("node.log")
	from := 0
	if k.during == "down" {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		from = len(text)
	} else if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	command := k.during
	if command == "after" {
		command = "up"
	}
	c := start(t, program, command)
	switch {
	case k.during == "after":
		c.succeeds(t)
	case k.inLog:
		awaitLine(t, c, k.step, func() []byte {
			text, _ := os.ReadFile(log)
			return text[min(from, len(text)):]
		})
	default:
		awaitLine(t, c, k.step, c.output.Bytes)
	}
	if k.keeper != 0 {
		p, err := recorded(l.run("keeper.json"))
		if err != nil || p.signal(k.keeper) != nil {
			t.Fatalf("no keeper to kill: %+v, %v", p, err)
		}
	}
	if k.harness != 0 {
		if err := c.cmd.Process.Signal(k.harness); err != nil {
			t.Fatal(err)
		}
	}
	if k.during == "after" {
		return
	}
	// It ends by itself too when it has lost its keeper.
	select {
	case <-c.done:
	case <-time.After(time.Minute):
		t.Fatalf("it goes on:\n%s", c.output.Bytes())
	}
	if k.harness == 0 && !bytes.Contains(c.output.Bytes(), []byte("keeper has ended")) {
		t.Errorf("it does not say that its keeper has ended:\n%s", c.output.Bytes())
	}
}

// A child is the harness as a process of its own.
type child struct {
	cmd    *exec.Cmd
	output lines
	done   chan struct{} // closed once it has ended, with err
	err    error
}

func start(t *testing.T, program, command string, files ...*os.File) *child {
	t.Helper()
	c := &child{cmd: exec.Command(program, command), done: make(chan struct{})}
	c.cmd.ExtraFiles = files
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	c.cmd.WaitDelay = time.Second // what it started may outlive it, with its output
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
	})
	return c
}

func (c *child) succeeds(t *testing.T) {
	t.Helper()
	<-c.done // each of its waits has an end
	if c.err != nil {
		t.Fatalf("cluster %s: %v\n%s", c.cmd.Args[1], c.err, c.output.Bytes())
	}
}

// having gives the processes that have a file open.
func having(path string) (processes []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if file, err := os.Readlink(link); err == nil && file == path {
			processes = append(processes, link)
		}
	}
	return processes
}

// awaitLine returns once the text has a step.
func awaitLine(t *testing.T, c *child, step string, text func() []byte) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !bytes.Contains(text(), []byte(step)) {
		select {
		case <-look.C:
		case <-c.done:
			if bytes.Contains(text(), []byte(step)) {
				return
			}
			t.Fatalf("it ended (%v) without %q:\n%s", c.err, step, c.output.Bytes())
		}
	}
}

// lines is a buffer that may be read while it is written to.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.text.Bytes())
}

// look gives what of a machine a node may change, by kind and name.
func look(t *testing.T, l layout) map[string]string {
	t.Helper()
	seen := map[string]string{}
	note := func(kind, text string) {
		for line := range strings.Lines(text) {
			seen[kind+" "+strings.TrimSpace(line)] = ""
		}
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer mounts.Close()
	for s := bufio.NewScanner(mounts); s.Scan(); {
		note("mount", strings.Fields(s.Text())[4])
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "aisle-") {
			return fs.SkipDir // an engine's on this machine, which comes and goes by itself
		}
		if err == nil && d.IsDir() {
			note("cgroup", path)
		}
		return nil
	})
	for _, root := range []string{"kernel", "net", "vm"} {
		_ = filepath.WalkDir("/proc/sys/"+root, func(path string, d fs.DirEntry, err error) error {
			switch filepath.Base(path) {
			case "ns_last_pid", "perf_event_max_sample_rate", "stat_refresh":
				return nil // the kernel's own, or one that acts when it is read
			}
			if err != nil || d.IsDir() {
				return nil
			}
			if info, err := d.Info(); err == nil && info.Mode().Perm()&0o600 == 0o600 {
				if text, err := os.ReadFile(path); err == nil {
					seen["sysctl "+path] = strings.TrimSpace(string(text))
				}
			}
			return nil
		})
	}
	for _, command := range []string{"ip -o link", "ip -o address", "ip route show table all", "ip -6 route show table all", "ip rule", "nft list tables"} {
		words := strings.Fields(command)
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		note(command, string(out))
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		if network, err := os.Readlink(filepath.Join(dir, "ns/net")); err == nil {
			note("network namespace", network)
		}
		file, _ := os.Readlink(filepath.Join(dir, "exe"))
		switch base := filepath.Base(file); {
		case strings.HasPrefix(file, l.root+"/"), strings.HasPrefix(base, "containerd"), base == "runc", base == "ctr":
			command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
			note("process", filepath.Base(dir)+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	sockets, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(sockets)) {
		if f := strings.Fields(line); len(f) == 8 && (strings.Contains(f[7], "containerd") || strings.Contains(f[7], "kubelet") || strings.Contains(f[7], l.root)) {
			note("socket", f[7])
		}
	}
	for _, dir := range []string{"/etc", "/opt", "/run", "/run/containerd", "/usr/libexec", "/var/lib", "/var/lib/cni", "/var/log", "/var/log/containers", l.root} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			note("file", filepath.Join(dir, e.Name()))
		}
	}
	return seen
}

// differences says what is not as it was.
func differences(was, is map[string]string) string {
	names := maps.Clone(was)
	maps.Copy(names, is)
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(names)) {
		before, had := was[name]
		after, has := is[name]
		switch {
		case had && !has:
			fmt.Fprintln(&out, "gone:", name)
		case has && !had:
			fmt.Fprintln(&out, "left:", name, after)
		case before != after:
			fmt.Fprintf(&out, "changed: %s from %q to %q\n", name, before, after)
		}
	}
	return out.String()
}
