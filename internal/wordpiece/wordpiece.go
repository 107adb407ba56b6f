// Package wordpiece reads a tokenizer.json of Hugging Face's tokenizers
// library with a WordPiece model, and turns text into the ids that the library
// gives for it.
//
// Read are: the BertNormalizer (or none), the BertPreTokenizer, the WordPiece
// model, TemplateProcessing and BertProcessing (or none), added tokens, and
// truncation. A file that declares anything else is refused by that thing's
// name, never read over: a text's ids are the library's, or there are none.
// What counts as a mark, as punctuation or as a control character is the
// library's own, older view of Unicode (see tables.go).
//
// Guarantees, since files and texts come from strangers: a file is bounded in
// bytes, tokens and the length of a token; its ids are distinct and every id
// that is given is one of them; any text whatsoever is accepted, and work is
// bounded by its length. All methods may be called concurrently.
//
// Non-goals: training, decoding, pairs of texts, offsets, padding (whoever
// makes the batch pads it with [Tokenizer.PadID]).
package wordpiece

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Tokenizer encodes texts as its file says.
type Tokenizer struct {
	vocab        map[string]int64
	unknown      int64
	prefix       string // of the pieces that continue a word
	longestPiece int    // bytes
	maxWord      int    // characters; a longer word is unknown as a whole
	padding      int64
	largest      int64 // id
	normalizer   *normalizer
	raw, folded  addedTokens // those sought in the text as it is, and in the normalised one
	before       []int64     // special tokens in front of a text, and behind it
	after        []int64
	maxTokens    int // that the file allows; 0: any number
	left         bool
}

// PadID is the id that fills the rows of a batch up: that of the file's
// padding, else that of the token [PAD], else 0.
func (t *Tokenizer) PadID() int64 { return t.padding }

// Specials is the number of tokens that every text is given beside its own.
func (t *Tokenizer) Specials() int { return len(t.before) + len(t.after) }

// MaxID is the largest id that Encode can give.
func (t *Tokenizer) MaxID() int64 { return t.largest }

// Tokens are the tokens that have the ids, for people to read; an id that no
// token has gives its number. It searches the whole vocabulary.
func (t *Tokenizer) Tokens(ids []int64) []string {
	byID := make(map[int64]string, len(ids))
	for _, id := range ids {
		byID[id] = strconv.FormatInt(id, 10)
	}
	note := func(token string, id int64) {
		if _, wanted := byID[id]; wanted {
			byID[id] = token
		}
	}
	for token, id := range t.vocab {
		note(token, id)
	}
	for _, added := range []*addedTokens{&t.raw, &t.folded} {
		for _, begin := range added {
			for _, a := range begin {
				note(a.text, a.id)
			}
		}
	}
	tokens := make([]string, len(ids))
	for i, id := range ids {
		tokens[i] = byID[id]
	}
	return tokens
}

// Encode returns the ids of text, special ones included, at most max of them
// (and at most what the file's own truncation allows): what is too much is cut
// from the text's end, or its beginning where the file says so. Where max is
// less than [Tokenizer.Specials], there are as many ids as these. Invalid
// UTF-8 counts as U+FFFD.
func (t *Tokenizer) Encode(text string, max int) []int64 {
	if t.maxTokens > 0 {
		max = min(max, t.maxTokens)
	}
	ids := encoding{Tokenizer: t, ids: append(make([]int64, 0, 64), t.before...), room: max - len(t.after)}
	if ids.room > len(t.before) {
		ids.text(strings.ToValidUTF8(text, "\ufffd"))
	}
	if over := len(ids.ids) - ids.room; over > 0 && len(ids.ids) > len(t.before) {
		if t.left {
			ids.ids = append(ids.ids[:len(t.before)], ids.ids[len(t.before)+over:]...)
		} else {
			ids.ids = ids.ids[:len(ids.ids)-over]
		}
	}
	return append(ids.ids, t.after...)
}

// encoding is one text on its way.
type encoding struct {
	*Tokenizer
	ids   []int64
	room  int    // for ids, those of t.after not counted
	piece []byte // the prefix, and what is sought in the vocabulary behind it
}

// full reports whether what is still to come would be cut off.
func (e *encoding) full() bool { return !e.left && len(e.ids) >= e.room }

func (e *encoding) text(text string) {
	e.raw.split(text, func(part string, id int64, added bool) {
		switch {
		case e.full():
		case added:
			e.ids = append(e.ids, id)
		default:
			e.folded.split(e.normalizer.apply(part), func(part string, id int64, added bool) {
				if added {
					e.ids = append(e.ids, id)
				} else {
					e.words(part)
				}
			})
		}
	})
}

// words splits as the BertPreTokenizer: at white space, which is dropped, and
// around each punctuation character.
func (e *encoding) words(text string) {
	start := 0
	for i, r := range text {
		if e.full() {
			return
		}
		space := unicode.IsSpace(r)
		if !space && !isPunctuation(r) {
			continue
		}
		end := i + utf8.RuneLen(r)
		e.word(text[start:i])
		if !space {
			e.word(text[i:end])
		}
		start = end
	}
	e.word(text[start:])
}

// word gives a word's pieces: the longest one that the vocabulary has, then
// the longest of what is left, and so on; or unknown for the whole word, if
// that does not end with it.
func (e *encoding) word(word string) {
	if word == "" {
		return
	}
	if len(word) > e.maxWord && utf8.RuneCountInString(word) > e.maxWord {
		e.ids = append(e.ids, e.unknown)
		return
	}
	first := len(e.ids)
	prefix := ""
	for word != "" {
		id, size := e.longest(prefix, word)
		if size == 0 {
			e.ids = append(e.ids[:first], e.unknown)
			return
		}
		e.ids = append(e.ids, id)
		word, prefix = word[size:], e.prefix
	}
}

// longest finds the longest beginning of word that is in the vocabulary with
// the prefix before it. It returns its size, 0 where there is none.
func (e *encoding) longest(prefix, word string) (id int64, size int) {
	e.piece = append(append(e.piece[:0], prefix...), word...)
	for n := min(len(word), e.longestPiece-len(prefix)); n > 0; n-- {
		if n < len(word) && !utf8.RuneStart(word[n]) {
			continue
		}
		if id, ok := e.vocab[string(e.piece[:len(prefix)+n])]; ok {
			return id, n
		}
	}
	return 0, 0
}
