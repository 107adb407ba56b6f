package ortlib

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// maxLibrary bounds what is unpacked; the library has 22 MB.
const maxLibrary = 128 << 20

// Source is a published package that contains the library, and the ordinary
// client of its registry, so that the user's mirror and proxy settings hold.
type Source struct {
	Name    string   // what an error calls it
	Command []string // run in an empty folder, leaves one archive there
	Archive string   // pattern of the archive's name: *.tgz or *.whl
	Member  string   // the library in the archive
	SHA256  string   // of the library
}

// sources are tried in order, by platform.
var sources = map[string][]Source{
	"linux/amd64": {npm, pypi},
	"linux/arm64": {npmARM64},
}

var npm = Source{
	Name:    "npm onnxruntime-node@1.24.3",
	Command: []string{"npm", "pack", "--silent", "--ignore-scripts", "onnxruntime-node@1.24.3"},
	Archive: "*.tgz",
	Member:  "package/bin/napi-v6/linux/x64/libonnxruntime.so.1",
	SHA256:  "92ba8e44d31b80a34f5e805076a044122c3be1fffe0d88ed790de7267b0b2682",
}

var npmARM64 = Source{
	Name:    npm.Name,
	Command: npm.Command,
	Archive: npm.Archive,
	Member:  "package/bin/napi-v6/linux/arm64/libonnxruntime.so.1",
	SHA256:  "33032cb5b91c12edbf028d7c69fa40a31848d66c0095448758af237d5e0b07db",
}

// The wheel is asked for by one CPython version, whatever the machine has:
// the library inside is the same for all, and is not loaded by Python here.
var pypi = Source{
	Name: "PyPI onnxruntime==1.24.4",
	Command: []string{"pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
		"--implementation", "cp", "--python-version", "3.11", "onnxruntime==1.24.4"},
	Archive: "*.whl",
	Member:  "onnxruntime/capi/libonnxruntime.so.1.24.4",
	SHA256:  "2d518e11c7767f9fdc4413bdbeb45acf30db504ff76a82fc19d9238a3f9f6c24",
}

// dir is the source's folder in the cache. The digest is in its name, so that
// two versions of this program do not replace each other's library.
func (s Source) dir() string { return s.SHA256[:min(16, len(s.SHA256))] }

// fetch puts the source's library to dst, whole and checked, or not at all.
func (s Source) fetch(ctx context.Context, dst string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return "", err
	}
	// Beside dst, since /tmp may be small and dst is reached by a rename.
	tmp, err := os.MkdirTemp(filepath.Dir(dst), "fetch-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)

	bin, err := exec.LookPath(s.Command[0])
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, bin, s.Command[1:]...)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s: %w: %s", s.Command[0], err, tail(out))
	}
	archives, err := filepath.Glob(filepath.Join(tmp, s.Archive))
	if err != nil || len(archives) != 1 {
		return "", fmt.Errorf("%s left %d files like %s; want 1", s.Command[0], len(archives), s.Archive)
	}

	lib := filepath.Join(tmp, Name)
	sum, err := s.unpack(archives[0], lib)
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", filepath.Base(archives[0]), err)
	}
	if sum != s.SHA256 {
		return "", fmt.Errorf("%s has sha256 %s, but %s is pinned; it was not kept", s.Member, sum, s.SHA256)
	}
	return dst, os.Rename(lib, dst)
}

// unpack writes the archive's member to dst and returns its sha256.
func (s Source) unpack(archive, dst string) (string, error) {
	if path.Ext(s.Archive) == ".whl" {
		r, err := zip.OpenReader(archive)
		if err != nil {
			return "", err
		}
		defer r.Close()
		f, err := r.Open(s.Member)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return save(f, dst)
	}
	f, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return "", err
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("there is no %s in it", s.Member)
		}
		if err != nil {
			return "", err
		}
		if h.Name == s.Member && h.Typeflag == tar.TypeReg {
			return save(tr, dst)
		}
	}
}

func save(src io.Reader, dst string) (string, error) {
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(src, maxLibrary+1))
	if err == nil && n > maxLibrary {
		err = fmt.Errorf("it is larger than %d bytes", maxLibrary)
	}
	if err == nil {
		err = f.Sync() // a crash must not leave a whole name on half a file
	}
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}
