package feed

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"aisle.dev/aisle/internal/product"
)

// Pictures reads the pictures that items name. A relative path never leads out
// of the folder it is relative to, not even by a symbolic link; what an
// absolute path names must be a picture: a file of products may come from
// anywhere, and shall not make anyone send their keys. It is safe for
// concurrent use.
type Pictures struct {
	beside *os.Root // image paths are relative to it
	byID   *os.Root // nil: none
}

// suffixes are the names under which a product's picture is looked for.
var suffixes = []string{".jpg", ".jpeg", ".png", ".webp"}

// OpenPictures opens the folder that image paths are relative to, and the
// folder of pictures by id, which may be "" for none. An image path that does
// not exist in the first is looked for in the second.
func OpenPictures(beside, byID string) (*Pictures, error) {
	p := &Pictures{}
	var err error
	if p.beside, err = os.OpenRoot(beside); err != nil {
		return nil, fmt.Errorf("open the folder of the pictures: %w", err)
	}
	if byID != "" {
		if p.byID, err = os.OpenRoot(byID); err != nil {
			_ = p.beside.Close() // nothing was read through it
			return nil, fmt.Errorf("open the folder of pictures by id: %w", err)
		}
	}
	return p, nil
}

// Close closes the folders.
func (p *Pictures) Close() error {
	err := p.beside.Close()
	if p.byID != nil {
		err = errors.Join(err, p.byID.Close())
	}
	return err
}

// Append appends the item's picture to dst. It returns dst as it was when the
// item names none and no file has its id; a picture that is named and absent
// is an error.
func (p *Pictures) Append(dst []byte, item Item) ([]byte, error) {
	if item.Picture != "" {
		out, err := p.named(dst, item.Picture)
		switch {
		case errors.Is(err, fs.ErrNotExist) && filepath.IsAbs(item.Picture):
			return dst, fmt.Errorf("line %d: the image %s does not exist", item.Line, clip(item.Picture))
		case errors.Is(err, fs.ErrNotExist):
			return dst, fmt.Errorf("line %d: the image %s does not exist; paths are relative to %s", item.Line, clip(item.Picture), p.beside.Name())
		case err != nil:
			return dst, fmt.Errorf("line %d: the image %s: %w", item.Line, clip(item.Picture), err)
		}
		return out, nil
	}
	if p.byID == nil || item.Product.ID == "" || len(item.Product.Images) > 0 {
		return dst, nil
	}
	if strings.ContainsAny(item.Product.ID, "/\x00") || item.Product.ID == ".." {
		return dst, nil // no file can have this name
	}
	for _, suffix := range suffixes {
		out, err := appendFile(dst, p.byID.OpenFile, item.Product.ID+suffix)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENAMETOOLONG) {
			continue
		}
		if err != nil {
			return dst, fmt.Errorf("line %d: the picture %s: %w", item.Line, clip(item.Product.ID+suffix), err)
		}
		return out, nil
	}
	return dst, nil
}

// named reads the picture at a path.
func (p *Pictures) named(dst []byte, path string) ([]byte, error) {
	if filepath.IsAbs(path) {
		out, err := appendFile(dst, os.OpenFile, path)
		if err == nil && !strings.HasPrefix(http.DetectContentType(out[len(dst):]), "image/") {
			err = errors.New("it is not a picture; what an absolute path names must be one")
		}
		return out, err
	}
	out, err := appendFile(dst, p.beside.OpenFile, path)
	if errors.Is(err, fs.ErrNotExist) && p.byID != nil {
		out, err = appendFile(dst, p.byID.OpenFile, path)
	}
	return out, err
}

func appendFile(dst []byte, open func(string, int, fs.FileMode) (*os.File, error), name string) ([]byte, error) {
	// Without O_NONBLOCK the opening of a named pipe would wait for a writer.
	f, err := open(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return dst, reason(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return dst, reason(err)
	case !info.Mode().IsRegular():
		return dst, errors.New("it is not a regular file")
	case info.Size() == 0:
		return dst, errors.New("it is empty")
	case info.Size() > product.MaxImage:
		return dst, fmt.Errorf("it is %d bytes long; at most %d are accepted", info.Size(), product.MaxImage)
	}
	start := len(dst)
	dst = slices.Grow(dst, int(info.Size()))
	n, err := io.ReadFull(f, dst[start:start+int(info.Size())])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return dst[:start], fmt.Errorf("read it: %w", err)
	}
	return dst[:start+n], nil
}

// reason drops the operation and path, which the caller's sentence has.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		if strings.Contains(p.Err.Error(), "escapes") {
			return errors.New("it lies outside of the folder of the file")
		}
		return p.Err
	}
	return err
}
