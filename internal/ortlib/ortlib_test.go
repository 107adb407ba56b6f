package ortlib

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var library = bytes.Repeat([]byte("a shared library "), 1000)

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// fake makes a registry client called name on PATH, which appends a line to
// calls and leaves archive in its folder; an empty archive makes it fail.
type fake struct{ dir, calls string }

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{dir: t.TempDir()}
	f.calls = filepath.Join(f.dir, "calls")
	t.Setenv("PATH", f.dir+":/usr/bin:/bin")
	return f
}

func (f *fake) client(t *testing.T, name, file string, archive []byte) {
	t.Helper()
	src := filepath.Join(f.dir, name+".archive")
	script := fmt.Sprintf("#!/bin/sh\necho %s >> %q\ncp %q %s\n", name, f.calls, src, file)
	if archive == nil {
		script = fmt.Sprintf("#!/bin/sh\necho %s >> %q\necho 'E404 no such package' >&2\nexit 7\n", name, f.calls)
	} else if err := os.WriteFile(src, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (f *fake) called(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(f.calls)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func tgz(t *testing.T, member string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, f := range []struct {
		name string
		data []byte
	}{{"package/package.json", []byte("{}")}, {member, data}} {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func wheel(t *testing.T, member string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	w, err := zw.Create(member)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// finder is a Finder with the real sources, but for the pinned digest, and an
// empty cache.
func finder(t *testing.T) Finder {
	t.Helper()
	n, p := npm, pypi
	n.SHA256, p.SHA256 = sum(library), sum(append([]byte("wheel"), library...))
	return Finder{CacheDir: filepath.Join(t.TempDir(), "cache"), Sources: []Source{n, p}, Platform: "linux/amd64"}
}

func TestFetchFromNPM(t *testing.T) {
	f, fake := finder(t), newFake(t)
	fake.client(t, "npm", "onnxruntime-node-1.24.3.tgz", tgz(t, npm.Member, library))
	first, err := f.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(first); !bytes.Equal(got, library) {
		t.Errorf("%s holds %d bytes, want the library", first, len(got))
	}
	again, err := f.Find(t.Context())
	if err != nil || again != first {
		t.Errorf("second look: %s, %v", again, err)
	}
	if got := fake.called(t); got != "npm" {
		t.Errorf("clients run: %q, want npm once", got)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(first), "fetch-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFetchFromPyPI(t *testing.T) {
	f, fake := finder(t), newFake(t)
	fake.client(t, "npm", "", nil)
	fake.client(t, "pip", "onnxruntime-1.24.4-cp311.whl", wheel(t, pypi.Member, append([]byte("wheel"), library...)))
	path, err := f.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := fileSum(path); s != f.Sources[1].SHA256 {
		t.Errorf("got %s", s)
	}
	if _, err := f.Find(t.Context()); err != nil { // the cache is looked at before the first source
		t.Fatal(err)
	}
	if got := fake.called(t); got != "npm pip" {
		t.Errorf("clients run: %q, want npm pip", got)
	}
}

func TestDamagedCacheIsReplaced(t *testing.T) {
	f, fake := finder(t), newFake(t)
	fake.client(t, "npm", "x.tgz", tgz(t, npm.Member, library))
	path, err := f.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, library[:100], 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err := f.Find(t.Context()); err != nil || again != path {
		t.Fatalf("%s, %v", again, err)
	}
	if s, _ := fileSum(path); s != sum(library) {
		t.Error("the damaged library was not replaced")
	}
}

func TestErrorSaysWhatWasTried(t *testing.T) {
	f, fake := finder(t), newFake(t)
	fake.client(t, "npm", "x.tgz", tgz(t, npm.Member, []byte("something else")))
	fake.client(t, "pip", "", nil)
	_, err := f.Find(t.Context())
	if err == nil {
		t.Fatal("found")
	}
	for _, want := range []string{Env + ": not set", "cache: ", "is not there", npm.Name, "is pinned; it was not kept", pypi.Name, "exit status 7", "E404 no such package"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	libs, _ := filepath.Glob(filepath.Join(f.CacheDir, "*", "*"))
	if len(libs) > 0 {
		t.Errorf("kept %v", libs)
	}
}

func TestBrokenArchives(t *testing.T) {
	for name, tt := range map[string]struct {
		archive []byte
		want    string
	}{
		"no member":   {tgz(t, "package/other", library), "there is no package/bin"},
		"not gzip":    {[]byte("hello, hello, hello"), "unpack x.tgz: gzip"},
		"truncated":   {tgz(t, npm.Member, library)[:200], "unpack x.tgz"},
		"not on PATH": {nil, "executable file not found"},
	} {
		t.Run(name, func(t *testing.T) {
			f, fake := finder(t), newFake(t)
			f.Sources = f.Sources[:1]
			if tt.archive != nil {
				fake.client(t, "npm", "x.tgz", tt.archive)
			} else {
				t.Setenv("PATH", fake.dir)
			}
			if _, err := f.Find(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNamed(t *testing.T) {
	f, fake := finder(t), newFake(t)
	lib := filepath.Join(t.TempDir(), "installed.so")
	if err := os.WriteFile(lib, []byte("whatever"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.Platform = "plan9/mips" // a named library is used anywhere
	f.Named = lib
	if got, err := f.Find(t.Context()); err != nil || got != lib {
		t.Errorf("%s, %v", got, err)
	}
	f.Platform = "linux/amd64"
	for _, bad := range []string{lib + "x", filepath.Dir(lib)} {
		f.Named = bad
		if got, err := f.Find(t.Context()); err == nil || !strings.Contains(err.Error(), Env) {
			t.Errorf("%s: %s, %v; want an error that names %s", bad, got, err, Env)
		}
	}
	if got := fake.called(t); got != "" {
		t.Errorf("clients run: %q", got)
	}
}

func TestOtherPlatforms(t *testing.T) {
	for _, p := range []string{"linux/riscv64", "darwin/arm64", "windows/amd64"} {
		f := finder(t)
		f.Platform, f.Sources = p, sources[p]
		_, err := f.Find(t.Context())
		if err == nil || !strings.Contains(err.Error(), p) || !strings.Contains(err.Error(), Env) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestConcurrentFindFetchesOnce(t *testing.T) {
	f, fake := finder(t), newFake(t)
	fake.client(t, "npm", "x.tgz", tgz(t, npm.Member, library))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			path, err := f.Find(t.Context())
			if err != nil {
				t.Error(err)
			} else if s, _ := fileSum(path); s != sum(library) {
				t.Errorf("found a library of digest %s", s)
			}
		})
	}
	wg.Wait()
	if got := fake.called(t); got != "npm" {
		t.Errorf("clients run: %q, want npm once", got)
	}
}

func TestCancelled(t *testing.T) {
	f, fake := finder(t), newFake(t)
	fake.client(t, "npm", "x.tgz", tgz(t, npm.Member, library))
	if err := os.MkdirAll(f.CacheDir, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(t.Context(), filepath.Join(f.CacheDir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := f.Find(ctx); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("with the lock held elsewhere: %v", err)
	}
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	lib, dst := filepath.Join(dir, "lib.so"), filepath.Join(dir, "bin", "lib.so.1")
	for _, content := range []string{"one", "two"} {
		if err := os.Remove(lib); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.WriteFile(lib, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time there is nothing to do
			if err := Install(lib, dst); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(dst); string(got) != content {
				t.Fatalf("installed %q, want %q", got, content)
			}
		}
	}
	if err := Install(filepath.Join(dir, "absent"), dst); err == nil {
		t.Error("installed what is not there")
	}
}

// A source of several libraries is whole or not there.
func TestLibrariesBeside(t *testing.T) {
	f, fake := finder(t), newFake(t)
	cuda := []byte("for CUDA")
	s := gpu
	s.SHA256, s.Beside = sum(library), []Member{{"x/libonnxruntime_providers_cuda.so", sum(cuda)}}
	f.Sources = []Source{s}
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for name, data := range map[string][]byte{s.Member: library, s.Beside[0].Path: cuda} {
		w, err := zw.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	fake.client(t, "pip", "onnxruntime_gpu-1.24.4-cp311.whl", b.Bytes())
	path, err := f.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(path), "libonnxruntime_providers_cuda.so")
	for range 2 {
		if got, err := os.ReadFile(beside); err != nil || !bytes.Equal(got, cuda) {
			t.Errorf("beside it: %q, %v", got, err)
		}
		if err := os.WriteFile(beside, []byte("damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
		if again, err := f.Find(t.Context()); err != nil || again != path {
			t.Fatalf("%s, %v", again, err)
		}
	}
	if got := fake.called(t); got != "pip pip pip" {
		t.Errorf("clients run: %q", got)
	}
}
