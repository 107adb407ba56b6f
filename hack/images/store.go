package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// writeLayout puts everything into an OCI layout at dir, in place of the one
// that is there. containerd imports each image under its name by digest, which
// is what the manifests say.
func writeLayout(dir, prefix string, images []built, src source) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err != nil {
			return fmt.Errorf("%s holds something else than images: name another folder", dir)
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".images-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	l, err := layout.Write(tmp, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	for _, im := range images {
		digest, err := im.index.Digest()
		if err != nil {
			return err
		}
		if err := l.AppendIndex(im.index, layout.WithAnnotations(map[string]string{
			"io.containerd.image.name":          fmt.Sprintf("%s/%s@%s", prefix, im.name, digest),
			"org.opencontainers.image.ref.name": fmt.Sprintf("%s:%s", im.name, src.version),
		})); err != nil {
			return fmt.Errorf("write %s: %w", im.name, err)
		}
		for _, doc := range im.documents {
			if err := l.AppendImage(doc); err != nil {
				return fmt.Errorf("write the SPDX document of %s: %w", im.name, err)
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

// pushAll pushes everything below prefix, with the credentials that the Docker
// configuration names.
func pushAll(ctx context.Context, prefix string, images []built, src source) error {
	opts := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	for _, im := range images {
		tag, err := name.NewTag(fmt.Sprintf("%s/%s:%s", prefix, im.name, src.version))
		if err != nil {
			return fmt.Errorf("-push: %w", err)
		}
		if err := remote.WriteIndex(tag, im.index, opts...); err != nil {
			return fmt.Errorf("push %s: %w", tag, err)
		}
		for _, doc := range im.documents {
			if err := pushDocument(tag.Context(), doc, opts); err != nil {
				return fmt.Errorf("push the SPDX document of %s: %w", tag, err)
			}
		}
	}
	return nil
}

func pushDocument(repo name.Repository, doc v1.Image, opts []remote.Option) error {
	digest, err := doc.Digest()
	if err != nil {
		return err
	}
	return remote.Write(repo.Digest(digest.String()), doc, opts...)
}

// writeComponent writes the kustomize component that puts the images, by digest,
// in the place of the names that the overlays have. (kustomize's own images
// transformer finds them in containers, init containers and image volumes.)
func writeComponent(dir, prefix string, images []built) error {
	var b strings.Builder
	b.WriteString("# Written by make images: the images by digest. See manifests/README.md.\napiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages:\n")
	for _, im := range images {
		digest, err := im.index.Digest()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "  - name: %s\n    newName: %s/%s\n    digest: %s\n", im.name, prefix, im.name, digest)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(b.String()), 0o644)
}
