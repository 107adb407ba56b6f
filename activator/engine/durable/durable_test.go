package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"aisle.dev/aisle/activator/engine/durable"
)

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"the first, and longer", "the second", ""} {
		if err := durable.Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v; want %q", got, err, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want its owner's only", info, err)
	}
	if err := durable.Replace(filepath.Join(path, "below"), nil); err == nil {
		t.Error("written below a file")
	}
	if left, err := filepath.Glob(path + ".new"); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
