// Deliver checks a model package and copies it to where a classifier reads it.
// It is a pod's init container: its own image has the package, a volume takes
// the copy, and the classifier beside it starts only when the digest was the
// one that the manifest names.
//
// Environment: MODEL (the package's folder), TO (the folder that gets the
// copy, below an existing one), DIGEST (of the package, "sha256:..."). All are
// required.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"aisle.dev/aisle/internal/model"
)

func main() {
	if err := run(os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "deliver:", err)
		os.Exit(1)
	}
}

func run(getenv func(string) string) error {
	from, to, digest := getenv("MODEL"), getenv("TO"), getenv("DIGEST")
	switch {
	case from == "":
		return errors.New("MODEL is not set: it names a model package, such as /models/title")
	case to == "":
		return errors.New("TO is not set: it names the folder that gets the copy, such as /volume/title")
	}
	// What is read is checked where it arrives: the copy is what gets loaded.
	if err := copyPackage(from, to); err != nil {
		return err
	}
	pkg, err := model.Load(to)
	if err == nil {
		err = pkg.Check(digest)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(to))
	}
	return nil
}

// copyPackage copies the files that the package names.
func copyPackage(from, to string) error {
	pkg, err := model.Load(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, os.ErrExist) { // a container that is started again
		return err
	}
	names := []string{"model.yaml"}
	for _, f := range pkg.Spec.Files() {
		names = append(names, f.File)
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
