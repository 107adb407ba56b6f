package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// The second writing replaces the first.
func TestLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	for range 2 {
		if err := writeLayout(dir, "dev.local", images(t), testSource); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index, validate.Fast); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	named, documents := 0, 0
	for _, d := range m.Manifests {
		if d.ArtifactType == string(spdxType) {
			documents++
		} else if reference := d.Annotations["io.containerd.image.name"]; strings.HasPrefix(reference, "dev.local/aisle-") && strings.HasSuffix(reference, "@"+d.Digest.String()) {
			named++
			stored, err := index.ImageIndex(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			checkIndex(t, stored)
		} else {
			t.Errorf("%s is called %q", d.Digest, reference)
		}
	}
	if n := len(images(t)); named != n || documents < n {
		t.Errorf("%d of %d images have a name; %d SPDX documents", named, n, documents)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*"))
	if len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
}

func TestLayoutKeepsWhatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	if err := os.WriteFile(mine, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeLayout(dir, "dev.local", nil, testSource); err == nil || !strings.Contains(err.Error(), "another folder") {
		t.Error(err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	prefix := strings.TrimPrefix(server.URL, "http://") + "/team"
	im := find(t, "aisle-title")
	if err := pushAll(t.Context(), prefix, []built{im}, testSource); err != nil {
		t.Fatal(err)
	}
	want, err := im.index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(prefix + "/aisle-title:" + testSource.version)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := got.Digest(); err != nil || d != want {
		t.Errorf("pushed %s, %v; want %s", d, err, want)
	}
	checkIndex(t, got)
	m, err := got.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		referrers, err := remote.Referrers(tag.Context().Digest(d.Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		list, err := referrers.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Manifests) != 1 || list.Manifests[0].ArtifactType != string(spdxType) {
			t.Errorf("%s is referred to by %+v", d.Platform, list.Manifests)
		}
	}
}

// The SPDX document lists what the image has, with the digests of its files.
func TestDocument(t *testing.T) {
	im := find(t, "aisle-title")
	layers, err := im.documents[0].Layers()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	var doc spdxDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	ids, by := map[string]bool{}, map[string]spdxPackage{}
	for _, p := range doc.Packages {
		if ids[p.ID] {
			t.Errorf("two elements are %s", p.ID)
		}
		ids[p.ID] = true
		by[p.Name] = p
	}
	for _, r := range doc.Relationships {
		if !ids[r.To] || r.From != doc.ID && !ids[r.From] {
			t.Errorf("%+v relates what is not there", r)
		}
	}
	img := im.platform(t, "amd64")
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if p := doc.Packages[0]; p.Name != "aisle-title" || p.Checksums[0].Value != digest.Hex {
		t.Errorf("describes %+v", p)
	}
	manifest, err := im.documents[0].Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.Subject == nil || manifest.Subject.Digest != digest {
		t.Errorf("subject %+v", manifest.Subject)
	}
	wants := []string{"classifier", "stdlib", "github.com/yalue/onnxruntime_go", "model-title", "onnxruntime"}
	native, err := findToolchain("linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	turbo, err := native.turbo(t.Context(), project)
	if err != nil {
		t.Fatal(err)
	}
	if turbo != "" { // linked statically, so that no file of it is looked for below
		wants = append(wants, filepath.Base(turbo))
	}
	for _, want := range wants {
		if by[want].Name == "" {
			t.Errorf("does not list %s", want)
		}
	}
	if v := by["onnxruntime"].Version; !strings.HasPrefix(v, "1.24.") {
		t.Errorf("ONNX Runtime %q", v)
	}
	for _, f := range inside(t, img) {
		if !strings.HasPrefix(filepath.Base(f.path), "lib") || !strings.Contains(f.path, ".so") {
			continue
		}
		found := false
		for _, p := range doc.Packages {
			found = found || p.File == f.path && p.Checksums[0].Value == hash(f.data).Hex
		}
		if !found {
			t.Errorf("does not list %s with its digest", f.path)
		}
	}
}
