package feed_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/product"
)

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPictures(t *testing.T) {
	dir := t.TempDir()
	beside, byID := filepath.Join(dir, "feed"), filepath.Join(dir, "pictures")
	write(t, filepath.Join(dir, "secret.jpg"), "secret")
	write(t, filepath.Join(beside, "a.jpg"), "A")
	write(t, filepath.Join(beside, "sub", "b.png"), "B")
	write(t, filepath.Join(beside, "empty.jpg"), "")
	write(t, filepath.Join(byID, "1.jpg"), "one")
	write(t, filepath.Join(byID, "2.webp"), "two")
	write(t, filepath.Join(byID, "dir.jpg", "x"), "x")
	if err := os.Symlink(filepath.Join(dir, "secret.jpg"), filepath.Join(beside, "link.jpg")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(beside, "pipe.jpg"), 0o600); err != nil {
		t.Fatal(err)
	}
	large, err := os.Create(filepath.Join(beside, "large.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := large.Truncate(product.MaxImage + 1); err != nil {
		t.Fatal(err)
	}
	_ = large.Close() // nothing was written

	gif := filepath.Join(dir, "absolute.gif")
	write(t, gif, "GIF89a")
	p, err := feed.OpenPictures(beside, byID)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []struct{ name, id, path, want, err string }{
		{name: "a path", path: "a.jpg", want: "A"},
		{name: "a folder's path", path: "sub/b.png", want: "B"},
		{name: "a path comes before an id", id: "1", path: "a.jpg", want: "A"},
		{name: "an id", id: "1", want: "one"},
		{name: "another kind of picture", id: "2", want: "two"},
		{name: "no picture of this id", id: "3"},
		{name: "no id", id: ""},
		{name: "an id that no file can have", id: "../feed/a"},
		{name: "a very long id", id: strings.Repeat("x", 300)},
		{name: "absent", path: "no.jpg", err: "line 7: the image no.jpg does not exist; paths are relative to " + beside},
		{name: "outside", path: "../secret.jpg", err: "line 7: the image ../secret.jpg: it lies outside of the folder of the file"},
		{name: "a link to outside", path: "link.jpg", err: "line 7: the image link.jpg: it lies outside of the folder of the file"},
		{name: "a path in the folder of pictures", path: "1.jpg", want: "one"},
		{name: "absolute", path: gif, want: "GIF89a"},
		{name: "absolute and no picture", path: "/etc/passwd", err: "line 7: the image /etc/passwd: it is not a picture; what an absolute path names must be one"},
		{name: "absolute and absent", path: "/no.jpg", err: "line 7: the image /no.jpg does not exist"},
		{name: "a pipe", path: "pipe.jpg", err: "line 7: the image pipe.jpg: it is not a regular file"},
		{name: "a folder", path: "sub", err: "line 7: the image sub: it is not a regular file"},
		{name: "a folder by id", id: "dir", err: "line 7: the picture dir.jpg: it is not a regular file"},
		{name: "empty", path: "empty.jpg", err: "line 7: the image empty.jpg: it is empty"},
		{name: "too large", path: "large.jpg", err: "line 7: the image large.jpg: it is 10485761 bytes long; at most 10485760 are accepted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := p.Append([]byte("before "), feed.Item{Line: 7, Picture: c.path, Product: product.Product{ID: c.id}})
			msg := ""
			if err != nil {
				msg = err.Error()
			}
			if msg != c.err || string(got) != "before "+c.want {
				t.Errorf("got %q, error %q; want %q, error %q", got, msg, "before "+c.want, c.err)
			}
		})
	}
	if _, err := feed.OpenPictures(beside, filepath.Join(dir, "none")); err == nil {
		t.Error("a folder of pictures that does not exist is accepted")
	}
}
