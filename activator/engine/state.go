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
	"sync"

	"golang.org/x/sys/unix"
)

// The data directory holds
//
//	engine.lock    locked by the engine that uses it; its pid
//	engine.sock    the admin socket
//	state.json     generations of services, and which had their initial scale
//	pods/NS/POD/   a running pod's volumes and process; gone with the pod
//	logs/NS/POD.log[.1]
const (
	lockName  = "engine.lock"
	stateName = "state.json"
	layout    = 1 // of the data directory; another number is another engine's
)

// serviceState is what is remembered of a service from one engine to the next.
type serviceState struct {
	Generation int64  `json:"generation"`
	Digest     string `json:"digest"` // of the generation's template and command
	// Initialised: the revision has had its initial scale, and is left as
	// idle as it was.
	Initialised bool `json:"initialised"`
}

// stateFile is the engine's memory.
type stateFile struct {
	path string

	mu       sync.Mutex // guards what follows, and the file
	services map[string]serviceState
}

type stateText struct {
	Layout   int                     `json:"layout"`
	Services map[string]serviceState `json:"services"` // by namespace/name
}

func openState(dataDir string) (*stateFile, error) {
	s := &stateFile{path: filepath.Join(dataDir, stateName), services: map[string]serviceState{}}
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.write()
	}
	if err != nil {
		return nil, fmt.Errorf("read the engine's state: %w", err)
	}
	var t stateText
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("read the engine's state %s: %w; move the data directory away to begin anew", s.path, err)
	}
	if t.Layout != layout {
		return nil, fmt.Errorf("%s is of a data directory with layout %d, and this engine knows %d; use the engine that made it, or another --data-dir", s.path, t.Layout, layout)
	}
	for name, st := range t.Services {
		s.services[name] = st
	}
	return s, nil
}

// generation returns the service's state with the given digest: the next
// generation if the digest is another one than before.
func (s *stateFile) generation(service, digest string) (serviceState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.services[service]
	if st.Generation > 0 && st.Digest == digest {
		return st, nil
	}
	st = serviceState{Generation: st.Generation + 1, Digest: digest}
	s.services[service] = st
	return st, s.write()
}

// initialised remembers that the service's revision has had its initial scale.
func (s *stateFile) initialised(service string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.services[service]
	if st.Initialised {
		return nil
	}
	st.Initialised = true
	s.services[service] = st
	return s.write()
}

// write replaces the file so that a crash leaves the old one or the new one.
// REQUIRES: s.mu is held, or nobody else has s yet.
func (s *stateFile) write() error {
	text, err := json.MarshalIndent(stateText{layout, s.services}, "", "  ")
	if err == nil {
		err = replace(s.path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the engine's state: %w", err)
	}
	return nil
}

func replace(path string, text []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
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
		return fmt.Errorf("make the data directory: %w", err)
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
		return fmt.Errorf("make the data directory its owner's only: %w", err)
	}
	return nil
}

func writeAt(f *os.File, text []byte) error {
	_, err := f.WriteAt(text, 0)
	return err
}
