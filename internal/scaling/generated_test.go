package scaling

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGenerated: the committed CRD and deep copies are what controller-gen makes
// of the types.
func TestGenerated(t *testing.T) {
	if testing.Short() {
		t.Skip("builds controller-gen where it is not built yet")
	}
	root := filepath.Join("..", "..")
	tool, err := exec.Command("go", "-C", filepath.Join(root, "hack", "tools"), "tool", "-n", "controller-gen").Output()
	if err != nil {
		t.Fatalf("controller-gen: %v", err)
	}
	for _, g := range []struct{ generator, committed string }{
		{"crd", filepath.Join(root, "manifests", "controller", "crd.yaml")},
		{"object", "zz_generated.deepcopy.go"},
	} {
		want, err := exec.Command(strings.TrimSpace(string(tool)), g.generator, "paths=.", "output:stdout").Output()
		if err != nil {
			t.Fatalf("controller-gen %s: %v", g.generator, err)
		}
		got, err := os.ReadFile(g.committed)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what controller-gen makes of the types: run make generate", g.committed)
		}
	}
}
