// Package mask removes the words of class names from titles.
//
// Most titles name their class ("Blue Shirt"), so a classifier of titles looks
// better than it is; what it and a composition can do without the name is
// measured on masked titles. The rule is the same for training, fitting and
// evaluation, and works for any list of class names.
package mask

import (
	"strings"

	"aisle.dev/aisle/internal/words"
)

// Titles masks titles. The zero value removes nothing.
type Titles struct{ remove map[string]bool }

// kept are words that name no class although they stand in class names.
var kept = map[string]bool{"and": true, "a": true}

// New returns a mask of every word of the class names, singular and plural.
func New(classes []string) Titles {
	remove := map[string]bool{}
	for _, class := range classes {
		for _, w := range split(class) {
			for _, form := range forms(w) {
				remove[form] = !kept[form]
			}
		}
	}
	if remove["shirt"] { // or else "T-shirt" would give it away
		remove["tshirt"], remove["tshirts"] = true, true
	}
	return Titles{remove}
}

// Mask returns the title's words, folded as internal/words does it, without
// those of the class names. It may be empty.
func (t Titles) Mask(title string) string {
	var b strings.Builder
	for _, w := range split(title) {
		if t.remove[w] {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w)
	}
	return b.String()
}

// split returns the folded words; "T-Shirt", "t shirt" and "tshirt" are one.
func split(s string) []string {
	in := strings.Fields(words.Fold(s))
	out := in[:0]
	for i := 0; i < len(in); i++ {
		if in[i] == "t" && i+1 < len(in) && (in[i+1] == "shirt" || in[i+1] == "shirts") {
			out = append(out, "t"+in[i+1])
			i++
			continue
		}
		out = append(out, in[i])
	}
	return out
}

// forms returns the word and what its singular or plural may be, by its
// ending. Forms that are no words do no harm: no title has them.
func forms(w string) []string {
	all := []string{w}
	cut := func(suffix string, ends ...string) {
		if stem, ok := strings.CutSuffix(w, suffix); ok && stem != "" {
			for _, e := range ends {
				all = append(all, stem+e)
			}
		}
	}
	cut("ies", "y")
	cut("es", "", "e")
	cut("ss", "sses")
	cut("y", "ies")
	if strings.HasSuffix(w, "s") {
		cut("s", "")
	} else {
		all = append(all, w+"s", w+"es")
	}
	return all
}

// IsZero reports whether the mask removes nothing.
func (t Titles) IsZero() bool { return len(t.remove) == 0 }
