package slots

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// want checks what claims have: "" for one that waits.
func want(t *testing.T, claims []*Claim, devices ...string) {
	t.Helper()
	for i, c := range claims {
		if got := strings.Join(c.Devices(), ","); got != devices[i] {
			t.Errorf("%s has %q, want %q", c.pod, got, devices[i])
		}
		if (c.Pending() == "") != (devices[i] != "") {
			t.Errorf("%s: %q", c.pod, c.Pending())
		}
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	s := New([]string{"0", "1"})
	a, b, c, d := s.Ask("a", 1), s.Ask("b", 1), s.Ask("c", 2), s.Ask("d", 1)
	all := []*Claim{a, b, c, d}
	want(t, all, "0", "1", "", "")
	a.Release()
	want(t, all[2:], "", "") // d does not pass c
	b.Release()
	want(t, all[2:], "0,1", "")
	c.Release()
	c.Release()
	want(t, all[3:], "0")
	d.Release()
	if len(s.free) != 2 {
		t.Errorf("free: %v", s.free)
	}
}

func TestGivingUpWaiting(t *testing.T) {
	s := New([]string{"0"})
	a, b, c := s.Ask("a", 1), s.Ask("b", 1), s.Ask("c", 1)
	b.Release()
	a.Release()
	want(t, []*Claim{c}, "0")
}

func TestMoreThanThereIs(t *testing.T) {
	s := New([]string{"0"})
	a, b := s.Ask("default/huge-1", 2), s.Ask("b", 1)
	want(t, []*Claim{a, b}, "", "0")
	if got := a.Pending(); got != "needs 2 GPUs, and this machine has 1" {
		t.Errorf("%q", got)
	}
	if a.Inherit(b) {
		t.Error("what it inherits cannot suffice")
	}
	none := New(nil)
	if got := none.Ask("a", 1).Pending(); got != "needs 1 GPU, and this machine has 0" {
		t.Errorf("%q", got)
	}
}

func TestPending(t *testing.T) {
	s := New([]string{"0", "1"})
	for range maxNamed + 1 {
		s.Ask("default/none", 0)
	}
	s.Ask("default/a-1", 1)
	s.Ask("default/b-1", 1)
	c, d := s.Ask("default/c-1", 2), s.Ask("default/d-1", 1)
	if got := c.Pending(); got != "needs 2 GPUs, and 0 of 2 are free; default/a-1 has 1; default/b-1 has 1" {
		t.Errorf("%q", got)
	}
	if got := d.Pending(); !strings.HasSuffix(got, "; 1 before it in line") {
		t.Errorf("%q", got)
	}
	s = New([]string{"0", "1", "2", "3", "4", "5"})
	for range 6 {
		s.Ask("default/a-1", 1)
	}
	if got := s.Ask("default/c-1", 1).Pending(); !strings.HasSuffix(got, "; default/a-1 has 1; 2 others have the rest") {
		t.Errorf("%q", got)
	}
}

// A new revision takes over from the old one, whoever waits; and the old one
// gets its devices back if the new one fails.
func TestSwap(t *testing.T) {
	s := New([]string{"0"})
	old, other, fresh := s.Ask("old", 1), s.Ask("other", 1), s.Ask("new", 1)
	if !fresh.Inherit(old) {
		t.Fatal("the old one's device would do")
	}
	want(t, []*Claim{old, other, fresh}, "0", "", "")
	old.Release()
	want(t, []*Claim{other, fresh}, "", "0")
	// It does not get ready.
	back := s.Ask("old-again", 1)
	if !back.Inherit(fresh) {
		t.Fatal("the new one's device would do")
	}
	fresh.Release()
	want(t, []*Claim{other, back}, "", "0")
	back.Release()
	want(t, []*Claim{other}, "0")
}

func TestSwapOfSeveral(t *testing.T) {
	s := New([]string{"0", "1", "2"})
	a, b, other := s.Ask("a", 1), s.Ask("b", 1), s.Ask("other", 1)
	fresh := s.Ask("new", 2)
	if fresh.Inherit(a) {
		t.Error("one device of two: it would collect what it can never use")
	}
	if !fresh.Inherit(a, b) {
		t.Fatal("two would do")
	}
	a.Release()
	want(t, []*Claim{fresh, b, other}, "", "1", "2")
	b.Release()
	want(t, []*Claim{fresh}, "0,1")
	if fresh.Inherit(other) != true || other.heir != nil {
		t.Error("a granted claim needs no more")
	}
}

// With what is free as well, if nobody is before it.
func TestSwapWithFreeOnes(t *testing.T) {
	s := New([]string{"0", "1"})
	old := s.Ask("old", 1)
	fresh := s.Ask("new", 2)
	if !fresh.Inherit(old) {
		t.Fatal("the old one's and the free one would do")
	}
	late := s.Ask("late", 1)
	want(t, []*Claim{fresh, late}, "", "")
	old.Release()
	want(t, []*Claim{fresh, late}, "0,1", "")

	s = New([]string{"0", "1", "2"})
	old, _ = s.Ask("old", 1), s.Ask("other", 1)
	first := s.Ask("first", 2)
	fresh = s.Ask("new", 2)
	if fresh.Inherit(old) {
		t.Error("the free one is for whoever is first in line")
	}
	old.Release()
	want(t, []*Claim{first, fresh}, "0,2", "")
}

// An heir that goes away in the middle leaves what it has collected to its own
// heir, or to the line.
func TestHeirThatGivesUp(t *testing.T) {
	s := New([]string{"0", "1"})
	a, b, other := s.Ask("a", 1), s.Ask("b", 1), s.Ask("other", 1)
	fresh := s.Ask("new", 2)
	if !fresh.Inherit(a, b) {
		t.Fatal("two would do")
	}
	a.Release()
	back := s.Ask("a-again", 1)
	if !back.Inherit(fresh) {
		t.Fatal("what the new one has collected would do")
	}
	fresh.Release()
	want(t, []*Claim{back, b, other}, "0", "1", "")
	b.Release()
	want(t, []*Claim{other}, "1")
	if fresh.Inherit(back) {
		t.Error("a released claim inherits")
	}
}

func TestSurplusGoesToTheLine(t *testing.T) {
	s := New([]string{"0", "1"})
	old := s.Ask("old", 2)
	other, fresh := s.Ask("other", 1), s.Ask("new", 1)
	if !fresh.Inherit(old) {
		t.Fatal("two would do")
	}
	old.Release()
	want(t, []*Claim{fresh, other}, "0", "1")
}

// Whatever happens in whatever order: no device is in two hands or lost, no
// claim that could be granted waits, and when all who hold something release
// it, everybody who can be served is.
func TestSlotsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(0, 4).Draw(t, "devices")
		names, _ := Names(total, "")
		s := New(names)
		var claims []*Claim
		check := func() {
			seen := map[string]bool{}
			n := len(s.free)
			count := func(devices []string) {
				for _, d := range devices {
					if seen[d] {
						t.Fatalf("device %s is in two hands", d)
					}
					seen[d] = true
				}
			}
			count(s.free)
			for _, c := range claims {
				count(c.has)
				n += len(c.has)
				if c.isGranted() && !c.over && len(c.has) != c.need {
					t.Fatalf("%s was granted %d of %d", c.pod, len(c.has), c.need)
				}
			}
			if n != total {
				t.Fatalf("%d of %d devices are left", n, total)
			}
			if c := s.first(); c != nil && len(c.has)+len(s.free) >= c.need {
				t.Fatalf("%s waits for what is free", c.pod)
			}
		}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch step := rapid.IntRange(0, 2).Draw(t, "step"); {
			case step == 0 || len(claims) == 0:
				claims = append(claims, s.Ask(fmt.Sprint(i), rapid.IntRange(0, 5).Draw(t, "need")))
			case step == 1:
				rapid.SampledFrom(claims).Draw(t, "release").Release()
			default:
				from := rapid.SliceOfN(rapid.SampledFrom(claims), 1, 3).Draw(t, "from")
				rapid.SampledFrom(claims).Draw(t, "heir").Inherit(from...)
			}
			check()
		}
		for range claims { // no deadlock: whoever holds ends, again and again
			for _, c := range slices.Clone(s.granted) {
				c.Release()
			}
			check()
		}
		for _, c := range claims {
			if !c.over && c.need <= total {
				t.Fatalf("%s waits for ever: %s", c.pod, c.Pending())
			}
		}
	})
}

