package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/fashion"
)

// The models, the fusion and all figures belong to one split. A change to it
// is a change of its name (fashion.Rule), a new golden and new models.
func TestSplitGolden(t *testing.T) {
	if _, err := fashion.Dir(os.Getenv); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the split needs the data: %v", err)
	}
	out := t.TempDir()
	var got bytes.Buffer
	if err := run(t.Context(), []string{"-out", out, "-evaluate"}, os.Getenv, &got); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("split (-want +got):\n%s", diff)
	}
	table, err := os.ReadFile(filepath.Join(out, "test.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(table, []byte("\n")); lines < 5000 {
		t.Errorf("test.csv has %d lines, want one for each of the test products", lines)
	}
}

func TestOutIsRequired(t *testing.T) {
	if err := run(t.Context(), nil, os.Getenv, new(bytes.Buffer)); err == nil {
		t.Error("run without -out succeeded")
	}
}
