// Package pythontest gives tests a Python that has what python/requirements.txt
// pins. It makes the environment in the user's cache at the first call, which
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

// Python returns the path of the environment's Python. root is the project's
// root, relative to the test's folder.
func Python(t testing.TB, root string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), installing)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(root, "python", "venv.sh"))
	var why bytes.Buffer
	cmd.Stderr = &why
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("NOT TESTED: the Python environment of python/venv.sh cannot be had: %v\n%s", err, why.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// Run runs the environment's Python in the project's root, with aisle_model to
// be imported and one thread for a sum, and fails the test where it fails. It
// returns what was written to standard output.
func Run(t testing.TB, root string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Python(t, root), args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "PYTHONPATH=python", "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, errors.Bytes())
	}
	return string(out)
}
