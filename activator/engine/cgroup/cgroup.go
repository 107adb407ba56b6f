// Package cgroup gives each pod a control group (cgroup v2), which bounds
// what the pod uses and holds on to everything that it has started.
//
// Guarantees:
//   - Whatever a pod's process forks is in the pod's group, also when it has
//     left its process group and session, and is killed with it.
//   - A limit that a group has been given is the kernel's to enforce: a pod
//     that exceeds its memory is killed alone, with all of its processes.
//   - A limit that cannot be enforced here is named, with the reason and what
//     would permit it: [Tree.Lacks].
//   - Groups go with their pods, and those of a killed engine with the next
//     one: [Sweep].
//
// Where the engine may make no groups, or there is no cgroup v2, it makes
// none, and says so; pods run all the same.
//
// Non-goals: cgroup v1, and shares of what is not limited.
package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a pod; 0 is none.
type Limits struct {
	Memory int64 // bytes
	CPU    int64 // thousandths of a core
	PIDs   int64 // processes and threads
}

// controllers enforce the limits, in the order in which they are named.
var controllers = []string{"memory", "cpu", "pids"}

// Tree is the engine's group, with a group for each pod below it.
type Tree struct {
	dir   string // empty: no groups can be made
	has   []string
	lacks error
}

// how permits limits: systemd gives a group of its own, with its controllers.
const how = "start the engine by: systemd-run --user --scope -p Delegate=yes aisle up"

// Open makes the group name below the group that this process is in. What
// cannot be enforced is in the tree's Lacks; a tree that can enforce nothing
// makes groups all the same, or none if it may not.
func Open(name string) *Tree {
	own, err := ownGroup()
	if err != nil {
		return &Tree{lacks: err}
	}
	return open(own, name)
}

func open(own, name string) *Tree {
	t := &Tree{dir: filepath.Join(own, name)}
	if err := os.Mkdir(t.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return &Tree{lacks: fmt.Errorf("make a control group: %w; %s", err, how)}
	}
	if err := t.usable(); err != nil {
		_ = os.Remove(t.dir) // an empty group costs nothing
		return &Tree{lacks: fmt.Errorf("start a process in a control group: %w; %s", err, how)}
	}
	var missing []string
	var failed []error
	offered := words(filepath.Join(own, "cgroup.controllers"))
	for _, c := range controllers {
		if !slices.Contains(offered, c) {
			missing = append(missing, c)
			continue
		}
		err := enable(own, c)
		if errors.Is(err, unix.EBUSY) {
			err = enableBeside(own, name+"-engine", c)
		}
		if err == nil {
			err = enable(t.dir, c)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("enable the %s controller: %w; %s", c, err, how))
			continue
		}
		t.has = append(t.has, c)
	}
	if len(missing) > 0 {
		permit := how
		if _, err := os.Stat(filepath.Join(own, "cgroup.type")); errors.Is(err, fs.ErrNotExist) {
			// The machine's first group: nobody could delegate them.
			permit = "they are cgroup v1's on this machine: boot it with systemd.unified_cgroup_hierarchy=1"
		}
		failed = append(failed, fmt.Errorf("the control group %s has no controller for %s; %s", own, strings.Join(missing, ", "), permit))
	}
	t.lacks = errors.Join(failed...)
	return t
}

// Lacks says which limits (memory, cpu, pids) are not enforced, why, and what
// would permit it; nil means that all are.
func (t *Tree) Lacks() error { return t.lacks }

// Dir is where the tree is, for [Sweep]; empty where there is none.
func (t *Tree) Dir() string { return t.dir }

// usable tries whether a process can be started in a group: a program that
// does not exist is what must be complained about.
func (t *Tree) usable() error {
	g := &Group{dir: t.dir}
	f, err := g.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = os.StartProcess("/nonexistent/program", nil, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())},
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// enable passes a controller on to the groups below dir.
func enable(dir, controller string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	if slices.Contains(words(file), controller) {
		return nil
	}
	return os.WriteFile(file, []byte("+"+controller), 0o644)
}

