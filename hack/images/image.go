package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// built is one image of every platform that it can be made for.
type built struct {
	name      string // "aisle-title"
	index     v1.ImageIndex
	platforms []string
	bytes     int64      // compressed, of the first platform
	documents []v1.Image // SPDX, each with the image of a platform as its subject
}

// builder makes all images. Its layers are made once and shared.
type builder struct {
	root, scratch string
	source        source
	toolchains    []toolchain
	log           io.Writer
	skipped       []string
}

// recipe is what an image of one platform consists of.
type recipe struct {
	name        string // of the image
	description string
	version     string
	licenses    string
	labels      map[string]string
	arch        string
	entrypoint  string // empty for an image that is only mounted
	env         []string
	layers      []*layer
	parts       []part // for the SPDX document
}

// function is a compiled function of one platform.
type function struct {
	layer *layer
	parts []part
	path  string // in the image
	file  string // on the build machine
}

func (b *builder) build(ctx context.Context) ([]built, error) {
	models, err := readModels(b.root)
	if err != nil {
		return nil, err
	}
	shared := make(map[string]*layer)
	for _, m := range models {
		if shared[m.name], err = newLayer(b.source.time, m.files); err != nil {
			return nil, err
		}
	}
	recipes := make(map[string][]recipe) // by the image's name
	add := func(r recipe) { recipes[r.name] = append(recipes[r.name], r) }
	for _, t := range b.toolchains {
		controller, err := b.command(ctx, t, "controller", "activator", false)
		if err != nil {
			return nil, err
		}
		add(b.recipe(t, "aisle-controller", "makes ScalingSchedules hold for Knative Services", controller))
		composer, err := b.function(ctx, t, "composer", false)
		if err != nil {
			return nil, err
		}
		add(b.recipe(t, "aisle-composer", "turns product events into category events", composer))
		deliver, err := b.function(ctx, t, "deliver", false)
		if err != nil {
			return nil, err
		}
		classifier, base, err := b.classifier(ctx, t)
		if err != nil {
			return nil, err
		}
		for _, m := range models {
			add(b.recipe(t, "aisle-model-"+m.name, m.description, function{}).with(m, shared[m.name]))
			r := b.recipe(t, "aisle-deliver-"+m.name, "checks a model package and copies it to where a classifier reads it", deliver).with(m, shared[m.name])
			r.env = []string{"MODEL=" + path.Join(modelDir, m.name)}
			add(r)
		}
		if classifier == nil {
			continue
		}
		r := b.recipe(t, "aisle-classifier", "serves one ONNX model package", *classifier)
		r.layers, r.parts = append(slices.Clone(base.layers), r.layers...), append(slices.Clone(base.parts), r.parts...)
		r.licenses = base.licenses
		add(r)
		for _, m := range models {
			one := r.with(m, shared[m.name])
			one.name, one.description = "aisle-"+m.name, m.description
			one.env = []string{"MODEL=" + path.Join(modelDir, m.name)}
			add(one)
		}
	}
	var out []built
	for _, name := range slices.Sorted(maps.Keys(recipes)) {
		im, err := b.assemble(name, recipes[name])
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", name, err)
		}
		out = append(out, im)
	}
	return out, nil
}

