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
	"slices"
	"time"
)

// maxLibrary bounds what is unpacked of one library: they have 22 MB, and 367
// that for CUDA.
const maxLibrary = 512 << 20

// Source is a published package that contains the library, and the ordinary
// client of its registry, so that the user's mirror and proxy settings hold.
type Source struct {
	Name    string   // what an error calls it
	Command []string // run in an empty folder, leaves one archive there
	Archive string   // pattern of the archive's name: *.tgz or *.whl
	Member  string   // the library in the archive
	SHA256  string   // of the library
	Beside  []Member // further libraries, which that one loads from its folder
}

// Member is a library in an archive.
type Member struct {
	Path   string // in the archive; its base is the file's name
	SHA256 string
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

// gpu is the build for CUDA 12 and cuDNN 9, which are not in it.
var gpu = Source{
	Name: "PyPI onnxruntime-gpu==1.24.4",
	Command: []string{"pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
		"--implementation", "cp", "--python-version", "3.11", "onnxruntime-gpu==1.24.4"},
	Archive: "*.whl",
	Member:  "onnxruntime/capi/libonnxruntime.so.1.24.4",
	SHA256:  "b10825f4306b01a4951c528554f2495c4597080c63637b300669544d9c142e76",
	Beside: []Member{
		{"onnxruntime/capi/libonnxruntime_providers_shared.so", "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"},
		{"onnxruntime/capi/libonnxruntime_providers_cuda.so", "3c4645a1f7c9b687b5480b8bd6235311b139b657a7ebee19f95c7340efac1c76"},
	},
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
	cmd.WaitDelay = 2 * time.Second // npm's children hold its output open after it was killed
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

	// The library itself last: where it is, the others are.
	for _, m := range append(slices.Clone(s.Beside), Member{s.Member, s.SHA256}) {
		lib := filepath.Join(tmp, Name)
		sum, err := s.unpack(archives[0], m.Path, lib)
		if err != nil {
			return "", fmt.Errorf("unpack %s: %w", filepath.Base(archives[0]), err)
		}
		if sum != m.SHA256 {
			return "", fmt.Errorf("%s has sha256 %s, but %s is pinned; it was not kept", m.Path, sum, m.SHA256)
		}
		to := dst
		if m.Path != s.Member {
			to = filepath.Join(filepath.Dir(dst), path.Base(m.Path))
		}
		if err := os.Rename(lib, to); err != nil {
			return "", err
		}
	}
	return dst, nil
}

// unpack writes a member of the archive to dst and returns its sha256.
func (s Source) unpack(archive, member, dst string) (string, error) {
	if path.Ext(s.Archive) == ".whl" {
		r, err := zip.OpenReader(archive)
		if err != nil {
			return "", err
		}
		defer r.Close()
		f, err := r.Open(member)
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
			return "", fmt.Errorf("there is no %s in it", member)
		}
		if err != nil {
			return "", err
		}
		if h.Name == member && h.Typeflag == tar.TypeReg {
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
