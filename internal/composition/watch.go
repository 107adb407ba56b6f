package composition

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// File is a composition file that may be replaced while it is in use, as
// kubelet does by swapping a symbolic link. It is not safe for concurrent use.
type File struct {
	path string
	seen map[string]stamp // of each file that was opened when it was last read
}

// stamp tells one version of a file from the next.
type stamp struct {
	inode    fs.FileInfo // for [os.SameFile]; nil: it was not there
	modified time.Time
	size     int64
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info, info.ModTime(), info.Size()}
}

func (s stamp) equal(o stamp) bool {
	if s.inode == nil || o.inode == nil {
		return s.inode == nil && o.inode == nil
	}
	return os.SameFile(s.inode, o.inode) && s.modified.Equal(o.modified) && s.size == o.size
}

// Open reads the composition at path for the first time, as [Load] does.
func Open(path string) (*File, *Composition, error) {
	f := &File{path: path}
	c, err := f.read()
	return f, c, err
}

// Changed reports whether the file, or one that it named, is another one than
// when it was last read, and if so reads it again. The error is of what is
// there now.
func (f *File) Changed() (c *Composition, changed bool, err error) {
	if f.same(f.seen) {
		return nil, false, nil
	}
	c, err = f.read()
	return c, true, err
}

// read reads all files, and once more if some of them were replaced meanwhile,
// so that no two versions are mixed.
func (f *File) read() (c *Composition, err error) {
	for range 3 {
		dir := &watched{os.DirFS(filepath.Dir(f.path)), filepath.Dir(f.path), map[string]stamp{}}
		c, err = load(dir, f.path)
		if f.seen = dir.seen; f.same(f.seen) {
			return c, err
		}
	}
	f.seen = nil // they go on changing: look again
	return c, err
}

func (f *File) same(seen map[string]stamp) bool {
	for path, s := range seen {
		if !stampOf(path).equal(s) {
			return false
		}
	}
	return seen != nil
}

// watched is a folder that remembers which version of each file was opened.
type watched struct {
	fs.FS
	at   string
	seen map[string]stamp // by path
}

// Open implements [fs.FS].
func (w *watched) Open(name string) (fs.File, error) {
	path := filepath.Join(w.at, filepath.FromSlash(name))
	if _, before := w.seen[path]; !before {
		w.seen[path] = stampOf(path) // before it is read: a later version differs
	}
	return w.FS.Open(name)
}
