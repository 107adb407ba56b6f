package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// toolchain is what compiles for a platform and where its libraries lie.
type toolchain struct {
	arch string   // GOARCH
	cc   string   // the C compiler
	dirs []string // of shared libraries on the build machine
	// loaders are where the build machine may have the loader that binaries of
	// the platform name by its place on that platform.
	loaders  []string
	packages string // of Debian, for the error message
}

func (t toolchain) platform() string { return "linux/" + t.arch }

var toolchains = []toolchain{
	{arch: "amd64", cc: "x86_64-linux-gnu-gcc", loaders: []string{"", "/usr/x86_64-linux-gnu"},
		dirs:     []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/x86_64-linux-gnu/lib", "/lib64", "/usr/lib64"},
		packages: "gcc libc6-dev libstdc++6; elsewhere than on amd64 gcc-x86-64-linux-gnu libc6-dev-amd64-cross libstdc++6-amd64-cross"},
	{arch: "arm64", cc: "aarch64-linux-gnu-gcc", loaders: []string{"", "/usr/aarch64-linux-gnu"},
		dirs:     []string{"/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/aarch64-linux-gnu/lib"},
		packages: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstdc++6-arm64-cross"},
}

func findToolchain(platform string) (toolchain, error) {
	for _, t := range toolchains {
		if t.platform() == platform {
			if t.arch == runtime.GOARCH {
				t.cc = "gcc"
			}
			return t, nil
		}
	}
	return toolchain{}, fmt.Errorf("platform %q: want linux/amd64 or linux/arm64", platform)
}

// lacks says why nothing that needs C can be made for the platform; it is empty
// where it can.
func (t toolchain) lacks() string {
	if _, err := exec.LookPath(t.cc); err != nil {
		return fmt.Sprintf("%s is missing (on Debian: apt-get install %s)", t.cc, t.packages)
	}
	for _, dir := range t.dirs {
		if _, err := os.Stat(filepath.Join(dir, "libstdc++.so.6")); err == nil {
			return ""
		}
	}
	return fmt.Sprintf("libstdc++.so.6 for %s is missing (on Debian: apt-get install %s)", t.arch, t.packages)
}

// turbo is libjpeg-turbo's static library for the platform, with which a
// classifier reads photos; empty where the build machine has none.
func (t toolchain) turbo(ctx context.Context, root string) (string, error) {
	tag, err := exec.CommandContext(ctx, "sh", filepath.Join(root, "hack/turbo.sh"), t.cc).Output()
	if err != nil {
		return "", fmt.Errorf("look for libjpeg-turbo for %s: %w", t.platform(), err)
	}
	if len(tag) == 0 {
		return "", nil
	}
	file, err := exec.CommandContext(ctx, t.cc, "-print-file-name=libjpeg.a").Output()
	if err != nil {
		return "", fmt.Errorf("look for libjpeg-turbo for %s: %w", t.platform(), err)
	}
	return filepath.Clean(strings.TrimSpace(string(file))), nil
}

// pinned are the variables that change what a compile gives, whatever the
// caller's environment says. The C compiler learns of no folder but by -trimpath.
func pinned(t toolchain, cgo bool) []string {
	env := []string{
		"GOOS=linux", "GOARCH=" + t.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFLAGS=", "GOWORK=off", "GO111MODULE=on",
		"CGO_CFLAGS=-O2 -g0", "CGO_CXXFLAGS=-O2 -g0", "CGO_CPPFLAGS=", "CGO_LDFLAGS=-O2", "CGO_FFLAGS=", "LC_ALL=C",
	}
	if cgo {
		return append(env, "CGO_ENABLED=1", "CC="+t.cc)
	}
	return append(env, "CGO_ENABLED=0")
}

// compile builds a command, by its folder, with further tags. Git is not asked (-buildvcs=false): the commit is
// in the image's labels, and a commit that leaves the code alone leaves the
// binary's layer alone.
func compile(ctx context.Context, root string, t toolchain, folder string, cgo bool, out string, tags ...string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags="+strings.Join(append(tags, "netgo", "osusergo"), ","),
		"-ldflags=-s -w -buildid= -extldflags=-Wl,--build-id=none", "-o", out, "./"+folder)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), pinned(t, cgo)...)
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s for %s: %w\n%s", folder, t.platform(), err, msg)
	}
	return nil
}

// findRuntime gives the path of ONNX Runtime for a platform. The product's own
// program finds, fetches and checks it.
func findRuntime(ctx context.Context, root string, t toolchain) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "run", "./hack/onnxruntime", "-platform", t.platform())
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find ONNX Runtime for %s: %w\n%s", t.platform(), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
