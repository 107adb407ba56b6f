package pod

import (
	"fmt"
	"os"
	"testing"

	"pgregory.net/rapid"
)

func TestUsage(t *testing.T) {
	rss, _ := Usage(os.Getpid())
	if rss < 1<<20 || rss > 1<<34 {
		t.Errorf("this process has %d bytes resident", rss)
	}
	if rss, cpu := Usage(1 << 30); rss != 0 || cpu != 0 {
		t.Errorf("nobody uses %d, %g", rss, cpu)
	}
}

// Whatever a process is called, the fields behind its name are found.
func TestParseStat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		group, start := rapid.IntRange(1, 1<<22).Draw(t, "group"), rapid.Uint64Range(1, 1<<40).Draw(t, "start")
		text := fmt.Sprintf("1234 (%s) S 1 %d 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %d 20 21", name, group, start)
		s, err := parseStat([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if s.state != 'S' || s.group != group || s.startTime != start || s.cpuTicks != 11+12 || s.rssPages != 21 {
			t.Fatalf("%+v of %s", s, text)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a b) R 1 2 3"))
	f.Add([]byte(")"))
	f.Add([]byte("1 (x) S 1 1 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 20 -1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := parseStat(text); err == nil && s.startTime == 0 {
			t.Error("a start time of 0 names every process")
		}
	})
}
