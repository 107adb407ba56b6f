package main

import (
	"context"
	"encoding/json"
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
)

// A process is one that was started here. Its start time, in clock ticks since
// the machine's boot, tells it from a later one with the same id.
type process struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"`
	BootID string `json:"bootID"`
}

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// processOf describes a running process.
func processOf(pid int) (process, error) {
	start, _, err := stat(pid)
	return process{pid, start, bootID()}, err
}

// stat gives a process's start time and state.
func stat(pid int) (start uint64, state string, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", err
	}
	// The second field is the command's name in parentheses, which may hold any
	// character; the state is the third field, the start time the 22nd.
	_, rest, ok := cutLast(string(text), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, "", fmt.Errorf("/proc/%d/stat holds %q", pid, text)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0], err
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// alive reports whether it is still the same process, and no zombie.
func (p process) alive() bool {
	start, state, err := stat(p.PID)
	return p.PID > 0 && err == nil && start == p.Start && state != "Z" && state != "X" && p.BootID == bootID()
}

// signal sends one, if it is still the same process. A pidfd closes the gap
// between looking and sending.
func (p process) signal(s syscall.Signal) error {
	handle, err := os.FindProcess(p.PID)
	if err != nil {
		return err
	}
	defer handle.Release()
	if !p.alive() {
		return os.ErrProcessDone
	}
	return handle.Signal(s)
}

// end asks a process to end, and kills it if it has not within grace.
func (p process) end(ctx context.Context, grace time.Duration) error {
	gone := func(context.Context) error {
		if p.alive() {
			return fmt.Errorf("process %d runs", p.PID)
		}
		return nil
	}
	if grace > 0 {
		_ = p.signal(syscall.SIGTERM) // looked at below
		if within(ctx, grace, "end", gone) == nil {
			return nil
		}
	}
	_ = p.signal(syscall.SIGKILL)
	return within(context.WithoutCancel(ctx), 10*time.Second, fmt.Sprintf("process %d to die", p.PID), gone)
}

// record keeps a process in a file, whole or not at all.
func record(path string, p process) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return writeFile(path, text, 0o600)
}

// recorded reads it; no file is no process.
func recorded(path string) (p process, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	return p, err
}

// allRecorded gives the processes in a folder of records by name.
func allRecorded(dir string) map[string]process {
	all := map[string]process{}
	files, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	slices.Sort(files)
	for _, f := range files {
		if p, err := recorded(f); err == nil {
			all[strings.TrimSuffix(filepath.Base(f), ".json")] = p
		}
	}
	return all
}

// writeFile replaces a file at once, making its folder.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, data, mode); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
