package feed

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// charsets are those that are read beside UTF-8, by their IANA names. Those of
// East Asia would be more than half of the composer's program.
var charsets = map[string]encoding.Encoding{
	"utf-16":       unicode.UTF16(unicode.LittleEndian, unicode.UseBOM),
	"utf-16le":     unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM),
	"utf-16be":     unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
	"iso-8859-1":   charmap.Windows1252, // as browsers read it
	"iso-8859-2":   charmap.ISO8859_2,
	"iso-8859-5":   charmap.ISO8859_5,
	"iso-8859-15":  charmap.ISO8859_15,
	"windows-1250": charmap.Windows1250,
	"windows-1251": charmap.Windows1251,
	"windows-1252": charmap.Windows1252,
	"windows-1253": charmap.Windows1253,
	"windows-1254": charmap.Windows1254,
	"windows-1257": charmap.Windows1257,
}

// Charsets names what Options.Charset may be.
func Charsets() []string {
	names := []string{"utf-8"}
	for name := range charsets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var declared = regexp.MustCompile(`^\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][-A-Za-z0-9._]*)["']`)

// decoded gives UTF-8 without a byte order mark, and says what it took the
// charset from where that is worth a note: what it was told, a byte order mark,
// an XML declaration, or, where no character beyond ASCII is UTF-8 in what is
// there of the beginning, what the bytes look like.
func decoded(name, charset string, in *bufio.Reader, head []byte) (out *bufio.Reader, read, note string, err error) {
	bom := ""
	for _, m := range []struct{ mark, charset string }{{"\xef\xbb\xbf", "utf-8"}, {"\xff\xfe", "utf-16le"}, {"\xfe\xff", "utf-16be"}} {
		if bytes.HasPrefix(head, []byte(m.mark)) {
			bom = m.charset
			_, _ = in.Discard(len(m.mark)) // peeked: it is there
			head = head[len(m.mark):]
			break
		}
	}
	charset = strings.ToLower(charset)
	switch said := declared.FindSubmatch(head); {
	case bom != "":
		charset = bom
	case charset != "":
	case said != nil:
		charset = strings.ToLower(string(said[1]))
		if strings.HasPrefix(charset, "utf-16") {
			// A declaration that can be read byte by byte is not in UTF-16.
			charset, note = "utf-8", "the XML declaration says UTF-16, which it is not itself: it is read as UTF-8"
		}
	case bytes.HasPrefix(head, []byte("<\x00")):
		charset = "utf-16le"
	case bytes.HasPrefix(head, []byte("\x00<")):
		charset = "utf-16be"
	default:
		if charset = guess(head); charset != "utf-8" {
			note = fmt.Sprintf("it is not UTF-8 and is read as %s, by its looks; --charset says what it is", charset)
		}
	}
	switch charset {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return in, "utf-8", note, nil
	case "latin1", "latin-1":
		charset = "iso-8859-1"
	case "latin2", "latin-2":
		charset = "iso-8859-2"
	case "cp1250":
		charset = "windows-1250"
	}
	e, ok := charsets[charset]
	if !ok {
		return nil, "", "", fmt.Errorf("%s is in the charset %q, which is not read; convert it: iconv -f %s -t utf-8, or say another one (%s)", name, clip(charset), clip(charset), strings.Join(Charsets(), ", "))
	}
	return bufio.NewReaderSize(e.NewDecoder().Reader(io.Reader(in)), window), charset, note, nil
}

// guess tells UTF-8 from the charsets of one byte a character that shops of
// Central and Western Europe use: not UTF-8 where no character beyond ASCII is;
// windows-1250 where there are bytes that only the ones of Windows have as
// letters of Czech, Slovak or Polish; ISO-8859-2 where there are bytes that are
// letters there and signs elsewhere; else windows-1252.
func guess(head []byte) string {
	valid, invalid := 0, 0
	for i := 0; i < len(head); {
		if head[i] < utf8.RuneSelf {
			i++
			continue
		}
		if !utf8.FullRune(head[i:]) {
			break // cut off by the end of what was looked at
		}
		r, n := utf8.DecodeRune(head[i:])
		if r == utf8.RuneError && n == 1 {
			invalid++
		} else {
			valid++
		}
		i += n
	}
	if valid > 0 || invalid < 2 {
		return "utf-8" // a record that is damaged is told of by itself
	}
	count := func(set string) (n int) {
		for _, c := range []byte(set) {
			n += bytes.Count(head, []byte{c})
		}
		return n
	}
	// š ť ž ś ź in windows-1250, where windows-1252 has at most š and ž; č ě ř ů
	// are the same bytes in both charsets of Central Europe, and in windows-1252
	// è ì ø ù.
	central := count("\xe8\xec\xf8\xf9\xc8\xcc\xd8\xd9")
	western := count("\xe0\xe2\xe7\xea\xf4\xfb\xdf\xf1\xe5\xe6")
	switch windows, iso := count("\x9a\x9d\x9e\x8a\x8d\x8e\x9c\x9f"), count("\xb9\xbb\xbe\xa9\xab\xae\xb6\xbc"); {
	case iso > windows && central > western:
		return "iso-8859-2"
	case count("\x9d\x8d\x9f\x8f") > 0 || central > western:
		return "windows-1250"
	}
	return "windows-1252"
}
