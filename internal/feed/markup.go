package feed

import (
	"bytes"
	"html"
	"strings"
)

// plain takes the markup out of a description: what a browser would show of it,
// on one line. Text without markup stays as it is, and so does a lone < or &.
// It is written here since descriptions are most of a feed, and
// golang.org/x/net/html takes twice as long as all else that the reader does.
func plain(text string) string {
	if !strings.ContainsAny(text, "<&") {
		return text
	}
	out := make([]byte, 0, len(text))
	apart := false // a space comes before the next word
	for len(text) > 0 {
		if n, name := markup(text); n > 0 {
			text = text[n:]
			switch name {
			case "script", "style":
				text = text[rawEnd(text, name):]
			case "a", "abbr", "b", "em", "font", "i", "mark", "small", "span", "strong", "sub", "sup", "u":
			default:
				apart = true
			}
			continue
		}
		n := strings.IndexByte(text[1:], '<') + 1
		if n == 0 {
			n = len(text)
		}
		run := text[:n]
		text = text[n:]
		if strings.IndexByte(run, '&') >= 0 {
			run = html.UnescapeString(run)
		}
		for i := 0; i < len(run); i++ {
			switch c := run[i]; {
			case c == ' ' || '\t' <= c && c <= '\r':
				apart = true
				continue
			case c == 0xc2 && i+1 < len(run) && run[i+1] == 0xa0: // a space that keeps words on a line
				apart = true
				i++
				continue
			}
			if apart && len(out) > 0 {
				out = append(out, ' ')
			}
			apart = false
			out = append(out, run[i])
		}
	}
	return string(out)
}

// markup says how long the tag or comment is that text begins with, 0 where none
// does, and the name of the element that begins.
func markup(text string) (n int, name string) {
	if len(text) < 2 || text[0] != '<' {
		return 0, ""
	}
	if strings.HasPrefix(text, "<!--") {
		if n = strings.Index(text[4:], "-->"); n < 0 {
			return len(text), ""
		}
		return n + 7, ""
	}
	if c := text[1] | 0x20; !('a' <= c && c <= 'z') && text[1] != '/' && text[1] != '!' && text[1] != '?' {
		return 0, ""
	}
	for end := 0; ; {
		i := strings.IndexByte(text[end:], '>')
		if i < 0 {
			return len(text), ""
		}
		end += i + 1
		if !quoted(text[:end]) {
			n = end
			break
		}
	}
	var lower [10]byte // no name that matters is longer
	at := 1
	if text[1] == '/' {
		at = 2
	}
	l := 0
	for _, c := range []byte(text[at:n]) {
		if c |= 0x20; c < 'a' || 'z' < c || l == len(lower) {
			break
		}
		lower[l] = c
		l++
	}
	if name = string(lower[:l]); at == 2 && (name == "script" || name == "style") {
		name = ""
	}
	return n, name
}

// quoted reports whether a tag that is cut off here is cut off within quotes.
func quoted[T string | []byte](tag T) bool {
	quote := byte(0)
	for i := range len(tag) {
		switch c := tag[i]; {
		case quote == c:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		}
	}
	return quote != 0
}

// rawEnd finds where a script or style ends, its end tag included.
func rawEnd(text, name string) int {
	for at := 0; ; {
		i := strings.Index(text[at:], "</")
		if i < 0 {
			return len(text)
		}
		at += i + 2
		if len(text)-at >= len(name) && strings.EqualFold(text[at:at+len(name)], name) {
			if i = strings.IndexByte(text[at:], '>'); i < 0 {
				return len(text)
			}
			return at + i + 1
		}
	}
}

// local is an element's name in the text between < or </ and >, without a prefix.
func local(tag []byte) []byte {
	for i, c := range tag {
		if c == ' ' || c == '/' || '\t' <= c && c <= '\r' {
			tag = tag[:i]
			break
		}
	}
	if i := bytes.IndexByte(tag, ':'); i >= 0 {
		tag = tag[i+1:]
	}
	return tag
}
