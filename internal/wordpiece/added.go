package wordpiece

import (
	"slices"
	"strings"
	"unicode"
)

// addedToken is a token that is sought in the text before it is split into
// words.
type addedToken struct {
	text           string
	id             int64
	lstrip, rstrip bool // takes the white space on that side with it
}

// addedTokens are sought together: the one that begins first, and of those
// the longest. By their first byte, longest first.
type addedTokens [256][]addedToken

func (a *addedTokens) add(t addedToken) {
	tokens := append(a[t.text[0]], t)
	slices.SortStableFunc(tokens, func(x, y addedToken) int { return len(y.text) - len(x.text) })
	a[t.text[0]] = tokens
}

// split gives the parts of s in their order: its added tokens, and the text
// between them, which is never empty.
func (a *addedTokens) split(s string, give func(part string, id int64, added bool)) {
	start := 0
	for i := 0; i < len(s); {
		tokens := a[s[i]]
		n := slices.IndexFunc(tokens, func(t addedToken) bool { return strings.HasPrefix(s[i:], t.text) })
		if n < 0 {
			i++
			continue
		}
		t := tokens[n]
		before, end := s[start:i], i+len(t.text)
		if t.lstrip {
			before = strings.TrimRightFunc(before, unicode.IsSpace)
		}
		if t.rstrip {
			end = len(s) - len(strings.TrimLeftFunc(s[end:], unicode.IsSpace))
		}
		if before != "" {
			give(before, 0, false)
		}
		give(t.text, t.id, true)
		start, i = end, end
	}
	if start < len(s) {
		give(s[start:], 0, false)
	}
}
