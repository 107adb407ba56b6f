// Package durable writes small files that a crash leaves whole: the old one or
// the new one, never a part of either, and never the old one again once a write
// has returned.
//
// It does not lock: two writers of one path must not meet.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace writes a file of its owner's in the place of the one at path, and
// returns once the disk has it.
func Replace(path string, text []byte) error {
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
