package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kubelet sets these for the whole machine.
var machineSysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// Folders outside the state directory that a node makes, whatever it is told.
var fixedFolders = []string{
	"/var/lib/kubelet", "/var/lib/cni", "/run/containerd", "/var/log/containers", "/var/log/pods", "/opt/containerd", "/usr/libexec/kubernetes",
}

// before is what the machine was like without a cluster.
type before struct {
	BootID  string            `json:"bootID"`
	Sysctls map[string]string `json:"sysctls"`
	Absent  []string          `json:"absent"` // folders and cgroups that were not there
}

// remember writes down what the machine is like, once: after a run that was
// killed, what was written at its beginning still holds.
func remember(l layout) error {
	if b, err := remembered(l); err == nil && b.BootID == bootID() {
		return nil
	}
	b := before{BootID: bootID(), Sysctls: map[string]string{}}
	for _, name := range machineSysctls {
		if text, err := os.ReadFile("/proc/sys/" + name); err == nil {
			b.Sysctls[name] = strings.TrimSpace(string(text))
		}
	}
	for _, path := range append(slices.Clone(fixedFolders), cgroups()...) {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			b.Absent = append(b.Absent, path)
		} else if filepath.Base(path) == "kubepods" && hasProcesses(path) {
			return fmt.Errorf("%s holds processes: another Kubernetes node runs on this machine; stop it first", path)
		}
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(l.before(), text, 0o600)
}

func remembered(l layout) (b before, err error) {
	text, err := os.ReadFile(l.before())
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	return b, err
}

// cgroups are those that the kubelet makes, one for each controller in version 1.
func cgroups() []string {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	paths := []string{"/sys/fs/cgroup/kubepods"}
	for _, r := range roots {
		if dir := filepath.Dir(r); filepath.Base(dir) != "kubepods" {
			paths = append(paths, filepath.Join(dir, "kubepods"))
		}
	}
	return paths
}

func hasProcesses(cgroup string) (found bool) {
	_ = filepath.WalkDir(cgroup, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == "cgroup.procs" {
			if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
				found = true
				return fs.SkipAll
			}
		}
		return nil
	})
	return found
}

// sweep takes away everything that a node left, whether it was ended or killed.
// What was built and the logs stay. It goes on after an error and says all.
func sweep(ctx context.Context, l layout) error {
	var errs []error
	// 1. A keeper that its harness did not live to record, and whatever else runs
	// a program of the state directory: the keeper's children die with it.
	left, err := ofPrograms(l)
	errs = append(errs, err)
	for _, p := range left {
		errs = append(errs, p.end(ctx, 0))
	}
	// 2. The node's parts, which should be gone with their keeper.
	for name, p := range allRecorded(l.processes()) {
		if err := p.end(ctx, 0); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	// 3. Containers and their shims: nobody's children once containerd is gone.
	// A shim is killed first, so that it starts nothing, and sees nothing to report.
	for range 3 {
		left, err := containers(l)
		if errs = append(errs, err); len(left) == 0 {
			break
		}
		for _, p := range left {
			_ = p.signal(syscall.SIGKILL) // all at once; waited for below
		}
		for _, p := range left {
			errs = append(errs, p.end(ctx, 0))
		}
	}
	// 4. The link, with its routes. The namespace at its other end may take a
	// moment to end after its last process.
	_ = exec.CommandContext(ctx, "ip", "link", "delete", hostLink).Run() // asked for below
	errs = append(errs, within(ctx, 10*time.Second, "the link to go", func(context.Context) error {
		if _, err := os.Stat("/sys/class/net/" + hostLink); err == nil {
			return fmt.Errorf("%s is there", hostLink)
		}
		return nil
	}))
	// 5. Mounts, the deepest first; then cgroups and files.
	errs = append(errs, unmount(l.root))
	b, err := remembered(l)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = before{}, nil // no node has begun
	}
	errs = append(errs, err)
	errs = append(errs, removeTraces(ctx, l, b)...)
	if b.BootID == bootID() {
		for name, value := range b.Sysctls {
			if text, err := os.ReadFile("/proc/sys/" + name); err == nil && strings.TrimSpace(string(text)) != value {
				errs = append(errs, os.WriteFile("/proc/sys/"+name, []byte(value), 0o644))
			}
		}
	}
	errs = append(errs, os.RemoveAll(l.run()))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up after the node: %w", err)
	}
	if err := os.Remove(l.before()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeTraces removes what lies in fixed places, and only what is this node's.
func removeTraces(ctx context.Context, l layout, b before) (errs []error) {
	for _, path := range b.Absent {
		if filepath.Base(path) != "kubepods" {
			continue
		}
		errs = append(errs, within(ctx, 10*time.Second, "cgroups to empty", func(context.Context) error { return removeCgroup(path) }))
	}
	links, _ := filepath.Glob("/var/log/containers/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, l.root+"/") {
			errs = append(errs, os.Remove(link))
		}
	}
	results, _ := filepath.Glob("/var/lib/cni/results/" + networkName + "-*")
	for _, f := range results {
		errs = append(errs, os.Remove(f))
	}
	listening, err := os.ReadFile("/proc/net/unix")
	sockets, _ := filepath.Glob("/run/containerd/s/*")
	for _, s := range sockets {
		if err == nil && !strings.Contains(string(listening), s) { // its shim is gone
			errs = append(errs, os.Remove(s))
		}
	}
	for _, path := range b.Absent {
		if slices.Contains(fixedFolders, path) {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errs
}

// removeCgroup removes a cgroup and those in it; rmdir(2) is the one way, since
// the files in them cannot be removed.
func removeCgroup(path string) error {
	var dirs []string
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		if e := unix.Rmdir(dir); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove %s: %w", dir, e))
		}
	}
	return err
}

