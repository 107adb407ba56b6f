package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// writeArchive writes one archive of images that hold a static binary each.
func writeArchive(l layout, path string, binaries []binary) error {
	all := map[name.Tag]v1.Image{}
	for _, b := range binaries {
		tag, err := name.NewTag(imageOf(b))
		if err != nil {
			return err
		}
		if all[tag], err = imageWith(l.bin(b.name), b.name); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(l.path("images"), 0o700); err != nil {
		return err
	}
	if err := tarball.MultiWriteToFile(path+".new", all); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// imageWith is an image of one binary and what Go's library looks for besides:
// /tmp, and a user without rights.
func imageWith(file, name string) (v1.Image, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	passwd := "root:x:0:0:root:/:/\nnonroot:x:65532:65532:nonroot:/:/\n"
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"app/", 0o755, nil}, {"tmp/", 0o1777, nil}, {"etc/", 0o755, nil}, {"var/", 0o755, nil}, {"var/run/", 0o755, nil},
		{"etc/passwd", 0o644, []byte(passwd)}, {"app/" + name, 0o755, content},
	} {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithCompression(compression.ZStd)) // imports three times faster than gzip
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config = v1.Config{Entrypoint: []string{"/app/" + name}, User: "65532:65532", Env: []string{"PATH=/app"}}
	return mutate.ConfigFile(img, config)
}

// importImages puts one of our archives into the node, once in its life.
func importImages(ctx context.Context, l layout, group string) error {
	marker := l.run("imported", group)
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	if err := importArchive(ctx, l, l.image(group)); err != nil {
		return err
	}
	return writeFile(marker, nil, 0o600)
}

// importArchive puts the images of an archive into the node.
func importArchive(ctx context.Context, l layout, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, fmt.Errorf("not within 5m"))
	defer cancel()
	ctr := func(ctx context.Context, args ...string) error {
		cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address", l.containerdSocket(), "--namespace", "k8s.io"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ctr %s: %w: %s", args[0], err, bytes.TrimSpace(out))
		}
		return nil
	}
	if err := until(ctx, "containerd", func(ctx context.Context) error { return ctr(ctx, "version") }); err != nil {
		return err
	}
	if err := ctr(ctx, "images", "import", path); err != nil {
		return fmt.Errorf("import %s: %w", path, err)
	}
	return nil
}
