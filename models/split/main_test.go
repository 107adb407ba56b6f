package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
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
	// As a program of its own: under the race detector, decoding nine thousand
	// photos takes minutes instead of seconds.
	cmd := exec.CommandContext(t.Context(), "go", "run", ".", "-out", out, "-evaluate")
	var got, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &got, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
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
