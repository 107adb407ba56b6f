// Package screen writes for people: text cut to the columns that a terminal
// has, tables, a progress line, and colour where it helps.
//
// Colour and redrawing happen on a terminal only; colour not where NO_COLOR is
// set (https://no-color.org). Text from products passes [Clean], so that a
// title cannot move the cursor. Nothing here knows what it writes about.
package screen

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"unicode"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// Screen is a place to write to.
type Screen struct {
	io.Writer
	Terminal bool // lines can be drawn again
	Colour   bool
	Width    int // columns
}

// pipeWidth is the width of what is not a terminal: wide enough for a log.
const pipeWidth = 140

// New looks at what w is. Getenv is asked for NO_COLOR, TERM and COLUMNS.
func New(w io.Writer, getenv func(string) string) Screen {
	s := Screen{Writer: w, Width: pipeWidth}
	if IsTerminal(w) {
		f := w.(*os.File)
		s.Terminal = getenv("TERM") != "dumb"
		s.Colour = s.Terminal && getenv("NO_COLOR") == ""
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			s.Width = columns
		}
	} else if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
		s.Width = n
	}
	s.Width = max(40, min(s.Width, 400))
	return s
}

// IsTerminal is whether a person may be at a file: v is one, and a terminal.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colour is an ANSI colour or attribute.
type Colour string

const (
	Plain  Colour = ""
	Bold   Colour = "1"
	Dim    Colour = "2"
	Red    Colour = "31"
	Green  Colour = "32"
	Yellow Colour = "33"
	Cyan   Colour = "36"
)

// Paint returns text in a colour, where there are colours.
func (s Screen) Paint(c Colour, text string) string {
	if !s.Colour || c == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Printf writes formatted text. An error of the terminal has nobody to be told.
func (s Screen) Printf(format string, args ...any) { _, _ = fmt.Fprintf(s, format, args...) }

// Columns returns how many columns clean text takes.
func Columns(text string) int {
	n := 0
	for _, r := range text {
		n += columns(r)
	}
	return n
}

func columns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Cut returns clean text of at most n columns, an ellipsis where it was cut.
func Cut(text string, n int) string {
	text = Clean(text)
	if Columns(text) <= n {
		return text
	}
	if n < 1 {
		return ""
	}
	used := 0
	for i, r := range text {
		if used+columns(r) > n-1 {
			return text[:i] + "…"
		}
		used += columns(r)
	}
	return text
}

// CutLeft is Cut with the end kept: of a path, the end says most.
func CutLeft(text string, n int) string {
	text = Clean(text)
	used := Columns(text)
	if used <= n {
		return text
	}
	if n < 1 {
		return ""
	}
	for i, r := range text {
		if used <= n-1 {
			return "…" + text[i:]
		}
		used -= columns(r)
	}
	return "…"
}

// Thousands writes 12345 as 12,345.
func Thousands(n int) string {
	s := strconv.Itoa(n)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
