package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DataDog/zstd"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const project = "../.."

var testSource = source{revision: strings.Repeat("ab", 20), version: "v0.0.0-test", time: time.Unix(1_700_000_000, 0).UTC()}

// The images are built twice, from two copies of the tracked files in folders of
// different names. With COLD=1 the second compiles everything anew.
var builds = sync.OnceValues(func() (both [2][]built, err error) {
	tmp, err := os.MkdirTemp("", "aisle-images-test-*")
	if err != nil {
		return both, err
	}
	defer os.RemoveAll(tmp)
	for i, name := range []string{"a", "another/and/longer"} {
		root := filepath.Join(tmp, name)
		if err := checkout(root); err != nil {
			return both, err
		}
		if i == 1 && os.Getenv("COLD") == "1" {
			cache := filepath.Join(tmp, "cache")
			if err := os.Setenv("GOCACHE", cache); err != nil {
				return both, err
			}
			defer os.Unsetenv("GOCACHE")
		}
		b := builder{root: root, scratch: filepath.Join(tmp, name+"-scratch"), source: testSource, log: io.Discard}
		if err := os.MkdirAll(b.scratch, 0o755); err != nil {
			return both, err
		}
		for _, t := range toolchains {
			t, err := findToolchain(t.platform())
			if err != nil {
				return both, err
			}
			b.toolchains = append(b.toolchains, t)
		}
		if both[i], err = b.build(context.Background()); err != nil {
			return both, err
		}
	}
	return both, nil
})

// checkout copies the files that git knows, as they are in the working tree.
func checkout(root string) error {
	list, err := exec.Command("git", "-C", project, "ls-files", "-z").Output()
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(project, name))
		if errors.Is(err, os.ErrNotExist) { // removed and not yet committed
			continue
		}
		if err != nil {
			return err
		}
		to := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

func images(t *testing.T) []built {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles the functions for two platforms")
	}
	both, err := builds()
	if err != nil {
		t.Fatal(err)
	}
	return both[0]
}

func find(t *testing.T, name string) built {
	t.Helper()
	for _, im := range images(t) {
		if im.name == name {
			return im
		}
	}
	t.Fatalf("there is no image %s", name)
	return built{}
}

// platform gives the image of linux/amd64.
func (im built) platform(t *testing.T, arch string) v1.Image {
	t.Helper()
	m, err := im.index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		if d.Platform.Architecture == arch {
			img, err := im.index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return img
		}
	}
	t.Fatalf("%s is not made for %s", im.name, arch)
	return nil
}

func TestSameFilesSameDigests(t *testing.T) {
	images(t)
	both, _ := builds()
	var digests [2]map[string]string
	for i, list := range both {
		digests[i] = make(map[string]string)
		for _, im := range list {
			d, err := im.index.Digest()
			if err != nil {
				t.Fatal(err)
			}
			digests[i][im.name] = d.String()
			for _, doc := range im.documents {
				d, err := doc.Digest()
				if err != nil {
					t.Fatal(err)
				}
				digests[i][im.name] += " " + d.String()
			}
		}
	}
	if d := cmp.Diff(digests[0], digests[1]); d != "" {
		t.Error(d)
	}
}

