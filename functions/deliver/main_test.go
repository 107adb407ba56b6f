package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/model"
)

const shipped = "../../models/title"

func getenv(from, to, digest string) func(string) string {
	m := map[string]string{"MODEL": from, "TO": to, "DIGEST": digest}
	return func(name string) string { return m[name] }
}

func TestDeliver(t *testing.T) {
	want, err := model.Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "title")
	for range 2 { // the container may be started again
		if err := run(getenv(shipped, to, want.Digest)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := model.Load(to)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != want.Digest {
		t.Errorf("delivered %s, want %s", got.Digest, want.Digest)
	}
}

// What is refused leaves nothing that a classifier could load.
func TestRefused(t *testing.T) {
	want, err := model.Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "title")
	if err := os.CopyFS(damaged, os.DirFS(shipped)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(damaged, "labels.txt"), []byte("other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	other := "sha256:" + strings.Repeat("0", 64)
	for name, tt := range map[string]struct{ from, digest, want string }{
		"another digest": {shipped, other, "wants \"" + other},
		"no digest":      {shipped, "", `wants ""`},
		"damaged file":   {damaged, want.Digest, "labels.txt"},
		"no package":     {t.TempDir(), want.Digest, "model.yaml"},
		"no MODEL":       {"", want.Digest, "MODEL is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "title")
			err := run(getenv(tt.from, to, tt.digest))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if _, err := os.Stat(to); !os.IsNotExist(err) {
				t.Errorf("%s is left behind (%v)", to, err)
			}
		})
	}
	if err := run(getenv(shipped, "", want.Digest)); err == nil || !strings.Contains(err.Error(), "TO is not set") {
		t.Error(err)
	}
}