// enableBeside is enable for a group that has processes in it, which passes no
// controllers on unless it is the machine's first: if this process is the only
// one, it moves into a group of its own beside the pods'.
func enableBeside(own, name, controller string) error {
	leaf, self := filepath.Join(own, name), []byte(strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), self, 0o644); err != nil {
		return err
	}
	err := enable(own, controller)
	if errors.Is(err, unix.EBUSY) { // others are in it too: as it was before
		_ = os.WriteFile(filepath.Join(own, "cgroup.procs"), self, 0o644)
		_ = os.Remove(leaf)
		return fmt.Errorf("%w: other processes are in the engine's group %s", err, own)
	}
	return err
}

// words are what a file of the kernel's lists; none where it cannot be read.
func words(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// ownGroup is the folder of the group that this process is in.
func ownGroup() (string, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find the engine's control group: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find the control groups: %w", err)
	}
	return find(groups, mounts)
}

// find reads /proc/self/cgroup (cgroups(7)) and /proc/self/mountinfo
// (proc_pid_mountinfo(5)).
func find(groups, mounts []byte) (string, error) {
	own := ""
	for line := range bytes.Lines(groups) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), "0::"); ok {
			own = path
		}
	}
	for lines := bufio.NewScanner(bytes.NewReader(mounts)); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		f := strings.Fields(before)
		if !ok || len(f) < 6 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		// f[3] is what of the hierarchy is mounted, f[4] where.
		below, err := filepath.Rel(f[3], own)
		if own == "" || err != nil || !filepath.IsLocal(below) {
			continue
		}
		return filepath.Join(f[4], below), nil
	}
	return "", errors.New("there is no cgroup v2 on this machine; boot it with systemd.unified_cgroup_hierarchy=1")
}

// Make makes a group for a pod. The name must be new. It returns nil, which
// is a group that bounds and holds nothing, where no groups can be made.
func (t *Tree) Make(name string, l Limits) (*Group, error) {
	if t.dir == "" {
		return nil, nil
	}
	g := &Group{dir: filepath.Join(t.dir, name)}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	if err := t.limit(g, l); err != nil {
		_ = os.Remove(g.dir) // the next engine sweeps it
		return nil, fmt.Errorf("limit a control group: %w", err)
	}
	return g, nil
}

// period of cpu.max, the kernel's default; a quota has at least a thousandth
// of a second.
const (
	period   = 100_000
	minQuota = 1_000
)

func (t *Tree) limit(g *Group, l Limits) error {
	set := func(file, value string) error {
		return os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0o644)
	}
	var errs []error
	if slices.Contains(t.has, "memory") && l.Memory > 0 {
		// As the kubelet does: one process that finds no memory is the end of
		// all, and swap is no memory. A kernel without swap has no file for it.
		if err := set("memory.swap.max", "0"); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			errs = append(errs, err)
		}
		errs = append(errs, set("memory.oom.group", "1"), set("memory.max", strconv.FormatInt(l.Memory, 10)))
		g.memory = l.Memory
	}
	if slices.Contains(t.has, "cpu") && l.CPU > 0 {
		errs = append(errs, set("cpu.max", fmt.Sprintf("%d %d", max(minQuota, l.CPU*period/1000), period)))
	}
	if slices.Contains(t.has, "pids") && l.PIDs > 0 {
		errs = append(errs, set("pids.max", strconv.FormatInt(l.PIDs, 10)))
	}
	return errors.Join(errs...)
}

// Close ends everything that is left in the tree, and removes it.
func (t *Tree) Close(patience time.Duration) error {
	if t.dir == "" {
		return nil
	}
	return (&Group{dir: t.dir}).Remove(patience)
}

// Sweep ends everything in the tree that a killed engine left at dir, and
// removes it. A tree that is not there is swept. dir must be what
// [Tree.Dir] gave.
func Sweep(dir string, patience time.Duration) error {
	var fsys unix.Statfs_t
	switch err := unix.Statfs(dir, &fsys); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for an earlier engine's control groups: %w", err)
	case fsys.Type != unix.CGROUP2_SUPER_MAGIC:
		return fmt.Errorf("%s is no control group", dir)
	}
	return (&Group{dir: dir}).Remove(patience)
}