func TestImages(t *testing.T) {
	var names []string
	for _, im := range images(t) {
		names = append(names, im.name)
	}
	if d := cmp.Diff([]string{"aisle-classifier", "aisle-composer", "aisle-controller", "aisle-deliver-photo", "aisle-deliver-title",
		"aisle-model-photo", "aisle-model-title", "aisle-photo", "aisle-title"}, names); d != "" {
		t.Fatal(d)
	}
	model := []string{"CARD.md", "labels.txt", "model.onnx", "model.yaml"}
	for name, tt := range map[string]struct {
		entrypoint, env []string
		layers          int
		files           func(name string) []string
	}{
		"aisle-composer":      {[]string{"/app/composer"}, []string{"PATH=/app"}, 1, nil},
		"aisle-controller":    {[]string{"/app/controller"}, []string{"PATH=/app"}, 1, nil},
		"aisle-classifier":    {[]string{"/app/classifier"}, []string{"PATH=/app"}, 3, nil},
		"aisle-title":         {[]string{"/app/classifier"}, []string{"PATH=/app", "MODEL=/models/title"}, 4, nil},
		"aisle-photo":         {[]string{"/app/classifier"}, []string{"PATH=/app", "MODEL=/models/photo"}, 4, nil},
		"aisle-deliver-title": {[]string{"/app/deliver"}, []string{"PATH=/app", "MODEL=/models/title"}, 2, nil},
		"aisle-deliver-photo": {[]string{"/app/deliver"}, []string{"PATH=/app", "MODEL=/models/photo"}, 2, nil},
		"aisle-model-title":   {nil, nil, 1, func(string) []string { return model }},
		"aisle-model-photo":   {nil, nil, 1, func(string) []string { return model }},
	} {
		t.Run(name, func(t *testing.T) {
			im := find(t, name)
			checkIndex(t, im.index)
			for _, p := range im.platforms {
				arch := strings.TrimPrefix(p, "linux/")
				img := im.platform(t, arch)
				config, err := img.ConfigFile()
				if err != nil {
					t.Fatal(err)
				}
				c := config.Config
				if c.User != "65532:65532" || config.OS != "linux" || config.Architecture != arch || !config.Created.Equal(testSource.time) {
					t.Errorf("user %q, %s/%s of %v", c.User, config.OS, config.Architecture, config.Created)
				}
				if d := cmp.Diff(tt.entrypoint, c.Entrypoint); d != "" {
					t.Error(d)
				}
				if d := cmp.Diff(tt.env, c.Env); d != "" {
					t.Error(d)
				}
				for label, want := range map[string]string{"revision": testSource.revision, "version": testSource.version, "source": home, "created": "2023-11-14T22:13:20Z"} {
					if got := c.Labels["org.opencontainers.image."+label]; got != want {
						t.Errorf("label %s: %q, want %q", label, got, want)
					}
				}
				if !strings.HasPrefix(c.Labels["org.opencontainers.image.licenses"], "Apache-2.0") {
					t.Errorf("licences %q", c.Labels["org.opencontainers.image.licenses"])
				}
				layers, err := img.Layers()
				if err != nil {
					t.Fatal(err)
				}
				if len(layers) != tt.layers {
					t.Errorf("%d layers, want %d", len(layers), tt.layers)
				}
				files := inside(t, img)
				if tt.files != nil {
					var got []string
					for _, f := range files {
						if path := filepath.Join("/models", strings.TrimPrefix(name, "aisle-model-")); filepath.Dir(f.path) == path {
							got = append(got, filepath.Base(f.path))
						} else {
							t.Errorf("has %s", f.path)
						}
					}
					if d := cmp.Diff(tt.files(name), got); d != "" {
						t.Error(d)
					}
				}
			}
		})
	}
}

// Every new node pulls them before the first answer. The goal for a classifier was
// 15 MB, which it kept until it spoke the Open Inference Protocol, fetched pictures
// over TLS and read them with libjpeg-turbo.
func TestSizes(t *testing.T) {
	for name, most := range map[string]int64{"aisle-classifier": 15_500_000, "aisle-composer": 10_000_000} {
		if im := find(t, name); im.bytes > most {
			t.Errorf("%s has %d bytes, compressed, want at most %d: what did it begin to link?", name, im.bytes, most)
		}
	}
}

