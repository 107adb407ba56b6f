package model

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestDecodeRefuses is what no JSON document could hold.
func TestDecodeRefuses(t *testing.T) {
	body := string(file(good["hashed n-grams"]))
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i, c := 'b', 'a'; i < 'k'; i, c = i+1, i {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c), 10), ","))
	}
	for _, tt := range []struct{ name, text, says string }{
		{"empty", "", "the file is empty"},
		{"a list", "[1, 2]", "the file must be a map, not a list"},
		{"no YAML", "a: [", "line 1"},
		{"a field twice", body + "kind: Model\n", `"kind" already set`},
		{"a second document", body + "---\n" + body, "more than one document"},
		{"temperature is not a number", strings.Replace(body, "temperature: 1", "temperature: .nan", 1), "not finite"},
		{"infinite temperature", strings.Replace(body, "temperature: 1", "temperature: .inf", 1), "not finite"},
		{"temperature beyond float64", strings.Replace(body, "temperature: 1", "temperature: 1e999", 1), ""},
		{"null in a list", strings.Replace(body, "[title,", "[~,", 1), "reads[0] is empty"},
		{"null", strings.Replace(body, "activation: softmax", "activation:", 1), "activation is empty"},
		{"not UTF-8", body + "description: \xff\n", "UTF-8"},
		{"aliases that multiply", bomb, "excessive aliasing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := decode([]byte(tt.text))
			if err == nil {
				if p := s.Problems(); len(p) > 0 {
					err = p[0]
				}
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want a sentence with %q", err, tt.says)
			}
		})
	}
	if _, err := decode([]byte("---\n# a comment\n" + body)); err != nil {
		t.Errorf("one document that begins with ---: %v", err)
	}
}

// TestFilesOfStrangers: no file makes Load read elsewhere, wait, or fill the
// memory.
func TestFilesOfStrangers(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("Shirts\nTies\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	replace := func(dir, name string, with func(path string) error) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := with(path); err != nil {
			t.Fatal(err)
		}
	}
	link := func(path string) error { return os.Symlink(outside, path) }
	up := func(path string) error { return os.Symlink("../../../../../../../../../../../../etc/passwd", path) }
	pipe := func(path string) error { return syscall.Mkfifo(path, 0o600) }
	folder := func(path string) error { return os.Mkdir(path, 0o700) }
	// A sparse file: a gigabyte that takes no room.
	sparse := func(path string) error {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		return os.Truncate(path, 1<<30)
	}
	for _, tt := range []struct {
		name, file string
		with       func(string) error
		says       string
	}{
		{"labels are a link to elsewhere", "labels.txt", link, "escapes"},
		{"labels are a link upwards", "labels.txt", up, "escapes"},
		{"the graph is a link to elsewhere", "model.onnx", link, "escapes"},
		{"model.yaml is a link to elsewhere", "model.yaml", link, "escapes"},
		{"model.yaml is a pipe", "model.yaml", pipe, "not a regular file"},
		{"labels are a pipe", "labels.txt", pipe, "not a regular file"},
		{"the graph is a folder", "model.onnx", folder, "not a regular file"},
		{"model.yaml of a gigabyte", "model.yaml", sparse, "larger than"},
		{"labels of a gigabyte", "labels.txt", sparse, "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, valid)
			replace(dir, tt.file, tt.with)
			_, problems := Inspect(dir)
			if !slices.ContainsFunc(problems, func(err error) bool { return strings.Contains(err.Error(), tt.says) }) {
				t.Errorf("%v, want a sentence with %q", problems, tt.says)
			}
			if _, err := Load(dir); err == nil {
				t.Error("it was loaded")
			}
		})
	}

	// A ConfigMap's files are links within its folder.
	dir := write(t, valid)
	if err := os.Mkdir(filepath.Join(dir, "..data"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model.yaml", "labels.txt", "model.onnx"} {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "..data", name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); err != nil {
		t.Errorf("links within the folder: %v", err)
	}
}

// FuzzDecode: whatever the file, there is a verdict, and one with a word.
func FuzzDecode(f *testing.F) {
	for _, body := range good {
		f.Add(file(body))
	}
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("preprocess: {kind: image, image: {}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decode(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a word")
			}
			return
		}
		for _, p := range s.Problems() {
			if at, _, ok := strings.Cut(p.Error(), ": "); !ok || at == "" {
				t.Errorf("%q names no field", p)
			}
		}
		s.setDefaults()
	})
}
