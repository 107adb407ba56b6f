package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Debian's containerd is 1.6, which cannot mount an OCI image as a volume. A
// newer one is built if asked for (-containerd2), from a module of its own, so
// that what it requires does not change what Kubernetes is built with.
var containerdCommands = []string{
	"github.com/containerd/containerd/v2/cmd/containerd",
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
}

// containerdKey changes with what it is built from.
func containerdKey(ctx context.Context, l layout) (string, error) {
	sum := sha256.New()
	version := exec.CommandContext(ctx, "go", "version")
	version.Dir, version.Stdout = l.containerdModule(), sum
	if err := version.Run(); err != nil {
		return "", fmt.Errorf("go version: %w", err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(l.containerdModule(), name))
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func containerdBuilt(l layout, key string) bool {
	have, err := os.ReadFile(l.containerd("built"))
	return err == nil && string(have) == key
}

func buildContainerd(ctx context.Context, l layout, say func(string, ...any)) error {
	key, err := containerdKey(ctx, l)
	if err != nil || containerdBuilt(l, key) {
		return err
	}
	if err := os.Remove(l.containerd("built")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	say("building containerd 2; with empty caches that takes 3 minutes")
	args := []string{"build", "-trimpath", "-tags", "no_btrfs,no_devmapper,no_zfs", "-ldflags", "-s -w", "-o", l.containerd() + "/"}
	cmd := exec.CommandContext(ctx, "go", append(args, containerdCommands...)...)
	cmd.Dir = l.containerdModule()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build of containerd: %w", err)
	}
	return writeFile(l.containerd("built"), []byte(key), 0o600)
}

// preferContainerd2 makes what this process starts find the built containerd,
// and that its shim, before Debian's.
func preferContainerd2(l layout) error {
	return os.Setenv("PATH", strings.Join([]string{l.containerd(), os.Getenv("PATH")}, string(os.PathListSeparator)))
}

// runsContainerd2 reports whether the node that is up was begun with it.
func runsContainerd2(l layout) bool {
	_, err := os.Stat(l.run("containerd2"))
	return err == nil
}
