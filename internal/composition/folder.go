package composition

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
)

// ParseIn checks the composition that is the file name among the files of a
// ConfigMap, and what it names beside it.
func ParseIn(files map[string][]byte, name string) (*Composition, error) {
	return Parse(files[name], folder{files, path.Dir(name)})
}

// folder is a folder of files in memory.
type folder struct {
	files map[string][]byte
	at    string
}

// Open implements [fs.FS].
func (f folder) Open(name string) (fs.File, error) {
	data, ok := f.files[path.Join(f.at, name)]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return content{bytes.NewReader(data)}, nil
}

// content is a file of a folder; nobody asks for its FileInfo.
type content struct{ *bytes.Reader }

func (content) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
func (content) Close() error               { return nil }