// missing tells of the images that could not be made for a platform.
func (b *builder) missing(w io.Writer) error {
	for _, s := range b.skipped {
		if _, err := fmt.Fprintln(w, s); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) recipe(t toolchain, name, description string, f function) recipe {
	r := recipe{name: name, description: description, version: b.source.version, licenses: license, arch: t.arch, entrypoint: f.path, parts: f.parts}
	if f.layer != nil {
		r.layers = []*layer{f.layer}
	}
	return r
}

// with adds a model package, as a layer of its own.
func (r recipe) with(m modelPackage, l *layer) recipe {
	r.labels = map[string]string{"dev.aisle.model.name": m.name, "dev.aisle.model.version": m.version, "dev.aisle.model.digest": m.digest}
	r.layers = append(slices.Clone(r.layers), l)
	r.parts = append(slices.Clone(r.parts), part{name: "model-" + m.name, version: m.version, license: license, sha256: strings.TrimPrefix(m.digest, "sha256:"), comment: "a model package; the digest is that of its model.yaml, which pins its other files"})
	return r
}

func (b *builder) function(ctx context.Context, t toolchain, name string, cgo bool, tags ...string) (function, error) {
	return b.command(ctx, t, name, "functions/"+name, cgo, tags...)
}

// command compiles a folder of the project to a program of that name.
func (b *builder) command(ctx context.Context, t toolchain, name, folder string, cgo bool, tags ...string) (function, error) {
	f := function{path: "/app/" + name, file: filepath.Join(b.scratch, name+"-"+t.arch)}
	fmt.Fprintf(b.log, "compiling %s for %s\n", name, t.platform())
	if err := compile(ctx, b.root, t, folder, cgo, f.file, tags...); err != nil {
		return f, err
	}
	data, err := os.ReadFile(f.file)
	if err != nil {
		return f, err
	}
	if f.parts, err = goParts(name, f.file); err != nil {
		return f, err
	}
	f.layer, err = newLayer(b.source.time, []entry{{f.path, 0o555, data}})
	return f, err
}

// classifier gives the function and what lies below it: the libraries and ONNX
// Runtime. It gives nil where the build machine lacks what that takes.
func (b *builder) classifier(ctx context.Context, t toolchain) (*function, recipe, error) {
	if why := t.lacks(); why != "" {
		b.skipped = append(b.skipped, fmt.Sprintf("no classifier for %s: %s", t.platform(), why))
		return nil, recipe{}, nil
	}
	turbo, err := t.turbo(ctx, b.root)
	if err != nil {
		return nil, recipe{}, err
	}
	var tags []string
	if turbo != "" {
		tags = []string{"turbo"}
	} else {
		b.skipped = append(b.skipped, fmt.Sprintf("the classifier for %s reads photos without libjpeg-turbo, which takes longer: the library is missing (on Debian: apt-get install libjpeg62-turbo-dev:%s)", t.platform(), t.arch))
	}
	f, err := b.function(ctx, t, "classifier", true, tags...)
	if err != nil {
		return nil, recipe{}, err
	}
	ort, err := findRuntime(ctx, b.root, t)
	if err != nil {
		return nil, recipe{}, err
	}
	libs, err := libraries(t, f.file, ort)
	if err != nil {
		return nil, recipe{}, err
	}
	base := recipe{licenses: license + " AND MIT AND LGPL-2.1-or-later AND GPL-3.0-or-later WITH GCC-exception-3.1"}
	if turbo != "" {
		base.licenses += " AND " + turboLicense
		libs = append(libs, library{name: filepath.Base(turbo), file: turbo})
	}
	var files []entry
	notices := make(map[string]bool)
	for _, lib := range libs {
		data, err := os.ReadFile(lib.file)
		if err != nil {
			return nil, base, err
		}
		p := part{name: lib.name, path: lib.path, sha256: hash(data).Hex}
		if lib.path != "" {
			files = append(files, entry{lib.path, 0o555, data})
		} else {
			p.license, p.comment = turboLicense, "libjpeg-turbo, linked into the classifier statically; the digest is that of the library"
		}
		if pkg, ok := debianPackage(ctx, lib.file); ok {
			p.version, p.purl = pkg.version, pkg.purl(t.arch)
			if notice, err := os.ReadFile("/usr/share/doc/" + pkg.name + "/copyright"); err == nil && !notices[pkg.name] {
				notices[pkg.name] = true
				files = append(files, entry{"/usr/share/doc/" + pkg.name + "/copyright", 0o444, notice})
			}
		}
		base.parts = append(base.parts, p)
	}
	system, err := newLayer(b.source.time, files)
	if err != nil {
		return nil, base, err
	}
	data, err := os.ReadFile(ort)
	if err != nil {
		return nil, base, err
	}
	version, err := runtimeVersion(ort)
	if err != nil {
		return nil, base, err
	}
	// Beside the executable is where the classifier looks for it.
	at := "/app/libonnxruntime.so.1"
	runtime, err := newLayer(b.source.time, []entry{{at, 0o555, data}})
	if err != nil {
		return nil, base, err
	}
	base.layers = []*layer{system, runtime}
	base.parts = append(base.parts, part{name: "onnxruntime", version: version, path: at, sha256: hash(data).Hex, license: "MIT", copyright: "Copyright (c) Microsoft Corporation", purl: "pkg:github/microsoft/onnxruntime@v" + version})
	return &f, base, nil
}

const turboLicense = "IJG AND BSD-3-Clause AND Zlib"

// assemble makes the index of an image's platforms.
func (b *builder) assemble(name string, recipes []recipe) (built, error) {
	out := built{name: name}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var adds []mutate.IndexAddendum
	for i, r := range recipes {
		img, err := b.image(r)
		if err != nil {
			return out, err
		}
		platform := v1.Platform{OS: "linux", Architecture: r.arch}
		adds = append(adds, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{MediaType: types.OCIManifestSchema1, Platform: &platform}})
		out.platforms = append(out.platforms, platform.String())
		doc, err := b.document(r, img)
		if err != nil {
			return out, err
		}
		out.documents = append(out.documents, doc)
		if i > 0 {
			continue
		}
		for _, l := range r.layers {
			out.bytes += int64(len(l.compressed))
		}
	}
	annotated := mutate.Annotations(mutate.AppendManifests(index, adds...), b.annotations(recipes[0]))
	out.index = annotated.(v1.ImageIndex)
	return out, nil
}

// annotations are https://specs.opencontainers.org/image-spec/annotations/.
func (b *builder) annotations(r recipe) map[string]string {
	a := map[string]string{
		"org.opencontainers.image.title":       r.name,
		"org.opencontainers.image.description": r.description,
		"org.opencontainers.image.created":     b.source.time.Format("2006-01-02T15:04:05Z"),
		"org.opencontainers.image.revision":    b.source.revision,
		"org.opencontainers.image.version":     r.version,
		"org.opencontainers.image.source":      home,
		"org.opencontainers.image.licenses":    r.licenses,
	}
	maps.Copy(a, r.labels)
	return a
}

func (b *builder) image(r recipe) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	var layers []mutate.Addendum
	for _, l := range r.layers {
		layers = append(layers, mutate.Addendum{Layer: l, History: v1.History{Created: v1.Time{Time: b.source.time}, CreatedBy: module + "/hack/images"}})
	}
	img, err := mutate.Append(img, layers...)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", r.arch
	config.Created = v1.Time{Time: b.source.time}
	config.Config = v1.Config{User: nonRoot, Env: r.env, Labels: b.annotations(r)}
	if r.entrypoint != "" {
		config.Config.Entrypoint = []string{r.entrypoint}
		config.Config.Env = append([]string{"PATH=/app"}, r.env...)
		config.Config.WorkingDir = "/"
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, err
	}
	return mutate.Annotations(img, b.annotations(r)).(v1.Image), nil
}
