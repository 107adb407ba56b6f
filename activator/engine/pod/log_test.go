package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	begun := time.Now().Add(-time.Hour)
	for i := range KeptLogs + 3 {
		name := filepath.Join(dir, fmt.Sprintf("r-00001-%05d.log", i))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, begun, begun.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "other-00001-aaaaa.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Prune(dir, "r-00001", func(pod string) bool { return pod == "r-00001-00001" }); err != nil {
		t.Fatal(err)
	}
	got, err := Logs(dir, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"r-00001-00001"}
	for i := 3; i < KeptLogs+3; i++ {
		want = append(want, fmt.Sprintf("r-00001-%05d", i))
	}
	if diff := cmp.Diff(append(want, "other-00001-aaaaa"), got); diff != "" {
		t.Errorf("logs kept (-want +got):\n%s", diff)
	}
	if err := Forget(dir, func(pod string) bool { return pod == "r-00001-00007" }); err != nil {
		t.Fatal(err)
	}
	if got, err = Logs(dir, func(string) bool { return true }); err != nil || len(got) != 1 || got[0] != "r-00001-00007" {
		t.Errorf("logs %v after all but one were forgotten: %v", got, err)
	}
}

// filled is how much the logs of a pod take up.
func filled(t *testing.T, dir, pod string) (sizes [2]int64) {
	t.Helper()
	for i, suffix := range []string{".log", ".log.1"} {
		if info, err := os.Stat(filepath.Join(dir, pod+suffix)); err == nil {
			sizes[i] = info.Size()
		}
	}
	return sizes
}

func TestLogIsBoundedWhileItGrows(t *testing.T) {
	dir := t.TempDir()
	l, err := openLog(dir, "p", 10)
	if err != nil {
		t.Fatal(err)
	}
	go l.started()
	for _, text := range []string{"012345678\n", "abc\n", "next\n", "a line longer than the file\n", "x\n"} {
		l.write([]byte(text))
		if s := filled(t, dir, "p"); s[0] > 28 || s[1] > 28 {
			t.Errorf("after %q: %d bytes", text, s)
		}
	}
	l.finish()
	for name, want := range map[string]string{"p.log.1": "a line longer than the file\n", "p.log": "x\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, want %q (%v)", name, got, want, err)
		}
	}
}

// A log that cannot be written does not stop the pod, and is written again as
// soon as it can be.
func TestLogThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	l, err := openLog(dir, "p", 4)
	if err != nil {
		t.Fatal(err)
	}
	l.write([]byte("one\n"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l.write([]byte("lost\n"))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.write([]byte("two\n"))
	l.finish()
	if got, err := os.ReadFile(filepath.Join(dir, "p.log")); err != nil || string(got) != "two\n" {
		t.Errorf("%q, %v", got, err)
	}
}
