// Package ortlib finds ONNX Runtime's shared library, or fetches it.
//
// It is looked for, in this order, where ONNXRUNTIME_LIB says, in the user's
// cache, in the npm package onnxruntime-node and in the PyPI wheel
// onnxruntime. What is fetched is checked against a pinned sha256 and kept in
// the cache; what is in the cache is checked again at each look, and replaced
// when it has changed. A library that the user names is used as it is.
//
// Several processes may call [Find] at once: one fetches, the others wait.
//
// Libraries are fetched for linux/amd64 and linux/arm64: for another platform
// than this one by [FindFor], which is for those who make images.
//
// Non-goals: other systems, CUDA itself, and finding the library in a deployed
// classifier, which never downloads anything.
package ortlib

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Env names the variable that names an installed library.
const Env = "ONNXRUNTIME_LIB"

// Name is the library's file name.
const Name = "libonnxruntime.so.1"

// Finder finds the library. Its fields say where; [Find] fills in the real
// ones.
type Finder struct {
	Named    string   // path of an installed library; empty means none
	CacheDir string   // where fetched ones are kept
	Sources  []Source // where to fetch from, tried in order
	Platform string   // GOOS/GOARCH
}

// Find returns the absolute path of a usable library, fetching it if need be.
func Find(ctx context.Context) (string, error) {
	return find(ctx, os.Getenv(Env), runtime.GOOS+"/"+runtime.GOARCH)
}

// FindFor is [Find] for a platform, GOOS/GOARCH. What the user named is for
// this machine: elsewhere it is not used.
func FindFor(ctx context.Context, platform string) (string, error) {
	if platform == runtime.GOOS+"/"+runtime.GOARCH {
		return Find(ctx)
	}
	return find(ctx, "", platform)
}

// FindGPU is [Find] for the build that runs on NVIDIA's GPUs. CUDA 12 and cuDNN
// 9 are the machine's to have. What the user named is used as it is.
func FindGPU(ctx context.Context) (string, error) {
	f := Finder{Named: os.Getenv(Env), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if f.Platform == "linux/amd64" {
		f.Sources = []Source{gpu}
	}
	return f.inUserCache(ctx)
}

func find(ctx context.Context, named, platform string) (string, error) {
	return Finder{Named: named, Sources: sources[platform], Platform: platform}.inUserCache(ctx)
}

func (f Finder) inUserCache(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder for ONNX Runtime (set HOME, or name an installed library in %s): %w", Env, err)
	}
	f.CacheDir = filepath.Join(cache, "aisle", "onnxruntime")
	return f.Find(ctx)
}

// Find is the package's [Find] with f's places.
func (f Finder) Find(ctx context.Context) (string, error) {
	if f.Named != "" {
		// Named and unusable is an error: a silent fallback would run another
		// library than the one that was asked for.
		return named(f.Named)
	}
	if len(f.Sources) == 0 {
		return "", fmt.Errorf("ONNX Runtime is fetched for linux/amd64 and linux/arm64 only (its build for GPUs for linux/amd64), and this is %s; install ONNX Runtime 1.24 and name its library in %s", f.Platform, Env)
	}
	if err := os.MkdirAll(f.CacheDir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder of ONNX Runtime: %w", err)
	}
	if path, err := f.cached(); err == nil {
		return path, nil
	}
	unlock, err := lock(ctx, filepath.Join(f.CacheDir, "lock"))
	if err != nil {
		return "", fmt.Errorf("wait for another process that fetches ONNX Runtime: %w", err)
	}
	defer unlock()
	path, err := f.cached() // another process may have fetched it meanwhile
	if err == nil {
		return path, nil
	}
	tried := []error{fmt.Errorf("%s: not set", Env), fmt.Errorf("cache: %w", err)}
	for _, s := range f.Sources {
		path, err := s.fetch(ctx, filepath.Join(f.CacheDir, s.dir(), Name))
		if err == nil {
			return path, nil
		}
		tried = append(tried, fmt.Errorf("%s: %w", s.Name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return "", fmt.Errorf("ONNX Runtime was not found and could not be fetched; install npm or pip, or name an installed library in %s. Tried:\n%w", Env, errors.Join(tried...))
}

func named(path string) (string, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s names a library that cannot be used: %w", Env, err)
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("%s names %s, which is not a file", Env, path)
	}
	return filepath.Abs(path)
}

// cached returns the first source's library that is in the cache, intact.
func (f Finder) cached() (string, error) {
	var errs []error
	for _, s := range f.Sources {
		path := filepath.Join(f.CacheDir, s.dir(), Name)
		sum, err := fileSum(path)
		if err == nil && sum == s.SHA256 {
			err = s.beside(filepath.Dir(path))
		}
		switch {
		case errors.Is(err, os.ErrNotExist):
			errs = append(errs, fmt.Errorf("%s is not there", path))
		case err != nil:
			errs = append(errs, err)
		case sum != s.SHA256:
			errs = append(errs, fmt.Errorf("%s is damaged: its sha256 is %s", path, sum))
		default:
			return path, nil
		}
	}
	return "", errors.Join(errs...)
}

// beside checks the libraries that are to be in dir beside the source's own.
func (s Source) beside(dir string) error {
	for _, m := range s.Beside {
		path := filepath.Join(dir, filepath.Base(m.Path))
		if sum, err := fileSum(path); err != nil {
			return err
		} else if sum != m.SHA256 {
			return fmt.Errorf("%s is damaged: its sha256 is %s", path, sum)
		}
	}
	return nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lock takes an advisory lock that dies with the process, so that a killed
// one leaves nothing to clean up.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	// flock cannot be waited for under a context: ask again, seldom.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// Install puts the library at lib to path: a hard link where that is
// possible, else a copy. The old file at path is replaced at once or not at
// all, so a process that has it open keeps it.
func Install(lib, path string) error {
	if a, err := os.Stat(lib); err != nil {
		return err
	} else if b, err := os.Stat(path); err == nil && os.SameFile(a, b) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".onnxruntime-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	link := filepath.Join(tmp, Name)
	if err := os.Link(lib, link); err != nil {
		if err := copyFile(lib, link); err != nil { // another file system
			return fmt.Errorf("copy %s: %w", lib, err)
		}
	}
	return os.Rename(link, path)
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// tail is the end of a command's output, on one line, for an error message.
func tail(out []byte) string {
	s := strings.Join(strings.Fields(string(out)), " ")
	if len(s) > 400 {
		s = "…" + s[len(s)-400:]
	}
	return s
}
