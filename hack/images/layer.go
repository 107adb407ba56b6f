package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/DataDog/zstd"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entry is a file of a layer.
type entry struct {
	path string // absolute
	mode int64
	data []byte
}

// level is the highest with a window of 8 MB, which every reader accepts.
const level = 19

// layer is a compressed tar archive, kept in memory.
type layer struct {
	raw, compressed []byte
	diffID, digest  v1.Hash
}

// newLayer packs files, with the folders above them: sorted, owned by root, all
// of one time.
func newLayer(at time.Time, files []entry) (*layer, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	made := map[string]bool{"/": true}
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if made[dir] {
			return nil
		}
		if err := mkdir(path.Dir(dir)); err != nil {
			return err
		}
		made[dir] = true
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755, ModTime: at, Format: tar.FormatUSTAR})
	}
	for i, f := range files {
		if !path.IsAbs(f.path) || path.Clean(f.path) != f.path {
			return nil, fmt.Errorf("a layer cannot have the path %q", f.path)
		}
		if i > 0 && files[i-1].path == f.path {
			return nil, fmt.Errorf("a layer has %s twice", f.path)
		}
		if err := mkdir(path.Dir(f.path)); err != nil {
			return nil, err
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.path, "/"), Mode: f.mode, Size: int64(len(f.data)), ModTime: at, Format: tar.FormatUSTAR}); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
		if _, err := tw.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	// The reference compressor: an eighth smaller than Go's own at its best. One
	// call is one thread, so where blocks are cut depends on the data alone.
	compressed, err := zstd.CompressLevel(nil, buf.Bytes(), level)
	if err != nil {
		return nil, err
	}
	l := &layer{raw: buf.Bytes(), compressed: compressed}
	l.diffID, l.digest = hash(l.raw), hash(l.compressed)
	return l, nil
}

func hash(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func (l *layer) Digest() (v1.Hash, error) { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error) { return l.diffID, nil }
func (l *layer) Size() (int64, error)     { return int64(len(l.compressed)), nil }
func (l *layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.compressed)), nil
}
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.raw)), nil
}
func (l *layer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }
