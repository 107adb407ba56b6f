package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// library is a shared library of the build machine and its place in an image.
type library struct {
	name string // its soname
	file string // on the build machine
	path string // in the image; empty for one that is linked statically
}

// libraries gives everything that the loader maps for the given binaries,
// transitively, the loader included, sorted by name. What own names is in the
// image already: a file of it is read for its needs and not listed.
//
// The loader looks in folders that were compiled into it; the first of them is
// where libraries go, so that no variable and no cache has to tell it.
func libraries(t toolchain, executable string, own ...string) ([]library, error) {
	exe, err := readELF(executable)
	if err != nil {
		return nil, err
	}
	if exe.interpreter == "" {
		return nil, fmt.Errorf("%s is linked statically: it needs no library", executable)
	}
	found := make(map[string]library)
	loader := library{name: path.Base(exe.interpreter), path: exe.interpreter}
	if loader.file, err = firstFile(t.loaders, exe.interpreter); err != nil {
		return nil, fmt.Errorf("the loader of %s: %w", executable, err)
	}
	dir, err := systemDir(loader.file)
	if err != nil {
		return nil, err
	}
	found[loader.name] = loader

	todo := slices.Clone(exe.needed)
	for _, file := range own {
		e, err := readELF(file)
		if err != nil {
			return nil, err
		}
		todo = append(todo, e.needed...)
	}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if _, ok := found[name]; ok {
			continue
		}
		file, err := firstFile(t.dirs, name)
		if err != nil {
			return nil, fmt.Errorf("a library that %s needs for %s (on Debian: apt-get install %s): %w", filepath.Base(executable), t.platform(), t.packages, err)
		}
		e, err := readELF(file)
		if err != nil {
			return nil, err
		}
		if e.machine != exe.machine {
			return nil, fmt.Errorf("%s is for %v, and %s for %v", file, e.machine, executable, exe.machine)
		}
		found[name] = library{name: name, file: file, path: path.Join(dir, name)}
		todo = append(todo, e.needed...)
	}
	return slices.SortedFunc(maps.Values(found), func(a, b library) int { return strings.Compare(a.name, b.name) }), nil
}

type elfFile struct {
	machine     elf.Machine
	needed      []string
	interpreter string
}

func readELF(file string) (elfFile, error) {
	f, err := elf.Open(file)
	if err != nil {
		return elfFile{}, fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	e := elfFile{machine: f.Machine}
	// A static binary has no dynamic section, which is no error.
	if e.needed, err = f.ImportedLibraries(); err != nil {
		return e, fmt.Errorf("read what %s needs: %w", file, err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err != nil {
			return e, fmt.Errorf("read the loader's name in %s: %w", file, err)
		}
		e.interpreter = string(bytes.TrimRight(name, "\x00"))
	}
	return e, nil
}

func firstFile(dirs []string, name string) (string, error) {
	for _, dir := range dirs {
		file := filepath.Join(dir, name)
		switch st, err := os.Stat(file); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case st.Mode().IsRegular():
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is in none of %q", name, dirs)
}

var systemDirs = regexp.MustCompile(`\x00(/(?:usr/)?lib[a-z0-9_/-]*/)\x00`)

// systemDir is the first folder that a loader searches by itself.
func systemDir(loader string) (string, error) {
	data, err := os.ReadFile(loader)
	if err != nil {
		return "", err
	}
	m := systemDirs.FindSubmatch(data)
	if m == nil {
		return "", fmt.Errorf("the loader %s names no folder of libraries", loader)
	}
	return path.Clean(string(m[1])), nil
}

// runtimeVersion is ONNX Runtime's, from the version of its symbols; empty where
// they have none.
func runtimeVersion(file string) (string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	versions, err := f.DynamicVersions()
	if err != nil {
		return "", fmt.Errorf("read the version of %s: %w", file, err)
	}
	for _, v := range versions {
		if after, ok := strings.CutPrefix(v.Name, "VERS_"); ok {
			return after, nil
		}
	}
	return "", nil
}
