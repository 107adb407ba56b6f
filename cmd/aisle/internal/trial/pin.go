package trial

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"aisle.dev/aisle/internal/model"
)

// Pin writes the digests of a package's files into its model.yaml, where they
// are not right, and changes nothing else in it. It returns the files whose
// digests it wrote. Every file has a sha256 already, if only one to be
// replaced, such as "0".
func Pin(dir string) ([]string, error) {
	path := filepath.Join(dir, "model.yaml")
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > model.MaxSpec {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, model.MaxSpec)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	pins, err := find(&doc, root, nil)
	if err != nil {
		return nil, err
	}
	// From the last to the first, so that places stay where they are.
	slices.SortFunc(pins, func(a, b pin) int {
		if a.at.Line != b.at.Line {
			return b.at.Line - a.at.Line
		}
		return b.at.Column - a.at.Column
	})
	lines := strings.SplitAfter(string(text), "\n")
	var written []string
	for _, p := range pins {
		if p.at.Value == p.digest {
			continue
		}
		old := p.at.Value
		switch p.at.Style {
		case yaml.DoubleQuotedStyle:
			old = `"` + old + `"`
		case yaml.SingleQuotedStyle:
			old = "'" + old + "'"
		}
		line, column := []rune(lines[p.at.Line-1]), p.at.Column-1
		rest := string(line[column:])
		if old == "" || !strings.HasPrefix(rest, old) {
			return nil, fmt.Errorf("%s, line %d: the sha256 of %s is written in a way that is not replaced: write 0 there", path, p.at.Line, p.file)
		}
		lines[p.at.Line-1] = string(line[:column]) + p.digest + strings.TrimPrefix(rest, old)
		written = append(written, p.file)
	}
	if len(written) == 0 {
		return nil, nil
	}
	slices.Sort(written)
	return slices.Compact(written), replace(path, strings.Join(lines, ""), info.Mode())
}

// pin is the place of a digest, and what it must be.
type pin struct {
	file, digest string
	at           *yaml.Node
}

// find collects the maps that have a file and its sha256.
func find(n *yaml.Node, root *os.Root, pins []pin) ([]pin, error) {
	if n.Kind == yaml.MappingNode && len(n.Content) == 4 {
		values := map[string]*yaml.Node{n.Content[0].Value: n.Content[1], n.Content[2].Value: n.Content[3]}
		file, digest := values["file"], values["sha256"]
		if file != nil && digest != nil && digest.Kind == yaml.ScalarNode {
			sum, err := digestOf(root, file.Value)
			if err != nil {
				return nil, err
			}
			return append(pins, pin{file.Value, sum, digest}), nil
		}
	}
	for _, c := range n.Content { // an alias has none: what it names is found at its anchor
		var err error
		if pins, err = find(c, root, pins); err != nil {
			return nil, err
		}
	}
	return pins, nil
}

func digestOf(root *os.Root, name string) (string, error) {
	info, err := root.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// replace writes a file whole, or not at all.
func replace(path, text string, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".model.yaml-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode.Perm()), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