func TestDetect(t *testing.T) {
	dir := t.TempDir()
	for _, gpu := range []string{"0000:01:00.0", "0000:02:00.0"} {
		if err := os.Mkdir(filepath.Join(dir, gpu), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fails := func() ([]byte, error) { return nil, errors.New("no such program") }
	if n := detect(dir, fails); n != 2 {
		t.Errorf("%d by the driver", n)
	}
	absent := filepath.Join(dir, "absent")
	if n := detect(absent, fails); n != 0 {
		t.Errorf("%d where there is no driver", n)
	}
	const listed = "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb Device 0: (UUID: MIG-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)\n"
	if n := detect(absent, func() ([]byte, error) { return []byte(listed), nil }); n != 2 {
		t.Errorf("%d by the tool", n)
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct {
		n       int
		visible string
		want    string
		err     string
	}{
		{0, "", "", ""},
		{2, "", "0,1", ""},
		{1, "3, GPU-7", "3", ""},
		{2, "3, GPU-7", "3,GPU-7", ""},
		{2, "3,-1,4", "", "names 1"},
		{3, "3,4", "", "3 GPUs are to be given out"},
		{-1, "", "", "want 0 or more"},
	} {
		got, err := Names(test.n, test.visible)
		if strings.Join(got, ",") != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%d of %q: %q, %v", test.n, test.visible, got, err)
		}
	}
}
