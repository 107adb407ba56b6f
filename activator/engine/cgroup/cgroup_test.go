package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const patience = 20 * time.Second

// tree is a real tree of this machine's. Where none can be made, the test is
// skipped: what it shows has then been shown nowhere.
func tree(t *testing.T) *Tree {
	t.Helper()
	tr := Open("aisle-test-" + strconv.Itoa(os.Getpid()) + "-" + strings.ToLower(t.Name()))
	if tr.Dir() == "" {
		t.Skipf("NOT TESTED here: %v", tr.Lacks())
	}
	t.Cleanup(func() {
		if err := tr.Close(patience); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// in starts a shell in the group.
func in(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	f, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// What left its process group and session is in its control group still.
func TestGroupHoldsDaemons(t *testing.T) {
	tr := tree(t)
	g, err := tr.Make("default.p", Limits{PIDs: 100})
	if err != nil {
		t.Fatal(err)
	}
	_ = in(t, g, `setsid sh -c 'trap "" TERM HUP; while :; do sleep 0.01; done' & exit 0`).Wait()
	if !g.Populated() {
		t.Fatal("the daemon is not in the group of what started it")
	}
	if err := g.Remove(patience); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(g.dir); !errors.Is(err, os.ErrNotExist) || g.Populated() {
		t.Errorf("the group is left: %v", err)
	}
	if err := g.Remove(0); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

func TestSweep(t *testing.T) {
	tr := tree(t)
	for _, name := range []string{"default.a", "default.b"} {
		g, err := tr.Make(name, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		cmd := in(t, g, "while :; do sleep 0.01; done")
		defer func() { _ = cmd.Wait() }()
		if err := os.Mkdir(filepath.Join(g.dir, "its-own"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second finds nothing
		if err := Sweep(tr.Dir(), patience); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSweepOfAnythingElse(t *testing.T) {
	dir := t.TempDir()
	if err := Sweep(dir, 0); err == nil || !strings.Contains(err.Error(), "no control group") {
		t.Errorf("%v: want a refusal", err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

func TestMemoryLimit(t *testing.T) {
	tr := tree(t)
	if !has(tr, "memory") {
		t.Skipf("NOT TESTED here: %v", tr.Lacks())
	}
	g, err := tr.Make("default.eater", Limits{Memory: 16 << 20, PIDs: 100})
	if err != nil {
		t.Fatal(err)
	}
	err = in(t, g, `x=0123456789abcdef; while :; do x=$x$x; done`).Wait()
	if err == nil || g.Memory() != 16<<20 {
		t.Errorf("it ended with %v, for the limit %d", err, g.Memory())
	}
}

func has(tr *Tree, controller string) bool {
	for _, c := range tr.has {
		if c == controller {
			return true
		}
	}
	return false
}

// What is written is what the kernel's documentation (cgroup-v2) wants.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name   string
		has    []string
		limits Limits
		want   map[string]string
	}{
		{"all", controllers, Limits{Memory: 64 << 20, CPU: 1500, PIDs: 4096}, map[string]string{
			"memory.swap.max": "0", "memory.oom.group": "1", "memory.max": "67108864", "cpu.max": "150000 100000", "pids.max": "4096"}},
		{"a hundredth of a core", controllers, Limits{CPU: 10}, map[string]string{"cpu.max": "1000 100000"}},
		{"less than the kernel takes", controllers, Limits{CPU: 1}, map[string]string{"cpu.max": "1000 100000"}},
		{"none", controllers, Limits{}, nil},
		{"memory alone", []string{"memory"}, Limits{Memory: 1, CPU: 1, PIDs: 1}, map[string]string{
			"memory.swap.max": "0", "memory.oom.group": "1", "memory.max": "1"}},
		{"no controller", nil, Limits{Memory: 1, CPU: 1, PIDs: 1}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := &Tree{dir: t.TempDir(), has: test.has}
			g, err := tr.Make("p", test.limits)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			files, err := os.ReadDir(g.dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				text, err := os.ReadFile(filepath.Join(g.dir, f.Name()))
				if err != nil {
					t.Fatal(err)
				}
				got[f.Name()] = string(text)
			}
			if len(got) != len(test.want) || len(got) > 0 && !cmp.Equal(got, test.want) {
				t.Error(cmp.Diff(test.want, got))
			}
		})
	}
}

func TestMemoryExceeded(t *testing.T) {
	g := &Group{dir: t.TempDir(), memory: 5}
	for _, test := range []struct {
		events string
		want   int64
	}{{"", 0}, {"low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n", 0}, {"oom 1\noom_kill 3\n", 5}} {
		if err := os.WriteFile(filepath.Join(g.dir, "memory.events"), []byte(test.events), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := g.Memory(); got != test.want {
			t.Errorf("%d of %q, want %d", got, test.events, test.want)
		}
	}
}

// Without cgroup v2 there are no groups, and pods run all the same.
func TestNoTree(t *testing.T) {
	tr := open(filepath.Join(t.TempDir(), "nowhere"), "aisle")
	if tr.Lacks() == nil || tr.Dir() != "" {
		t.Fatalf("%+v, want what it lacks", tr)
	}
	g, err := tr.Make("p", Limits{Memory: 1})
	if g != nil || err != nil {
		t.Errorf("%v, %v", g, err)
	}
	if err := errors.Join(g.Kill(), g.Remove(0), tr.Close(0)); err != nil || g.Memory() != 0 || g.Populated() {
		t.Errorf("no group: %v", err)
	}
}

func TestFind(t *testing.T) {
	const v2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	for _, test := range []struct{ name, groups, mounts, want string }{
		{"a session", "0::/user.slice/user-1000.slice/session-3.scope\n", v2, "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope"},
		{"the first", "0::/\n", v2, "/sys/fs/cgroup"},
		{"v1 and v2", "4:memory:/x\n0::/\n", "40 30 0:35 / /sys/fs/cgroup/unified rw shared:2 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"a part is mounted", "0::/docker/abc/x\n", "29 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/x"},
		{"another part is mounted", "0::/docker/abc\n", "29 23 0:26 /docker/def /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", ""},
		{"v1 alone", "4:memory:/x\n", "40 30 0:35 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", ""},
		{"nonsense", "0::\n", "- cgroup2\n\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := find([]byte(test.groups), []byte(test.mounts))
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
}
