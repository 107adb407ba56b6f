package main

import (
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/manifest"
)

func TestManifests(t *testing.T) {
	dir, err := writeManifests(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	set, err := manifest.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range set.Services {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"trivial", "wide"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A namespace that this program has not made, or knows nothing of, is not
// removed.
func TestNamespaceOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	if err := os.MkdirAll(filepath.Join(dir, "kustomize"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomize", "kustomization.yaml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]string{"there": "echo namespace/aisle", "unknown": "exit 1"} {
		kubectl := "echo \"$@\" >>" + asked + "; " + answer
		c := &cluster{b: &bench{images: dir, log: io.Discard}, kubectl: []string{"sh", "-c", kubectl, "kubectl"}}
		err := c.deploy(t.Context())
		if err == nil || c.made {
			t.Errorf("%s: %v, made: %v", name, err, c.made)
		}
		if err := c.remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	got, err := os.ReadFile(asked)
	if want := strings.Repeat("get namespace aisle --ignore-not-found -o name\n", 2); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestExported(t *testing.T) {
	env := []byte("export KUBECONFIG=/x/admin.kubeconfig\nexport AISLE_GATEWAY=10.0.0.1:80\n")
	for name, want := range map[string]string{"KUBECONFIG": "/x/admin.kubeconfig", "AISLE_GATEWAY": "10.0.0.1:80", "GATEWAY": ""} {
		if got := exported(env, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestSpent(t *testing.T) {
	for _, test := range []struct {
		name, timing string
		want         float64
	}{
		{"a classifier's phases", "queue;dur=0.1, preprocess;dur=0.25, infer;dur=0.5", 0.85},
		{"another's", "app;dur=1", 0},
		{"nothing said", "", 0},
		{"the composer's own", "legs;dur=7, compose;dur=0.3", 0.3},
	} {
		if got := spent(http.Header{"Server-Timing": {test.timing}}); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
