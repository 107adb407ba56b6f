package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"sigs.k8s.io/yaml"
)

// A target is the cluster that the suite runs on.
type target struct {
	Kubeconfig string            `json:"kubeconfig"`
	Gateway    string            `json:"gateway"`
	Domain     string            `json:"domain"`
	Images     map[string]string `json:"images"`
	Component  string            `json:"component"` // of kustomize, that names the images by digest
	Ours       bool              `json:"ours"`
	registry   string
}

type suiteOptions struct {
	filter      string // of tests
	clusterOnly bool
	keep        bool // leave the cluster up
}

// e2e brings the cluster up, unless it is another's, runs the suite and takes
// the cluster down, unless it was up before. The caller holds the lock all the
// while: what another harness does to the cluster waits until the suite has
// ended.
func (h *harness) e2e(ctx context.Context, root string, t target, o suiteOptions) (err error) {
	if t.Kubeconfig != "" {
		if t.registry == "" || t.Gateway == "" || t.Domain == "" {
			return errors.New("a cluster of yours needs REGISTRY=HOST/PREFIX that it pulls from, GATEWAY=HOST:PORT of its ingress, and DOMAIN= of its services (config-domain)")
		}
		return h.suites(ctx, root, t, o)
	}
	_, wasUp := h.keeper()
	err = h.up(ctx)
	if !wasUp && !o.keep && !errors.Is(err, errNeedsRoot) {
		defer func() { err = errors.Join(err, h.down(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return err
	}
	t.Kubeconfig, t.Gateway, t.Domain, t.Ours = h.kubeconfig(), gatewayIP+":80", domain, true
	return h.suites(ctx, root, t, o)
}

// suites makes the images, puts them where the cluster finds them, runs the
// acceptance suite on one machine and on the cluster, and prints both.
func (h *harness) suites(ctx context.Context, root string, t target, o suiteOptions) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "aisle-e2e-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if t.Images, err = h.makeImages(ctx, root, scratch, t.registry); err != nil {
		return err
	}
	t.Component = filepath.Join(scratch, "images", "kustomize")
	h.say("images in place")
	config, err := json.Marshal(t)
	if err != nil {
		return err
	}
	configFile := filepath.Join(scratch, "cluster.json")
	if err := os.WriteFile(configFile, config, 0o600); err != nil {
		return err
	}
	var engine map[string]outcome
	var engineErr error
	if !o.clusterOnly {
		engine, engineErr = h.suite(ctx, root, o.filter, "")
		h.say("suite ended on one machine")
	}
	cluster, clusterErr := h.suite(ctx, root, o.filter, configFile)
	h.say("suite ended on the cluster")
	if clusterErr != nil && t.Ours {
		dump(ctx, h.layout, h.stderr)
	}
	if !o.clusterOnly {
		err = writeParity(h.stdout, engine, cluster)
	}
	return errors.Join(err, engineErr, clusterErr)
}

// suite runs the acceptance tests once.
func (h *harness) suite(ctx context.Context, root, filter, clusterConfig string) (map[string]outcome, error) {
	where := "one machine"
	// Half an hour is what the rehearsal takes with a GPU's node away for ten
	// minutes, whose event the broker repeats eight minutes later.
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-timeout=40m", "-run", filter, "./test/acceptance")
	cmd.Dir = root
	cmd.Env = os.Environ()
	if clusterConfig != "" {
		where = "the cluster"
		cmd.Env = append(cmd.Env, "AISLE_ACCEPTANCE_CLUSTER="+clusterConfig)
	}
	cmd.Stderr = h.stderr
	// A group of its own: what go started ends with go.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	outcomes, readErr := readOutcomes(out, h.stderr)
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return outcomes, fmt.Errorf("the suite on %s: %w", where, err)
	}
	return outcomes, nil
}

// makeImages gives the references of the images that the suite deploys.
func (h *harness) makeImages(ctx context.Context, root, scratch, registry string) (map[string]string, error) {
	layoutDir := filepath.Join(scratch, "images")
	args := []string{"run", ".", "-root", root, "-out", layoutDir, "-platforms", "linux/amd64"}
	if registry != "" {
		args = append(args, "-push", registry)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(root, "hack", "images")
	cmd.Stdout, cmd.Stderr = h.stdout, h.stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("make the images: %w", err)
	}
	refs, err := references(filepath.Join(layoutDir, "kustomize", "kustomization.yaml"))
	if err != nil {
		return nil, err
	}
	fixture, ref, err := fixtureImage(ctx, root, scratch, registry)
	if err != nil {
		return nil, err
	}
	refs["fixture"] = ref.String()
	if registry != "" {
		return refs, remote.Write(ref, fixture, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	}
	archives := []string{filepath.Join(scratch, "fixture.tar"), filepath.Join(scratch, "images.tar")}
	if err := tarball.WriteToFile(archives[0], ref, fixture); err != nil {
		return nil, err
	}
	if err := archive(layoutDir, archives[1]); err != nil {
		return nil, err
	}
	for _, a := range archives {
		if err := importArchive(ctx, h.layout, a); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// references reads the images by digest from the component that hack/images
// writes; "aisle-title" is title here.
func references(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var component struct {
		Images []struct{ Name, NewName, Digest string }
	}
	if err := yaml.Unmarshal(text, &component); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	refs := map[string]string{}
	for _, i := range component.Images {
		if short, ok := strings.CutPrefix(i.Name, "aisle-"); ok {
			refs[short] = i.NewName + "@" + i.Digest
		}
	}
	return refs, nil
}

// fixtureImage makes the suite's own service into an image, named by what is in
// it, so that another fixture is another revision.
func fixtureImage(ctx context.Context, root, scratch, registry string) (v1.Image, name.Tag, error) {
	file := filepath.Join(scratch, "fixture")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./test/acceptance/fixture")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, name.Tag{}, fmt.Errorf("build the fixture: %w: %s", err, out)
	}
	img, err := imageWith(file, "fixture")
	if err != nil {
		return nil, name.Tag{}, err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, name.Tag{}, err
	}
	sum := sha256.Sum256(content)
	if registry == "" {
		registry = "dev.local"
	}
	tag, err := name.NewTag(registry + "/aisle-fixture:" + hex.EncodeToString(sum[:6]))
	return img, tag, err
}

// archive puts a folder into a tar file, as containerd imports OCI layouts.
func archive(dir, to string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	if err := w.AddFS(layoutOnly{os.DirFS(dir)}); err != nil {
		return err
	}
	return w.Close()
}

// layoutOnly hides what is beside an OCI layout's own files.
type layoutOnly struct{ fs.FS }

func (l layoutOnly) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(l.FS, name)
	if name != "." {
		return entries, err
	}
	var own []fs.DirEntry
	for _, e := range entries {
		switch e.Name() {
		case "oci-layout", "index.json", "blobs":
			own = append(own, e)
		}
	}
	return own, err
}