// checkIndex is validate.Index in full: go-containerregistry's own takes every
// layer for gzip, so layers are read here.
func checkIndex(t *testing.T, index v1.ImageIndex) {
	t.Helper()
	if err := validate.Index(index, validate.Fast); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		if len(layers) != len(config.RootFS.DiffIDs) || len(layers) != len(config.History) {
			t.Fatalf("%d layers, %d diff IDs, %d entries of history", len(layers), len(config.RootFS.DiffIDs), len(config.History))
		}
		for i, l := range layers {
			rc, err := l.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			compressed, err := io.ReadAll(rc)
			if err := errors.Join(err, rc.Close()); err != nil {
				t.Fatal(err)
			}
			raw, err := zstd.Decompress(nil, compressed)
			if err != nil {
				t.Fatal(err)
			}
			want := manifest.Layers[i]
			if hash(compressed) != want.Digest || int64(len(compressed)) != want.Size || hash(raw) != config.RootFS.DiffIDs[i] || want.MediaType != types.OCILayerZStd {
				t.Errorf("layer %d of %s is %s (%d bytes, %s), the manifest says %+v", i, d.Digest, hash(compressed), len(compressed), hash(raw), want)
			}
		}
	}
}

// inside gives an image's files, and checks what holds for every entry.
func inside(t *testing.T, img v1.Image) []entry {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var files []entry
	for _, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		for tr := tar.NewReader(rc); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir:
				t.Errorf("%s is of type %c", h.Name, h.Typeflag)
			case h.Mode&0o7000 != 0:
				t.Errorf("%s is setuid, setgid or sticky: %o", h.Name, h.Mode)
			case h.Mode&0o022 != 0 || h.Typeflag == tar.TypeReg && h.Mode&0o222 != 0:
				t.Errorf("%s may be written to: %o", h.Name, h.Mode)
			case h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "":
				t.Errorf("%s is of %d:%d %s:%s", h.Name, h.Uid, h.Gid, h.Uname, h.Gname)
			case !h.ModTime.Equal(testSource.time):
				t.Errorf("%s is of %v", h.Name, h.ModTime)
			}
			if h.Typeflag != tar.TypeReg {
				continue
			}
			data, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, entry{"/" + h.Name, h.Mode, data})
		}
	}
	return files
}

// A model is one blob, in the classifier's image, in the deliverer's and in the
// one that is mounted.
func TestModelLayerIsShared(t *testing.T) {
	last := func(name, arch string) v1.Hash {
		layers, err := find(t, name).platform(t, arch).Layers()
		if err != nil {
			t.Fatal(err)
		}
		d, err := layers[len(layers)-1].Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := last("aisle-model-title", "amd64")
	for _, name := range []string{"aisle-title", "aisle-deliver-title"} {
		if got := last(name, "amd64"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := last("aisle-model-title", "arm64"); got != want {
		t.Errorf("arm64: %s, want %s", got, want)
	}
}

// The classifier has what its loader looks for, on each platform, and no path
// of this machine.
func TestLibrariesAreComplete(t *testing.T) {
	im := find(t, "aisle-classifier")
	for _, p := range im.platforms {
		t.Run(p, func(t *testing.T) {
			root := t.TempDir()
			names := map[string]bool{}
			files := inside(t, im.platform(t, strings.TrimPrefix(p, "linux/")))
			for _, f := range files {
				names[filepath.Base(f.path)] = true
				unpack(t, root, f)
				if bytes.Contains(f.data, []byte("aisle-images-test-")) {
					t.Errorf("%s has a path of the build machine in it", f.path)
				}
			}
			for _, f := range files {
				if !bytes.HasPrefix(f.data, []byte("\x7fELF")) {
					continue
				}
				e, err := readELF(filepath.Join(root, f.path))
				if err != nil {
					t.Fatal(err)
				}
				for _, need := range e.needed {
					if !names[need] {
						t.Errorf("%s needs %s", f.path, need)
					}
				}
				if e.interpreter != "" && !slices.ContainsFunc(files, func(f entry) bool { return f.path == e.interpreter }) {
					t.Errorf("%s needs the loader %s", f.path, e.interpreter)
				}
			}
			for _, want := range []string{"libonnxruntime.so.1", "libc.so.6", "libstdc++.so.6", "classifier"} {
				if !names[want] {
					t.Errorf("there is no %s", want)
				}
			}
		})
	}
}

func unpack(t *testing.T, root string, f entry) {
	t.Helper()
	to := filepath.Join(root, f.path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, f.data, os.FileMode(f.mode))); err != nil {
		t.Fatal(err)
	}
}
