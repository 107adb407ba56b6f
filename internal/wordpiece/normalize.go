package wordpiece

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizer is the library's BertNormalizer. A nil one changes nothing.
type normalizer struct {
	clean, chinese, stripAccents, lowercase bool
}

func (n *normalizer) apply(s string) string {
	if n == nil {
		return s
	}
	if n.clean {
		s = strings.Map(cleaned, s)
	}
	if isASCII(s) { // none of it Chinese, none accented
		if n.lowercase {
			s = strings.ToLower(s)
		}
		return s
	}
	if n.chinese {
		s = spaceChinese(s)
	}
	if n.stripAccents {
		s = stripAccents(s)
	}
	if n.lowercase {
		s = lowercase(s)
	}
	return s
}

// cleaned drops control characters and makes a space of all white space.
func cleaned(r rune) rune {
	switch {
	case r >= ' ' && r < 0x7f:
		return r
	case r == '\t', r == '\n', r == '\r':
		return ' '
	case r == 0xfffd, unicode.Is(control, r):
		return -1
	case unicode.IsSpace(r):
		return ' '
	}
	return r
}

// chinese is what the library takes for Chinese: it leaves out U+2B820 to
// U+2B91F, which the paper's own code has.
var chinese = &unicode.RangeTable{
	R16: []unicode.Range16{{0x3400, 0x4dbf, 1}, {0x4e00, 0x9fff, 1}, {0xf900, 0xfaff, 1}},
	R32: []unicode.Range32{{0x20000, 0x2a6df, 1}, {0x2a700, 0x2b73f, 1}, {0x2b740, 0x2b81f, 1}, {0x2b920, 0x2ceaf, 1}, {0x2f800, 0x2fa1f, 1}},
}

// spaceChinese puts a space on either side of each Chinese character.
func spaceChinese(s string) string {
	var b strings.Builder
	for _, r := range s {
		if !unicode.Is(chinese, r) {
			b.WriteRune(r)
			continue
		}
		b.WriteByte(' ')
		b.WriteRune(r)
		b.WriteByte(' ')
	}
	return b.String()
}

// stripAccents takes characters apart (NFD) and drops the marks.
//
// It is done character by character and what combines is put in order here,
// for two reasons: norm would put U+034F between more than thirty combining
// characters, and it knows of characters that the library's tables, of Unicode
// 9, have not.
func stripAccents(s string) string {
	var b strings.Builder
	type mark struct {
		r     rune
		class uint8
	}
	var marks []mark // since the last character of class 0
	flush := func() {
		slices.SortStableFunc(marks, func(a, b mark) int { return int(a.class) - int(b.class) })
		for _, m := range marks {
			b.WriteRune(m.r)
		}
		marks = marks[:0]
	}
	var apart []byte
	for _, c := range s {
		apart = utf8.AppendRune(apart[:0], c)
		if c >= 0x80 && c != 0x11938 { // the one of later versions that can be taken apart
			apart = norm.NFD.AppendString(apart[:0], string(c))
		}
		for _, r := range string(apart) {
			drop, class := unicode.Is(nonspacing, r), uint8(0)
			if drop || unicode.Is(combining, r) {
				class = norm.NFD.PropertiesString(string(r)).CCC()
			}
			if class == 0 {
				flush()
			}
			switch {
			case drop:
			case class == 0:
				b.WriteRune(r)
			default:
				marks = append(marks, mark{r, class})
			}
		}
	}
	flush()
	return b.String()
}

// lowercase goes character by character, as the library does: a sigma at a
// word's end is an ordinary one.
func lowercase(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == 'İ' { // alone becomes two characters
			b.WriteString("i\u0307")
			continue
		}
		b.WriteRune(newCases.ToLower(r))
	}
	return b.String()
}

func isPunctuation(r rune) bool {
	if r < 0x80 {
		return r > ' ' && r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a' || r > 'z' && r < 0x7f // "$" and "^" too
	}
	return unicode.Is(punctuation, r)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
