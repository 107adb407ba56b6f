package main

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// part is something that an image contains.
type part struct {
	name, version string
	path          string // in the image
	sha256        string
	license       string // an SPDX expression; empty where nobody said
	copyright     string
	purl          string // https://github.com/package-url/purl-spec
	comment       string
}

// goParts lists a binary and the modules that are linked into it.
func goParts(name, file string) ([]part, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read what %s was built of: %w", file, err)
	}
	parts := []part{
		{name: name, license: license, purl: "pkg:golang/" + info.Path},
		{name: "stdlib", version: info.GoVersion, license: "BSD-3-Clause", purl: "pkg:golang/stdlib@" + strings.TrimPrefix(info.GoVersion, "go")},
	}
	for _, m := range info.Deps {
		parts = append(parts, modulePart(m))
	}
	return parts, nil
}

func modulePart(m *debug.Module) part {
	if m.Replace != nil {
		m = m.Replace
	}
	p := part{name: m.Path, version: m.Version, purl: "pkg:golang/" + m.Path + "@" + m.Version}
	if m.Sum != "" {
		p.comment = "Go checksum database: " + m.Sum
	}
	return p
}

type debian struct{ name, version string }

func (d debian) purl(arch string) string {
	return fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", d.name, strings.ReplaceAll(d.version, "+", "%2B"), arch)
}

// debianPackage is the package that a file came with, where dpkg knows it.
func debianPackage(ctx context.Context, file string) (debian, bool) {
	// With a merged /usr dpkg knows a file by one of two names, and a link by
	// neither of its target's.
	names := []string{file, "/usr" + file, strings.TrimPrefix(file, "/usr")}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		names = append(names, real, strings.TrimPrefix(real, "/usr"))
	}
	for _, name := range names {
		out, err := exec.CommandContext(ctx, "dpkg-query", "--search", name).Output()
		if err != nil {
			continue
		}
		owner, _, _ := strings.Cut(string(out), ": ")
		version, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat=${Version}", owner).Output()
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(owner, ":")
		return debian{name, string(version)}, true
	}
	return debian{}, false
}

// The part of https://spdx.github.io/spdx-spec/v2.3/ that is used here.
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	DataLicense   string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID        string          `json:"SPDXID"`
	Name      string          `json:"name"`
	Version   string          `json:"versionInfo,omitempty"`
	File      string          `json:"packageFileName,omitempty"`
	Location  string          `json:"downloadLocation"`
	Analyzed  bool            `json:"filesAnalyzed"`
	Concluded string          `json:"licenseConcluded"`
	Declared  string          `json:"licenseDeclared"`
	Copyright string          `json:"copyrightText"`
	Checksums []spdxChecksum  `json:"checksums,omitempty"`
	Refs      []spdxReference `json:"externalRefs,omitempty"`
	Comment   string          `json:"comment,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxReference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const spdxType types.MediaType = "application/spdx+json"

const unsaid = "NOASSERTION"

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func newDocument(src source, r recipe, digest v1.Hash) spdxDocument {
	image := part{name: r.name, version: r.version, sha256: digest.Hex, license: r.licenses,
		purl: fmt.Sprintf("pkg:oci/%s@%s%%3A%s?arch=%s", r.name, digest.Algorithm, digest.Hex, r.arch)}
	d := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: r.name,
		Namespace: home + "/spdx/" + r.name + "/" + digest.Hex,
		Creation:  spdxCreation{Created: src.time.Format("2006-01-02T15:04:05Z"), Creators: []string{"Tool: " + module + "/hack/images"}},
	}
	for i, p := range append([]part{image}, r.parts...) {
		// Two functions' modules, or a file of one name at two places, are two
		// elements: the number keeps their names apart.
		sp := spdxPackage{
			ID: fmt.Sprintf("SPDXRef-%d-%s", i, notInID.ReplaceAllString(p.name, "-")), Name: p.name, Version: p.version, File: p.path,
			Location: unsaid, Concluded: unsaid, Declared: or(p.license, unsaid), Copyright: or(p.copyright, unsaid), Comment: p.comment,
		}
		if p.sha256 != "" {
			sp.Checksums = []spdxChecksum{{"SHA256", p.sha256}}
		}
		if p.purl != "" {
			sp.Refs = []spdxReference{{"PACKAGE-MANAGER", "purl", p.purl}}
		}
		d.Packages = append(d.Packages, sp)
		if i == 0 {
			d.Relationships = append(d.Relationships, spdxRelationship{d.ID, "DESCRIBES", sp.ID})
		} else {
			d.Relationships = append(d.Relationships, spdxRelationship{d.Packages[0].ID, "CONTAINS", sp.ID})
		}
	}
	return d
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// document is an artifact whose subject is the image, so that a registry lists
// it as a referrer
// (https://specs.opencontainers.org/distribution-spec/#listing-referrers).
func (b *builder) document(r recipe, img v1.Image) (v1.Image, error) {
	subject, err := partial.Descriptor(img)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(newDocument(b.source, r, subject.Digest))
	if err != nil {
		return nil, err
	}
	doc := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), spdxType)
	doc, err = mutate.Append(doc, mutate.Addendum{Layer: static.NewLayer(data, spdxType)})
	if err != nil {
		return nil, err
	}
	doc = mutate.Annotations(doc, map[string]string{
		"org.opencontainers.image.created": b.source.time.Format("2006-01-02T15:04:05Z"),
		"org.opencontainers.image.title":   r.name + ".spdx.json",
	}).(v1.Image)
	// Last: what is put around an image with a subject drops it.
	return mutate.Subject(doc, v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest}).(v1.Image), nil
}
