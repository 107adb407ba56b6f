// Package words folds text into plain words: what every reader of titles here
// (n-grams, masking, the split rule) takes for equal.
//
// Letters are lower-cased, compatibility forms and accents are taken apart
// (NFKD) and combining marks dropped, so that "CAFÉ", "cafe" and full-width
// "ｃａｆｅ" are one word; any run of characters other than letters and digits
// separates words. Letters of every script are kept. Invalid UTF-8 separates
// words too. The result is a function of the input alone and never longer
// than a small multiple of it. Nothing here stems or translates.
package words

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Append appends the words of s to dst, one space between two of them and
// also between what dst already holds and the first, and returns dst.
func Append(dst []byte, s string) []byte {
	gap := len(dst) > 0 && dst[len(dst)-1] != ' '
	start := len(dst)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			return appendUnicode(dst[:start], s, start > 0 && dst[start-1] != ' ')
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			gap = len(dst) > 0 && dst[len(dst)-1] != ' '
			continue
		}
		if gap {
			dst, gap = append(dst, ' '), false
		}
		dst = append(dst, c)
	}
	return dst
}

// Fold returns the words of s separated by single spaces.
func Fold(s string) string { return string(Append(nil, s)) }

// appendUnicode does what Append does for text that is not all ASCII; the two
// agree on text that is.
func appendUnicode(dst []byte, s string, gap bool) []byte {
	var it norm.Iter
	it.InitString(norm.NFKD, s)
	for !it.Done() {
		for seg := it.Next(); len(seg) > 0; {
			r, size := utf8.DecodeRune(seg)
			bad := r == utf8.RuneError && size == 1
			seg = seg[size:]
			switch {
			case !bad && unicode.Is(unicode.Mn, r):
				continue
			case bad || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.Is(unicode.Mc, r):
				gap = len(dst) > 0 && dst[len(dst)-1] != ' '
				continue
			}
			if gap {
				dst, gap = append(dst, ' '), false
			}
			dst = utf8.AppendRune(dst, unicode.ToLower(r))
		}
	}
	return dst
}
