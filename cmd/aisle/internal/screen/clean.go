package screen

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Clean returns text on one line, without anything that a terminal would obey.
func Clean(text string) string {
	ok := func(r rune) bool { return unicode.IsPrint(r) && r != unicode.ReplacementChar }
	if strings.IndexFunc(text, func(r rune) bool { return !ok(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		case unicode.Is(unicode.Cf, r): // joiners and marks of direction
		case !ok(r):
			b.WriteRune('?')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// CleanLines is Clean of each line of a text.
func CleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = Clean(l)
	}
	return strings.Join(lines, "\n")
}

// JSON returns a JSON text with the control characters escaped that JSON
// itself allows: a terminal may obey those of 8 bits as well.
func JSON(text []byte) []byte {
	control := func(r rune) bool { return 0x7f <= r && r <= 0x9f }
	if strings.IndexFunc(string(text), control) < 0 {
		return text
	}
	var out []byte
	for _, r := range string(text) {
		if control(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, string(r)...)
		}
	}
	return out
}

// Text returns where to copy foreign text of many lines to: on a terminal, what
// a terminal would obey is left out.
func (s Screen) Text() io.Writer {
	if !s.Terminal {
		return s
	}
	return &text{w: s}
}

type text struct {
	w    io.Writer
	last byte // of the Write before
}

func (t *text) Write(p []byte) (int, error) {
	clean := make([]byte, 0, len(p))
	for _, c := range p {
		switch {
		case c < ' ' && c != '\n' && c != '\t', c == 0x7f: // of 7 bits
		case t.last == 0xc2 && 0x80 <= c && c <= 0x9f: // of 8 bits, in UTF-8
			clean = append(clean, 0xa0) // a space
		default:
			clean = append(clean, c)
		}
		t.last = c
	}
	if _, err := t.w.Write(clean); err != nil {
		return 0, err
	}
	return len(p), nil
}
