package delivery

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What a kill leaves is read again, whenever it comes, and a file that was
// changed is another one.
func TestState(t *testing.T) {
	dir := t.TempDir()
	feed := filepath.Join(dir, "feed.csv")
	if err := os.WriteFile(feed, make([]byte, 3*ends), 0o600); err != nil {
		t.Fatal(err)
	}
	look := func() Sending {
		t.Helper()
		f, err := os.Open(feed)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, err := NewSending(f, "to here")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	path := filepath.Join(dir, "feed.csv.sent")
	s, done, failed, err := OpenState(path, look())
	if err != nil || done != 0 || failed != 0 {
		t.Fatal(done, failed, err)
	}
	for n := range 12 { // and no Close: it is killed
		if err := s.Done(n+1, n == 3); err != nil {
			t.Fatal(err)
		}
	}
	if s, done, failed, err = OpenState(path, look()); err != nil || done != 12 || failed != 1 {
		t.Fatal(done, failed, err)
	}
	other := look()
	other.How = "to there"
	if _, done, _, err := OpenState(path, other); !errors.Is(err, ErrOtherSending) || done != 12 {
		t.Errorf("%d, %v", done, err)
	}
	at, err := os.OpenFile(feed, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := at.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := at.WriteAt([]byte("x"), 3*ends-1); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(at.Close(), os.Chtimes(feed, stat.ModTime(), stat.ModTime())); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := OpenState(path, look()); !errors.Is(err, ErrOtherSending) {
		t.Error(err)
	}
	if err := s.Close(true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, text := range []string{"", "{}\n", "no state at all, though it is long enough to be one, as it seems\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := OpenState(path, look()); err == nil || errors.Is(err, ErrOtherSending) {
			t.Errorf("%q: %v", text, err)
		}
	}
	folder, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if _, err := NewSending(folder, ""); err == nil {
		t.Error("a folder can be sent")
	}
}
