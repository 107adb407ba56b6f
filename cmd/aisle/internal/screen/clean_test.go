package screen_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
)

func TestCleanLines(t *testing.T) {
	if got, want := screen.CleanLines("a\x1b[2Jb\n\tc\u009b1m\r\n"), "a?[2Jb\n c?1m \n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The value stays, and nothing in the text is a control character.
func TestJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "value") + rapid.SampledFrom([]string{"", "\u009b2J", "\x7f", "\x1b["}).Draw(t, "control")
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		text = screen.JSON(text)
		if i := bytes.IndexFunc(text, unicode.IsControl); i >= 0 {
			t.Errorf("%q has a control character at %d", text, i)
		}
		var got string
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	})
}

// However the text is cut into writes, no control character arrives at a
// terminal, and elsewhere it arrives as it is.
func TestText(t *testing.T) {
	const text = "one\x1b[2J\ttab\r\ncaf\u00e9 \u009b31m 靴\x7f\n"
	rapid.Check(t, func(t *rapid.T) {
		terminal := rapid.Bool().Draw(t, "terminal")
		var buf bytes.Buffer
		w := screen.Screen{Writer: &buf, Terminal: terminal}.Text()
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(text)), 3, 3).Draw(t, "cuts")
		slices.Sort(cuts)
		from := 0
		for _, to := range append(cuts, len(text)) {
			if n, err := w.Write([]byte(text[from:to])); n != to-from || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			from = to
		}
		want := text
		if terminal {
			want = "one[2J\ttab\ncaf\u00e9 \u00a031m 靴\n"
		}
		if buf.String() != want {
			t.Errorf("%q, want %q", buf.String(), want)
		}
		if terminal && strings.IndexFunc(buf.String(), func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) >= 0 {
			t.Errorf("%q has a control character", buf.String())
		}
	})
}
