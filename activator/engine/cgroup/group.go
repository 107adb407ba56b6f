package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Group is the group of one pod. A nil Group holds nothing.
type Group struct {
	dir    string
	memory int64 // its limit; 0: none
}

// Open opens the group, for a process to be started in it.
func (g *Group) Open() (*os.File, error) {
	f, err := os.Open(g.dir)
	if err != nil {
		return nil, fmt.Errorf("open a control group: %w", err)
	}
	return f, nil
}

// Kill kills every process in the group, those that are being forked too.
func (g *Group) Kill() error {
	if g == nil {
		return nil
	}
	if err := os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0o644); err != nil {
		return fmt.Errorf("kill a control group: %w", err)
	}
	return nil
}

// Memory returns the limit that a process of the group was killed for, or 0.
func (g *Group) Memory() (exceeded int64) {
	if g == nil || g.memory == 0 || g.count("memory.events", "oom_kill") == 0 {
		return 0
	}
	return g.memory
}

// Populated reports whether a process of the group lives.
func (g *Group) Populated() bool {
	return g != nil && g.count("cgroup.events", "populated") > 0
}

// count is one line's number of a flat keyed file, 0 if there is none.
func (g *Group) count(file, key string) int64 {
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64) // the kernel's own number
			return n
		}
	}
	return 0
}

// Remove kills what is in the group, waits for its end and removes it. It may
// be called again.
func (g *Group) Remove(patience time.Duration) error {
	if g == nil {
		return nil
	}
	deadline := time.Now().Add(patience)
	for {
		err := removeEmpty(g.dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove a control group: %w; its processes do not end although they were killed", err)
		}
		if err := g.Kill(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// removeEmpty removes a group with those that its processes have made in it.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() { // the rest are the kernel's files, which go with the group
			err := removeEmpty(filepath.Join(dir, e.Name()))
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // its pod's reaper was faster
				return err
			}
		}
	}
	return os.Remove(dir)
}
