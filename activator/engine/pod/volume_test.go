package pod

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// files reads a volume as a pod does: through its links, without what begins
// with two dots.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	paths, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob(filepath.Join(dir, "[^.]*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, deeper...) {
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(dir, path)
		out[name] = string(text)
	}
	return out
}

func mount(pairs ...string) Mount {
	m := Mount{Path: "/etc/c", Volume: "c", Files: map[string][]byte{}}
	for i := 0; i < len(pairs); i += 2 {
		m.Files[pairs[i]] = []byte(pairs[i+1])
	}
	return m
}

func TestRefresh(t *testing.T) {
	first := mount("composition.yaml", "1", "sub/prior.csv", "1", "gone.csv", "1")
	second := mount("composition.yaml", "2", "sub/prior.csv", "2", "more.csv", "2")
	scratch := Mount{Path: "/tmp/s", Volume: "s", Empty: true}
	at, err := WriteMounts(t.TempDir(), []Mount{first, scratch})
	if err != nil {
		t.Fatal(err)
	}
	volume := at["/etc/c"]
	if diff := cmp.Diff(map[string]string{"composition.yaml": "1", "sub/prior.csv": "1", "gone.csv": "1"}, files(t, volume)); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(filepath.Join(at["/tmp/s"], "own"), []byte("own"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &Pod{mounts: []Mount{first, scratch}, at: at}
	if err := p.Refresh([]Mount{second, scratch}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"composition.yaml": "2", "sub/prior.csv": "2", "more.csv": "2"}, files(t, volume)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"own": "own"}, files(t, at["/tmp/s"])); diff != "" {
		t.Errorf("the pod's own folder: %s", diff)
	}
	version, err := os.Readlink(filepath.Join(volume, dataLink))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh([]Mount{second, scratch}); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.Readlink(filepath.Join(volume, dataLink)); again != version {
		t.Error("files that have not changed were written again")
	}
	if left, _ := filepath.Glob(filepath.Join(volume, "..version-*")); len(left) != 1 {
		t.Errorf("the volume holds the versions %v", left)
	}
	// A bad name leaves what is there.
	if err := p.Refresh([]Mount{mount("../escape", "3"), scratch}); err == nil {
		t.Error("a name that climbs out of the volume was written")
	}
	if got := files(t, volume)["composition.yaml"]; got != "2" {
		t.Errorf("it holds %q", got)
	}
	p.mounts = nil // the pod has gone
	if err := p.Refresh([]Mount{first}); err != nil || files(t, volume)["composition.yaml"] != "2" {
		t.Errorf("%v: the volume of a pod that has gone was written", err)
	}
}