// eachProcess looks at every process but this one; dir is its folder in /proc.
func eachProcess(look func(p process, dir string)) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if p, err := processOf(pid); err == nil && p.alive() { // else it has just ended
			look(p, dir)
		}
	}
	return err
}

// arguments are what a process was started with, its name first.
func arguments(dir string) []string {
	command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	return strings.Split(string(command), "\x00")
}

// ofPrograms finds the processes that run a program of the state directory.
func ofPrograms(l layout) (found []process, err error) {
	err = eachProcess(func(p process, dir string) {
		if file, err := os.Readlink(filepath.Join(dir, "exe")); err == nil && strings.HasPrefix(file, l.root+"/") {
			found = append(found, p)
		}
	})
	return found, err
}

// builders finds the compilers of a build whose harness was killed.
func builders(l layout) (found []process, err error) {
	err = eachProcess(func(p process, dir string) {
		if slices.ContainsFunc(arguments(dir), func(arg string) bool { return strings.HasPrefix(arg, l.path("build-")) }) {
			found = append(found, p)
		}
	})
	return found, err
}

// containers finds the shims and containers of this node's containerd: a shim
// by the socket that it is told, a container by the file system that it stands on.
func containers(l layout) ([]process, error) {
	var shims, inside []process
	err := eachProcess(func(p process, dir string) {
		args := arguments(dir)
		if strings.HasSuffix(args[0], "containerd-shim-runc-v2") && slices.Contains(args, l.containerdSocket()) {
			shims = append(shims, p)
			return
		}
		table, _ := os.ReadFile(filepath.Join(dir, "mountinfo"))
		if standsOn(string(table), l.root) {
			inside = append(inside, p)
		}
	})
	return append(shims, inside...), err
}

// standsOn reports whether the root of a mount table is an overlay of folders
// below dir.
func standsOn(mountinfo, dir string) bool {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[4] != "/" {
			continue
		}
		for option := range strings.SplitSeq(fields[len(fields)-1], ",") {
			if strings.HasPrefix(option, "upperdir="+dir+"/") {
				return true
			}
		}
	}
	return false
}

// unmount takes down every mount below dir.
func unmount(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	var points []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 {
			// Spaces and the like are written in octal.
			point := unoctal(fields[4])
			if strings.HasPrefix(point, dir+"/") {
				points = append(points, point)
			}
		}
	}
	var errs []error
	for _, point := range slices.Backward(points) { // later ones may lie on earlier ones
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

func unoctal(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
