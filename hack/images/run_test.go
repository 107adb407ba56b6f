package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// unpacked gives the files of an image as a root folder, and a command that
// runs in it as the image's user.
func unpacked(t *testing.T, name string) (root string, command func(env ...string) *exec.Cmd) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("changing the root folder needs root")
	}
	img := find(t, name).platform(t, runtime.GOARCH)
	root = t.TempDir()
	// The test's folder is its user's alone, and the image's user another.
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range inside(t, img) {
		unpack(t, root, f)
	}
	config, err := img.ConfigFile()
	if err == nil { // all that the classifier asks /proc for: where it lies
		err = errors.Join(os.MkdirAll(filepath.Join(root, "proc/self"), 0o755), os.Symlink(config.Config.Entrypoint[0], filepath.Join(root, "proc/self/exe")))
	}
	if err != nil {
		t.Fatal(err)
	}
	return root, func(env ...string) *exec.Cmd {
		return &exec.Cmd{
			Path: config.Config.Entrypoint[0], Args: config.Config.Entrypoint, Dir: "/", Env: append(config.Config.Env, env...),
			SysProcAttr: &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}},
		}
	}
}

// The classifier starts with the image's files alone: its loader, libraries,
// runtime and model.
func TestClassifierStarts(t *testing.T) {
	for _, name := range []string{"title", "photo"} {
		t.Run(name, func(t *testing.T) {
			_, command := unpacked(t, "aisle-"+name)
			cmd := command("PORT=0", "HOST=127.0.0.1")
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ready, log := false, ""
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				log += lines.Text() + "\n"
				if strings.Contains(lines.Text(), `"msg":"ready"`) {
					ready = true
					if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := cmd.Wait(); err != nil || !ready {
				t.Errorf("ready %v, then %v:\n%s", ready, err, log)
			}
		})
	}
}

func TestWrongModelDigest(t *testing.T) {
	_, command := unpacked(t, "aisle-title")
	wrong := "sha256:" + strings.Repeat("0", 64)
	out, err := command("PORT=0", "MODEL_DIGEST="+wrong).CombinedOutput()
	if err == nil || !strings.Contains(string(out), wrong) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestDeliver(t *testing.T) {
	root, command := unpacked(t, "aisle-deliver-title")
	volume := filepath.Join(root, "volume")
	if err := os.Mkdir(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(volume, 65532, 65532); err != nil {
		t.Fatal(err)
	}
	models, err := readModels(project)
	if err != nil {
		t.Fatal(err)
	}
	digest := models[1].digest
	if models[1].name != "title" {
		t.Fatal(models[1].name)
	}
	wrong := "sha256:" + strings.Repeat("0", 64)
	if out, err := command("TO=/volume/title", "DIGEST="+wrong).CombinedOutput(); err == nil || !strings.Contains(string(out), digest) {
		t.Errorf("with the wrong digest: %v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(volume, "title")); !os.IsNotExist(err) {
		t.Errorf("the refused package is there: %v", err)
	}
	if out, err := command("TO=/volume/title", "DIGEST="+digest).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	m, err := digestOf(filepath.Join(volume, "title"))
	if err != nil || m != digest {
		t.Errorf("delivered %s, %v; want %s", m, err, digest)
	}
}

func digestOf(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "model.yaml"))
	return hash(data).String(), err
}
