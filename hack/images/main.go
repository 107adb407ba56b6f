// Command images makes Aisle's container images without a container engine: it
// compiles the functions, takes the libraries that they need from the build
// machine, and writes an OCI layout or pushes to a registry.
//
// Guarantees:
//   - The same commit, Go toolchain, C compiler and libraries give the same
//     digests, in whatever folder. Times are the commit's (or
//     SOURCE_DATE_EPOCH's), owners are root, paths are trimmed, environment
//     variables that change a compile are pinned.
//   - Images run as 65532, need no writable root, and have nothing setuid and
//     nothing that others may write to.
//   - ONNX Runtime and each model package are layers of their own, so that a
//     new binary moves only its own layer, and the layer of a model is the same
//     blob in every image that has it.
//   - Each image has an SPDX document, attached as an OCI referrer.
//
// Beside the images it writes a kustomize component that names them by digest:
// see manifests/README.md.
//
// Non-goals: signing (cosign signs what is pushed here), and base images.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", ".", "the project's root")
	out := flags.String("out", ".cache/images", "write an OCI layout and the kustomize component to this folder, below the root unless absolute")
	push := flags.String("push", "", "push to `REGISTRY/PREFIX` instead of writing a layout; the component is written to -out all the same")
	names := flags.String("platforms", "linux/amd64,linux/arm64", "platforms, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if !filepath.IsAbs(*out) {
		*out = filepath.Join(*root, *out)
	}
	src, err := readSource(ctx, *root, getenv)
	if err != nil {
		return err
	}
	b := builder{root: *root, source: src, log: stderr}
	for name := range strings.SplitSeq(*names, ",") {
		t, err := findToolchain(name)
		if err != nil {
			return err
		}
		b.toolchains = append(b.toolchains, t)
	}
	scratch, err := os.MkdirTemp("", "aisle-images-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	b.scratch = scratch
	built, err := b.build(ctx)
	if err != nil {
		return err
	}
	prefix := "dev.local" // Knative resolves no tag below it, so no registry is needed
	if *push != "" {
		prefix = *push
		err = pushAll(ctx, prefix, built, src)
	} else {
		err = writeLayout(*out, prefix, built, src)
	}
	if err != nil {
		return err
	}
	if err := writeComponent(filepath.Join(*out, "kustomize"), prefix, built); err != nil {
		return err
	}
	return errors.Join(list(stdout, prefix, built), b.missing(stderr))
}

// list prints what was made. Sizes are compressed and of the first platform.
func list(w io.Writer, prefix string, built []built) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "IMAGE\tMB\tPLATFORMS\tDIGEST")
	for _, im := range built {
		digest, err := im.index.Digest()
		if err != nil {
			return err
		}
		fmt.Fprintf(tw, "%s/%s\t%.2f\t%s\t%s\n", prefix, im.name, float64(im.bytes)/1e6, strings.Join(im.platforms, ","), digest)
	}
	return tw.Flush()
}
