package audit

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func opened(t *testing.T, dir string, limit int64) *Log {
	t.Helper()
	l, err := open(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func entry(service string, n int) Entry {
	return Entry{
		Time: time.Date(2026, 11, 23, 20, 0, n, 0, time.UTC), Namespace: "default", Service: service,
		Way: Socket, By: "uid 0", Did: fmt.Sprintf("change %d", n), New: Bounds{Floor: n},
	}
}

func read(t *testing.T, l *Log, service string, limit int) []string {
	t.Helper()
	all, err := l.Read("", service, limit)
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, e := range all {
		did = append(did, e.Service+": "+e.Did)
	}
	return did
}

func TestKept(t *testing.T) {
	dir := t.TempDir()
	l := opened(t, dir, MaxFile)
	whole := Entry{
		Time: time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC), Namespace: "shop", Service: "title", Way: Clock, Did: "window office begins",
		Schedule: "title-hours", Old: Bounds{Cap: 2}, New: Bounds{Floor: 1, Cap: 4, Closed: true}, Reason: "why", Until: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC),
	}
	if err := l.Write(entry("photo", 1), entry("photo", 2)); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(whole); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = opened(t, dir, MaxFile)
	got, err := l.Read("shop", "title", 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Entry{whole}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"title: window office begins", "photo: change 2"}, read(t, l, "", 2)); diff != "" {
		t.Error(diff)
	}
	if b, ok := l.Last("default", "photo"); !ok || b.Floor != 2 {
		t.Errorf("last of photo: %v, %v", b, ok)
	}
	if b, ok := l.Last("default", "title"); ok {
		t.Errorf("last of a service of another namespace: %v", b)
	}
	info, err := os.Stat(filepath.Join(dir, Name))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want the owner's only", info.Mode(), err)
	}
}

// What a crash has cut, and what is none of ours, costs nothing else.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	l := opened(t, dir, MaxFile)
	if err := l.Write(entry("title", 1)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, Name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("[]\n" + strings.Repeat("x", 3*maxLine) + "\n" + `{"service":"title","did":"cut`); err != nil {
		t.Fatal(err)
	}
	l = opened(t, dir, MaxFile)
	if err := l.Write(entry("title", 2)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"title: change 2", "title: change 1"}, read(t, l, "title", 10)); diff != "" {
		t.Error(diff)
	}
}

// A disk that is full for a while costs the entries of that while alone.
func TestFull(t *testing.T) {
	l := opened(t, t.TempDir(), MaxFile)
	if err := l.Write(entry("title", 1)); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(to unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &to); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.Rlimit{Cur: uint64(l.size) + 20, Max: limit.Max}) // a part of the line has room
	err := l.Write(entry("title", 2))
	set(limit)
	if err == nil {
		t.Error("an entry that was cut is said to be on record")
	}
	for n := range 2 {
		if err := l.Write(entry("title", 3+n)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"title: change 4", "title: change 3", "title: change 1"}, read(t, l, "title", 10)); diff != "" {
		t.Error(diff)
	}
}

// A file that could not be begun anew is with a later entry.
func TestBegunLater(t *testing.T) {
	dir := t.TempDir()
	l := opened(t, dir, 1)
	if err := l.Write(entry("title", 1)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, Name), filepath.Join(dir, Name+".1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, Name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.file.Close(); err != nil {
		t.Fatal(err)
	}
	l.file = nil // as after a rotation half made
	if err := l.Write(entry("title", 2)); err == nil {
		t.Error("a folder took an entry")
	}
	if err := os.Remove(filepath.Join(dir, Name)); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(entry("title", 3)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"title: change 3", "title: change 1"}, read(t, l, "title", 10)); diff != "" {
		t.Error(diff)
	}
}

func TestBounded(t *testing.T) {
	dir := t.TempDir()
	const limit = 4 << 10
	l := opened(t, dir, limit)
	for n := range 200 {
		if err := l.Write(entry("title", n)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v; want two files", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Size() > limit {
			t.Errorf("%s: %v, %v", f.Name(), info.Size(), err)
		}
	}
	got := read(t, l, "title", 1000)
	if len(got) < 20 || got[0] != "title: change 199" || got[len(got)-1] != fmt.Sprintf("title: change %d", 200-len(got)) {
		t.Errorf("%d entries, %s to %s", len(got), got[0], got[len(got)-1])
	}
	if err := l.Write(Entry{Service: "title", Did: strings.Repeat("é", maxText)}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, l, "title", 1)[0]; len(got) > maxText+20 || !strings.HasSuffix(got, "é…") {
		t.Errorf("a long text: %d bytes, %q", len(got), got[len(got)-10:])
	}
}

func TestConcurrent(t *testing.T) {
	l := opened(t, t.TempDir(), MaxFile)
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := range 20 {
				if err := l.Write(entry(fmt.Sprint("s", w), n)); err != nil {
					t.Error(err)
				}
				if _, err := l.Read("", "", 5); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if got := read(t, l, "", 1000); len(got) != 80 {
		t.Errorf("%d entries of 80", len(got))
	}
}

func FuzzEachLine(f *testing.F) {
	f.Add(`{"service":"title","did":"x"}` + "\n")
	f.Add(strings.Repeat("a", maxLine+1))
	f.Fuzz(func(t *testing.T, text string) {
		seen := 0
		if err := eachLine(strings.NewReader(text), func(e Entry) { seen++ }); err != nil {
			t.Error(err)
		}
		if seen > strings.Count(text, "\n")+1 {
			t.Errorf("%d entries in %q", seen, text)
		}
	})
}

// What was done by hand is known again after a restart, the last events of it
// too; what the clock does to it is not by hand.
func TestHand(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	var want []string
	for i := range maxEvents + 3 {
		e := Entry{Time: at, Namespace: "default", Service: "title", Way: Event, Did: "set by an event", Schedule: "title-by-hand", Event: fmt.Sprint("e", i)}
		want = append(want, e.Event)
		if err := l.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	err = l.Write(
		Entry{Time: at.Add(time.Minute), Namespace: "default", Service: "title", Way: Socket, Did: "deleted", Schedule: "title-by-hand"},
		Entry{Time: at.Add(time.Hour), Namespace: "default", Service: "title", Way: Clock, Did: "always ends", Schedule: "title-by-hand"},
		Entry{Time: at.Add(time.Hour), Namespace: "default", Service: "title", Way: Socket, Did: "applied", Schedule: "office"})
	if err = errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	if d := cmp.Diff(Hand{Changed: at.Add(time.Minute), Events: want[3:]}, l.Hand("default", "title")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Hand{}, l.Hand("default", "photo")); d != "" {
		t.Error(d)
	}
}
