package objects

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An object lies in RESOURCE.GROUP/NAMESPACE/NAME.json below the store's
// folder, with its origin beside it.
type file struct {
	Origin
	Object json.RawMessage `json:"object"`
}

const ending = ".json"

// Damaged is a file that could not be read as an object. It stays where it is.
type Damaged struct {
	Path string
	Err  error
}

// Open reads the store in a folder, which is made if it is missing. Nobody
// else may use it. Files that cannot be read are told of and left out.
func Open(dir string) (*Store, []Damaged, error) {
	s := &Store{dir: dir, records: map[Key]record{}, changed: make(chan struct{})}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("open the objects: %w", err)
	}
	var bad []Damaged
	largest := int64(0)
	for _, r := range All {
		if r.Live {
			continue
		}
		files, err := filepath.Glob(filepath.Join(s.folder(r), "*", "*"+ending))
		if err != nil {
			return nil, nil, fmt.Errorf("open the objects: %w", err)
		}
		for _, path := range files {
			rec, err := read(r, path)
			if err != nil {
				bad = append(bad, Damaged{path, err})
				continue
			}
			if len(s.records) == MaxObjects {
				return nil, bad, fmt.Errorf("open the objects: %s has more than %d", dir, MaxObjects)
			}
			if v, err := strconv.ParseInt(rec.object.GetResourceVersion(), 10, 64); err == nil {
				largest = max(largest, v)
			}
			s.records[r.Key(rec.object.GetNamespace(), rec.object.GetName())] = rec
		}
	}
	s.version = first(largest, time.Now())
	s.begin = s.version
	return s, bad, nil
}

func (s *Store) folder(r Resource) string { return filepath.Join(s.dir, r.GroupResource().String()) }

func (s *Store) path(k Key) string {
	return filepath.Join(s.dir, k.GroupResource().String(), k.Namespace, k.Name+ending)
}

func read(r Resource, path string) (record, error) {
	f, err := os.Open(path)
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return record{}, err
	}
	if len(text) > MaxBytes {
		return record{}, fmt.Errorf("it has more than %d bytes", MaxBytes)
	}
	var in file
	if err := json.Unmarshal(text, &in); err != nil {
		return record{}, err
	}
	o := r.new()
	if err := json.Unmarshal(in.Object, o); err != nil {
		return record{}, err
	}
	got, ok := ResourceOf(o)
	namespace, name := filepath.Base(filepath.Dir(path)), strings.TrimSuffix(filepath.Base(path), ending)
	if !ok || got.GroupVersionResource != r.GroupVersionResource || o.GetNamespace() != namespace || o.GetName() != name {
		return record{}, errors.New("it is another object than its name says")
	}
	return record{in.Origin, o}, nil
}

// manyFiles is from how many on files are synced all at once, with the file
// system.
const manyFiles = 16

// save writes changes to disk: first all new files, then their names.
// REQUIRES: s.writing is held.
func (s *Store) save(changes []Change) (err error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			for _, f := range files {
				_ = os.Remove(f.Name()) // the next write of the object replaces it
			}
		}
	}()
	var paths []string
	for _, c := range changes {
		if c.Object == nil {
			continue
		}
		f, err := s.stage(c)
		if err != nil {
			return err
		}
		files, paths = append(files, f), append(paths, s.path(c.Key))
	}
	for i, f := range files {
		if len(files) < manyFiles {
			err = f.Sync()
		} else if i == 0 {
			err = unix.Syncfs(int(f.Fd()))
		}
		if err != nil {
			return err
		}
	}
	folders := map[string]bool{}
	for i, f := range files {
		if err := os.Rename(f.Name(), paths[i]); err != nil {
			return err
		}
		folders[filepath.Dir(paths[i])] = true
	}
	for _, c := range changes {
		if c.Object != nil {
			continue
		}
		if err := os.Remove(s.path(c.Key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		folders[filepath.Dir(s.path(c.Key))] = true
	}
	for folder := range folders {
		if err := syncFolder(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// stage writes the file that is to become an object's.
func (s *Store) stage(c Change) (*os.File, error) {
	text, err := json.Marshal(c.Object)
	if err == nil {
		text, err = json.Marshal(file{c.Origin, text})
	}
	if err != nil {
		return nil, err
	}
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("%s has %d bytes; an object has at most %d", c.Key, len(text), MaxBytes)
	}
	path := s.path(c.Key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(text); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
