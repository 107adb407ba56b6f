package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// What a folder may cost to read. A ConfigMap holds at most 1 MiB, so no file
// that ends up in one may be larger.
const (
	maxFileBytes  = 1 << 20
	maxTotalBytes = 16 << 20
	maxFiles      = 512
	maxDepth      = 16  // kustomizations, one in another
	maxObjects    = 500 // kustomize compares each with each
)

var errReadOnly = errors.New("manifests are only read")

// tree is kustomize's file system: what lies below one root, read-only, and
// within the limits. Its paths are absolute below the root, "/manifests/base".
type tree struct {
	root    *os.Root
	read    map[string][]byte
	total   int // bytes
	objects int // in all that was read as YAML; a base that is used twice counts twice
	// refused is the first limit that was hit. Kustomize hides it: it takes an
	// unreadable file for a folder.
	refused error
}

func openTree(root string) (*tree, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	return &tree{root: r, read: make(map[string][]byte)}, nil
}

func (t *tree) Close() error { return t.root.Close() }

// local turns a path of ours into one that os.Root takes.
func local(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(p)), "/")
	if p == "" {
		return "."
	}
	return p
}

// ReadFile reads a regular file and remembers it: kustomize reads some files
// several times.
func (t *tree) ReadFile(p string) ([]byte, error) {
	name := local(p)
	if data, ok := t.read[name]; ok {
		return data, nil
	}
	data, err := t.readOnce(name)
	if err != nil {
		if t.refused == nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errIsDir) {
			t.refused = err
		}
		return nil, err
	}
	t.read[name] = data
	return data, nil
}

var errIsDir = errors.New("is a folder")

func (t *tree) readOnce(name string) ([]byte, error) {
	// A named pipe would block the open, a device the read.
	info, err := t.root.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s %w", name, errIsDir)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	case info.Size() > maxFileBytes:
		return nil, fmt.Errorf("%s has %d bytes; a manifest, and a file in a ConfigMap, has at most %d", name, info.Size(), maxFileBytes)
	case len(t.read) >= maxFiles:
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	file, err := t.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxFileBytes)
	}
	if t.total += len(data); t.total > maxTotalBytes {
		return nil, fmt.Errorf("the manifests have more than %d bytes together", maxTotalBytes)
	}
	return data, nil
}

// readYAML is ReadFile for a file that is to be YAML.
func (t *tree) readYAML(p string) ([]byte, error) {
	data, err := t.ReadFile(p)
	if err != nil {
		return nil, err
	}
	objects, err := inspectYAML(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", local(p), err)
	}
	if t.objects += objects; t.objects > maxObjects {
		return nil, fmt.Errorf("%s: more than %d objects, here and before", local(p), maxObjects)
	}
	return data, nil
}

func (t *tree) Exists(p string) bool {
	_, err := t.root.Stat(local(p))
	return err == nil
}

func (t *tree) IsDir(p string) bool {
	info, err := t.root.Stat(local(p))
	return err == nil && info.IsDir()
}

func (t *tree) ReadDir(p string) ([]string, error) {
	entries, err := fs.ReadDir(t.root.FS(), local(p))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (t *tree) CleanedAbs(p string) (filesys.ConfirmedDir, string, error) {
	name := local(p)
	info, err := t.root.Stat(name)
	if err != nil {
		return "", "", err
	}
	abs := path.Join("/", name)
	if info.IsDir() {
		return filesys.ConfirmedDir(abs), "", nil
	}
	return filesys.ConfirmedDir(path.Dir(abs)), path.Base(abs), nil
}

func (t *tree) Glob(pattern string) ([]string, error) {
	found, err := fs.Glob(t.root.FS(), local(pattern))
	for i, f := range found {
		found[i] = "/" + f
	}
	return found, err
}

func (t *tree) Walk(p string, walk filepath.WalkFunc) error {
	return fs.WalkDir(t.root.FS(), local(p), func(name string, entry fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		return walk("/"+name, info, err)
	})
}

// Open gives the file as ReadFile reads it.
func (t *tree) Open(p string) (filesys.File, error) {
	data, err := t.ReadFile(p)
	if err != nil {
		return nil, err
	}
	info, err := t.root.Stat(local(p))
	if err != nil {
		return nil, err
	}
	return &readFile{Reader: bytes.NewReader(data), info: info}, nil
}

type readFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *readFile) Close() error               { return nil }
func (f *readFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *readFile) Write([]byte) (int, error)  { return 0, errReadOnly }

func (t *tree) Create(string) (filesys.File, error) { return nil, errReadOnly }
func (t *tree) Mkdir(string) error                  { return errReadOnly }
func (t *tree) MkdirAll(string) error               { return errReadOnly }
func (t *tree) RemoveAll(string) error              { return errReadOnly }
func (t *tree) WriteFile(string, []byte) error      { return errReadOnly }
