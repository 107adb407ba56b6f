package resident

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const smaps = `00400000-02a00000 r-xp 00000000 08:01 42                       /srv/a program
Size:              39936 kB
Rss:               24268 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
02a00000-04b00000 r--p 02600000 08:01 42                       /srv/a program
Anonymous:             0 kB
04b00000-04b80000 r--p 04700000 08:01 42                       /srv/a program
Anonymous:            16 kB
04b80000-04c00000 rw-p 04780000 08:01 42                       /srv/a program
Anonymous:             0 kB
7f0000000000-7f0000200000 r-xp 00000000 08:01 43               /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000200000-7f0000400000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0                [vdso]
Anonymous:             0 kB
`

// What may be written, has been, or is none of the program's is not given back.
func TestParse(t *testing.T) {
	got, err := parse(strings.NewReader(smaps), "/srv/a program")
	want := []mapping{{0x400000, 0x2a00000}, {0x2a00000, 0x4b00000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

// The process goes on after it.
func TestRelease(t *testing.T) {
	for range 3 {
		if err := Release(); err != nil {
			t.Fatal(err)
		}
		TestParse(t)
	}
	if _, err := os.ReadFile("/proc/self/smaps"); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkRelease(b *testing.B) {
	for b.Loop() {
		if err := Release(); err != nil {
			b.Fatal(err)
		}
	}
}
