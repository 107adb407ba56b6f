package screen_test

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
)

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text      string
		n         int
		cut, left string
	}{
		{"shirt", 5, "shirt", "shirt"},
		{"shirts", 5, "shir…", "…irts"},
		{"靴靴靴", 4, "靴…", "…靴"},
		{"cafe\u0301s", 5, "cafe\u0301s", "cafe\u0301s"},
		{"a\tb\nc", 9, "a b c", "a b c"},
		{"\x1b[31mred", 20, "?[31mred", "?[31mred"},
		{"bad\xff", 9, "bad?", "bad?"},
		{"abc", 1, "…", "…"},
		{"abc", 0, "", ""},
	} {
		if got := screen.Cut(c.text, c.n); got != c.cut {
			t.Errorf("Cut(%q, %d) = %q, want %q", c.text, c.n, got, c.cut)
		}
		if got := screen.CutLeft(c.text, c.n); got != c.left {
			t.Errorf("CutLeft(%q, %d) = %q, want %q", c.text, c.n, got, c.left)
		}
	}
}

func TestCutProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, n := rapid.String().Draw(t, "text"), rapid.IntRange(0, 30).Draw(t, "n")
		for _, got := range []string{screen.Cut(text, n), screen.CutLeft(text, n)} {
			if w := screen.Columns(got); w > n {
				t.Fatalf("%q takes %d columns, %d were given", got, w, n)
			}
			if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Fatalf("%q holds a character that a terminal may obey", got)
			}
		}
	})
}

var columns = []screen.Column{
	{Name: "TITLE", Min: 8, Share: 2}, {Name: "PATH", Min: 6, Share: 1, Left: true}, {Name: "MS", Min: 4, Right: true},
}

func TestStream(t *testing.T) {
	var buf bytes.Buffer
	s := screen.NewStream(screen.Screen{Writer: &buf, Width: 40}, columns)
	s.Header()
	s.Row(screen.Cell{Text: "A long title that does not fit"}, screen.Cell{Text: "Apparel > Topwear > Shirts"}, screen.Cell{Text: "12"})
	want := strings.Join([]string{
		"TITLE                 PATH            MS",
		"A long title that d…  …ar > Shirts    12", ""}, "\n")
	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	buf.Reset()
	screen.NewStream(screen.Screen{Writer: &buf, Width: 10, Colour: true}, columns).Row(screen.Cell{Text: "T", Colour: screen.Red}, screen.Cell{Text: "P"}, screen.Cell{Text: "1"})
	if diff := cmp.Diff("\x1b[31mT\x1b[0m         P          1\n", buf.String()); diff != "" {
		t.Errorf("narrow and coloured (-want +got):\n%s", diff)
	}
}

func TestWrite(t *testing.T) {
	rows := [][]screen.Cell{{{Text: "title"}, {Text: "a/b"}, {Text: "1"}}, {{Text: "c"}, {Text: ""}, {Text: "1234"}}}
	var buf bytes.Buffer
	screen.Write(screen.Screen{Writer: &buf, Width: 80}, columns, rows)
	want := "TITLE  PATH    MS\ntitle  a/b      1\nc            1234\n"
	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewOnAPipe(t *testing.T) {
	env := map[string]string{"COLUMNS": "77"}
	s := screen.New(&bytes.Buffer{}, func(k string) string { return env[k] })
	if s.Terminal || s.Colour || s.Width != 77 {
		t.Errorf("%+v", s)
	}
	if got := s.Paint(screen.Red, "x"); got != "x" {
		t.Errorf("coloured without a terminal: %q", got)
	}
}

func TestProgress(t *testing.T) {
	var buf bytes.Buffer
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := screen.NewProgress(screen.Screen{Writer: &buf, Terminal: true, Width: 60}, start, "sent")
	p.Set(start.Add(50*time.Millisecond), 10, 0, 0.1) // too early to draw
	p.Set(start.Add(2*time.Second), 1500, 2, 0.25)
	p.Clear()
	want := "\r\x1b[K███░░░░░░░░░░  25%  1,500 sent, 750/s, 2 failed, 6.0s left\r\x1b[K"
	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Errorf("terminal (-want +got):\n%s", diff)
	}
	buf.Reset()
	p = screen.NewProgress(screen.Screen{Writer: &buf, Width: 60}, start, "sent")
	p.Set(start.Add(2*time.Second), 15, 0, -1) // too early to log
	p.Set(start.Add(20*time.Second), 150, 0, -1)
	p.Clear()
	if diff := cmp.Diff("150 sent, 7.5/s\n", buf.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := screen.Thousands(n); got != want {
			t.Errorf("Thousands(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1500 * time.Millisecond: "1.5s", 42 * time.Second: "42s", 245 * time.Second: "4m05s", 2*time.Hour + 3*time.Minute: "2h03m",
		47*time.Hour + 59*time.Minute: "47h59m", 50 * time.Hour: "2d02h", 7*24*time.Hour + 23*time.Hour: "7d23h", 400 * 24 * time.Hour: "400d"} {
		if got := screen.Short(d); got != want {
			t.Errorf("Short(%v) = %s, want %s", d, got, want)
		}
	}
}
