package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Where a binary is built from, and the image that it is put in.
type binary struct{ name, pkg string }

const (
	serving  = "knative.dev/serving/cmd/"
	eventing = "knative.dev/eventing/cmd/"
)

// images groups the cluster's own images as they are imported. Names of
// Knative's commands clash (controller, webhook), hence ours.
var images = map[string][]binary{
	"base": {{"pause", "./components/pause"}},
	"serving": {
		{"ingress", "./components/ingress"}, {"activator", serving + "activator"}, {"autoscaler", serving + "autoscaler"},
		{"controller", serving + "controller"}, {"queue", serving + "queue"}, {"webhook", serving + "webhook"},
	},
	"eventing": {
		{"ev-controller", eventing + "controller"}, {"ev-webhook", eventing + "webhook"},
		{"mtbroker-controller", eventing + "mtchannel_broker"}, {"mtping", eventing + "mtping"}, {"event-display", eventing + "event_display"},
		{"imc-controller", eventing + "in_memory/channel_controller"}, {"imc-dispatcher", eventing + "in_memory/channel_dispatcher"},
		{"broker-filter", eventing + "broker/filter"}, {"broker-ingress", eventing + "broker/ingress"},
	},
}

var hyperBinary = binary{"hyper", "./components/hyper"}

func imageOf(b binary) string { return "dev.local/" + b.name + ":" + knativeVersion }

// buildKey changes with everything that the binaries, images and manifests are
// made of.
func buildKey(ctx context.Context, l layout) (string, error) {
	sum := sha256.New()
	version := exec.CommandContext(ctx, "go", "version")
	version.Dir, version.Stdout = l.module, sum
	if err := version.Run(); err != nil {
		return "", fmt.Errorf("go version: %w", err)
	}
	sources := []string{"go.mod", "go.sum", "build.go", "image.go", "manifests.go", "components", "manifests"}
	for _, s := range sources {
		err := filepath.WalkDir(filepath.Join(l.module, s), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			fmt.Fprintln(sum, filepath.Base(path))
			_, err = io.Copy(sum, f)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func built(l layout, key string) bool {
	have, err := os.ReadFile(l.path("built"))
	return err == nil && string(have) == key
}

// build makes the binaries, their images and the manifests. The caches of go
// make a repeated one short.
func build(ctx context.Context, l layout, key string, say func(string, ...any)) error {
	if err := os.Remove(l.path("built")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	say("building Kubernetes and Knative; with empty caches that takes 7 minutes on an idle machine of two cores")
	stamp := "-s -w"
	major, minor, _ := strings.Cut(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for name, value := range map[string]string{"gitVersion": kubernetesVersion, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"} {
			stamp += fmt.Sprintf(" -X %s.%s=%s", pkg, name, value)
		}
	}
	// Packages whose commands share a name cannot be built into one folder at once.
	var first, second []binary
	names := map[string]bool{}
	for _, group := range []string{"base", "serving", "eventing"} {
		for _, b := range images[group] {
			if base := filepath.Base(b.pkg); names[base] {
				second = append(second, b)
			} else {
				names[base] = true
				first = append(first, b)
			}
		}
	}
	for _, group := range [][]binary{append(first, hyperBinary), second} {
		if err := compile(ctx, l, group, stamp); err != nil {
			return err
		}
	}
	for group, binaries := range images {
		if err := writeArchive(l, l.image(group), binaries); err != nil {
			return fmt.Errorf("images of %s: %w", group, err)
		}
	}
	if err := writeManifests(ctx, l); err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	return writeFile(l.path("built"), []byte(key), 0o600)
}

func compile(ctx context.Context, l layout, group []binary, stamp string) error {
	dir, err := os.MkdirTemp(l.path(), "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	args := []string{"build", "-trimpath", "-ldflags", stamp, "-o", dir + "/"}
	for _, b := range group {
		args = append(args, b.pkg)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = l.module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build of the cluster's parts: %w", err)
	}
	if err := os.MkdirAll(l.path("bin"), 0o700); err != nil {
		return err
	}
	for _, b := range group {
		if err := os.Rename(filepath.Join(dir, filepath.Base(b.pkg)), l.bin(b.name)); err != nil {
			return err
		}
	}
	return nil
}

// moduleDirs gives where modules of this go.mod lie.
func moduleDirs(ctx context.Context, l layout, modules ...string) (map[string]string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-m", "-f", "{{.Path}} {{.Dir}}"}, modules...)...)
	cmd.Dir = l.module
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		dirs[path] = dir
	}
	for _, m := range modules {
		if dirs[m] == "" {
			return nil, fmt.Errorf("module %s is not in the module cache; run: go mod download", m)
		}
	}
	return dirs, nil
}

// debianPackages are what the node runs besides; the value is a file of each.
var debianPackages = map[string]string{
	"containerd": "/usr/bin/containerd", "runc": "/usr/sbin/runc", "nftables": "/usr/sbin/nft", "iproute2": "/sbin/ip",
	"containernetworking-plugins": "/usr/lib/cni/bridge",
}

// installPackages brings the Debian packages that are missing.
func installPackages(ctx context.Context, say func(string, ...any)) error {
	var missing []string
	for name, file := range debianPackages {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	install := append([]string{"apt-get", "install", "-y", "-q", "--no-install-recommends"}, missing...)
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("missing: %s; on Debian, as root: %s", strings.Join(missing, " "), strings.Join(install, " "))
	}
	say("installing %s", strings.Join(missing, " "))
	// A service that the package would start is not wanted: the node runs its own.
	policy := "/usr/sbin/policy-rc.d"
	if _, err := os.Lstat(policy); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		defer os.Remove(policy)
	}
	for _, args := range [][]string{{"apt-get", "update", "-q"}, install} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, tail(out[max(0, len(out)-1000):]))
		}
	}
	return nil
}
