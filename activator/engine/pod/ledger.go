package pod

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// recordName is the file in a pod's folder that names its process.
const recordName = "process.json"

// record names a process so that a later engine can tell it from another one
// that got the same pid.
type record struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // ticks after boot
	BootID    string `json:"bootID"`
}

// Record writes down, in the pod's folder, which process it is. It is not
// synced to the disk: after a power cut the boot id is another, and the record
// is worth nothing.
func Record(dir string, p *Process) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	text, err := json.Marshal(record{p.PID(), p.startTime, boot})
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, recordName+".new")
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return fmt.Errorf("record a pod's process: %w", err)
	}
	return os.Rename(tmp, filepath.Join(dir, recordName))
}

// Leftover is a process that an earlier engine left behind.
type Leftover struct {
	Pod string
	PID int
}

// Reap kills the processes that are recorded in the pods' folders below dir
// and still run, waits until they have gone, removes the folders, and returns
// whom it killed. A process is killed only if it was started at the recorded
// moment, or if it is in the recorded process group, was started after that
// moment, and the group's leader has gone (a group's id is not reused while it
// has a member).
func Reap(dir string, patience time.Duration) ([]Leftover, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*", recordName))
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	var killed []Leftover
	var pids []int
	for _, path := range paths {
		var r record
		text, err := os.ReadFile(path)
		if err == nil && len(bytes.Trim(text, "\x00")) == 0 {
			continue // what a power cut leaves of a file that was not synced; the process went with it
		}
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil {
			return killed, fmt.Errorf("read %s: %w; remove the file once you know that its process has gone", path, err)
		}
		if r.BootID != boot || r.PID <= 1 {
			continue
		}
		members, err := membersOf(r)
		if err != nil {
			return killed, err
		}
		for _, pid := range members {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return killed, fmt.Errorf("kill process %d, left behind by an earlier engine: %w", pid, err)
			}
			killed = append(killed, Leftover{filepath.Base(filepath.Dir(path)), pid})
			pids = append(pids, pid)
		}
	}
	if err := awaitGone(pids, patience); err != nil {
		return killed, err
	}
	if err := removeAll(dir); err != nil {
		return killed, fmt.Errorf("remove the folders of an earlier engine's pods: %w", err)
	}
	return killed, nil
}

// membersOf lists the live processes that belong to a record.
func membersOf(r record) ([]int, error) {
	leader, err := readStat(r.PID)
	switch {
	case err == nil && leader.startTime != r.StartTime:
		return nil, nil // another process now: the recorded group died out before
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH):
		return nil, fmt.Errorf("look for process %d: %w", r.PID, err)
	}
	return members(r.PID, r.StartTime)
}

// awaitGone waits until none of the killed processes runs. They are not
// children of this engine, so it can only look.
func awaitGone(pids []int, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for _, pid := range pids {
		for {
			if s, err := readStat(pid); err != nil || s.state == 'Z' || s.state == 'X' {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d, left behind by an earlier engine, does not end although it was killed", pid)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}
