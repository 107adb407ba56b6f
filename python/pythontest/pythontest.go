// Package pythontest gives tests a Python that has what a requirements.txt of
// this project pins. It makes the environment in the user's cache at the first call, which
// takes a minute or two; where it cannot (no Python, no package index), the test
// is skipped with the reason. It is for tests alone and removes nothing.
package pythontest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// installing bounds what a test waits for the environment.
const installing = 10 * time.Minute

// Env is a Python environment.
type Env struct {
	Root         string // the project's, relative to the test's folder
	Requirements string // the folder below it whose requirements.txt counts: "python", say
}

// Python returns the path of the environment's Python.
func (e Env) Python(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), installing)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(e.Root, "python", "venv.sh"), filepath.Join(e.Root, e.Requirements))
	var why bytes.Buffer
	cmd.Stderr = &why
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("NOT TESTED: the Python environment of %s/requirements.txt cannot be had: %v\n%s", e.Requirements, err, why.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// Run runs the environment's Python in the project's root, with aisle_model to
// be imported and one thread for a sum, and fails the test where it fails. It
// returns what was written to standard output.
func (e Env) Run(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Python(t), args...)
	cmd.Dir = e.Root
	cmd.Env = append(os.Environ(), "PYTHONPATH=python", "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, complaints.Bytes())
	}
	return string(out)
}
