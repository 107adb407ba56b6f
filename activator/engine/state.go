package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"aisle.dev/aisle/activator/engine/durable"
)

// The data directory holds
//
//	engine.lock    locked by the engine that uses it; its pid
//	engine.sock    the admin socket
//	state.json     the layout's number
//	objects/       the Kubernetes objects: see package objects
//	leads/         how long pods take to get ready, by service
//	events/        what the broker keeps
//	audit.log[.1]  what changed the bounds of services: see package audit
//	usage/         what services used, a file per day: see package usage
//	pods/NS/POD/   a running pod's volumes and process; gone with the pod
//	logs/NS/POD.log[.1]
//	cgroup         where the pods' control groups are
const (
	lockName    = "engine.lock"
	stateName   = "state.json"
	objectsName = "objects"
	leadsName   = "leads"
	usageName   = "usage"
	layout      = 2 // of the data directory; a larger number is a newer engine's
)

// state is what state.json says.
type state struct {
	Layout int `json:"layout"`
	// Counted is how many revisions of a service, by namespace/name, an engine
	// of layout 1 had made: it kept the numbers and not the revisions. They go
	// on from there, since names of revisions are in logs and answers.
	Counted map[string]int64 `json:"counted,omitempty"`
}

// openState reads the data directory's layout, or brings an older one to this
// engine's.
func openState(dataDir string) (state, error) {
	path := filepath.Join(dataDir, stateName)
	s := state{Layout: layout}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, s.write(path)
	case err != nil:
		return s, fmt.Errorf("read the engine's state: %w", err)
	}
	var found struct {
		state
		Services map[string]struct {
			Generation int64 `json:"generation"`
		} `json:"services"` // of layout 1
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return s, fmt.Errorf("read the engine's state %s: %w; move the data directory away to begin anew", path, err)
	}
	switch found.Layout {
	case layout:
		return found.state, nil
	case 1:
		s.Counted = map[string]int64{}
		for name, service := range found.Services {
			s.Counted[name] = service.Generation
		}
		return s, s.write(path)
	}
	return s, fmt.Errorf("%s is of a data directory with layout %d, and this engine knows those up to %d; use the engine that made it, or another --data-dir", path, found.Layout, layout)
}

// write replaces the file so that a crash leaves the old one or the new one.
func (s state) write(path string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = durable.Replace(path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the engine's state: %w", err)
	}
	return nil
}

// lock makes the data directory and takes it for this process. The lock goes
// with the returned file, or with the process.
func lock(dataDir string) (*os.File, error) {
	if err := makePrivate(dataDir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dataDir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the data directory %s: %w", dataDir, err)
		}
		who := make([]byte, 32)
		n, _ := f.ReadAt(who, 0) // only for the message
		return nil, fmt.Errorf("another engine (process %s) uses the data directory %s; stop it, or give this one another --data-dir",
			strings.TrimSpace(string(who[:n])), dataDir)
	}
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := errors.Join(f.Truncate(0), writeAt(f, pid)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return f, nil
}

// makePrivate makes the data directory, or makes one that is there its owner's
// only. One that others may enter and that holds something else is none: it
// may be /tmp.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w; choose another --data-dir", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	ours := func(e os.DirEntry) bool { return e.Name() == lockName }
	if len(entries) > 0 && !slices.ContainsFunc(entries, ours) {
		return fmt.Errorf("%s is no engine's data directory: it holds other files and others may read it; choose another --data-dir", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory its owner's only: %w; choose another --data-dir", err)
	}
	return nil
}

func writeAt(f *os.File, text []byte) error {
	_, err := f.WriteAt(text, 0)
	return err
}
