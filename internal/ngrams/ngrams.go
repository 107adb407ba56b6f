// Package ngrams turns text into a bag of hashed n-grams: the features of the
// title classifier. Training and serving call the same code.
//
// Free text (title, description, brand) gives n-grams of its words and of the
// characters within each word; an attribute gives one feature for its whole
// value. Text is folded by internal/words first. Every feature is hashed
// together with its field's name and kind into one of Buckets rows.
//
// Guarantees: the result is a function of the configuration and the fields;
// any input whatsoever is accepted; ids are distinct and in [0, Buckets), at
// most MaxTokens of them and at least one (without any feature it is id 0
// with weight 0, which adds nothing). Work is bounded by the input's length.
// All methods may be called concurrently.
package ngrams

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"unicode/utf8"

	"aisle.dev/aisle/internal/words"
)

// Config says which n-grams are taken and how they are weighted.
type Config struct {
	Buckets   int    `json:"buckets"`   // rows of the model's table; ids are in [0, Buckets)
	Words     [2]int `json:"words"`     // shortest and longest word n-gram; 0, 0 for none
	Chars     [2]int `json:"chars"`     // shortest and longest character n-gram within a word; 0, 0 for none
	MaxTokens int    `json:"maxTokens"` // most n-grams taken of one product

	// AttributeWeight is the weight of each attribute's feature. The n-grams
	// of free text weigh 1/sqrt(n) each, n being their number.
	AttributeWeight float32 `json:"attributeWeight,omitempty"`
}

// Bounds of a configuration.
const (
	MaxBuckets = 1 << 24
	MaxTokens  = 4096
	maxN       = 8 // of a word or character n-gram
)

// Field is one named text of a product, in the package's reads order.
type Field struct{ Name, Text string }

// Validate checks the bounds.
func (c Config) Validate() error {
	if c.Buckets < 1 || c.Buckets > MaxBuckets || c.MaxTokens < 1 || c.MaxTokens > MaxTokens {
		return fmt.Errorf("hashedNgrams: buckets %d, maxTokens %d: want 1 to %d, and 1 to %d", c.Buckets, c.MaxTokens, MaxBuckets, MaxTokens)
	}
	for _, r := range [][2]int{c.Words, c.Chars} {
		if r != [2]int{} && (r[0] < 1 || r[1] < r[0] || r[1] > maxN) {
			return fmt.Errorf("hashedNgrams: n-grams %v: want a shortest and a longest in 1 to %d, or [0, 0] for none", r, maxN)
		}
	}
	if c.Words == [2]int{} && c.Chars == [2]int{} {
		return fmt.Errorf("hashedNgrams: neither words nor chars: there would be no features")
	}
	if a := float64(c.AttributeWeight); !(a >= 0) || math.IsInf(a, 0) {
		return fmt.Errorf("hashedNgrams: attributeWeight %v: want a number, 0 or above", a)
	}
	return nil
}

// Features returns the ids and weights of the fields' n-grams: equally long,
// ids distinct. The configuration must be valid.
func (c Config) Features(fields []Field) (ids []int32, weights []float32) {
	b := bags.Get().(*bag)
	defer bags.Put(b)
	b.reset(c)
	attributes := b.fill(c, fields)
	if len(b.ids) == 0 {
		return []int32{0}, []float32{0}
	}
	ids, weights = make([]int32, len(b.ids)), make([]float32, len(b.ids))
	copy(ids, b.ids)
	each := float32(1 / math.Sqrt(float64(max(1, len(ids)-attributes))))
	for i := range weights {
		weights[i] = each
		if i < attributes {
			weights[i] = c.AttributeWeight
		}
	}
	return ids, weights
}

// Names returns the n-grams whose ids Features returns, in the same order, for
// people to read: title "red silk" of words, title <si of characters, where <
// and > are a word's ends and $ is a text's.
func (c Config) Names(fields []Field) []string {
	b := &bag{naming: true}
	b.reset(c)
	b.fill(c, fields)
	return b.names
}

var bags = sync.Pool{New: func() any { return new(bag) }}

// bag collects distinct ids up to a limit.
type bag struct {
	buckets uint32
	limit   int
	ids     []int32
	seen    []int32 // open addressing: id+1, or 0; a power of two at least twice limit long
	folded  []byte
	bounds  []int // of the words in folded: start, end, start, end, ...

	naming bool // names has one for each id
	names  []string
}

// fill adds the features of all fields, and returns how many are attributes'.
func (b *bag) fill(c Config, fields []Field) (attributes int) {
	for _, f := range fields { // attributes first: a long text must not push them out
		if name, ok := strings.CutPrefix(f.Name, "attributes."); ok && c.AttributeWeight > 0 {
			b.attribute(name, f.Text)
		}
	}
	attributes = len(b.ids)
	for _, f := range fields {
		if !strings.HasPrefix(f.Name, "attributes.") {
			b.text(c, f)
		}
	}
	return attributes
}

func (b *bag) reset(c Config) {
	b.buckets, b.limit, b.ids = uint32(c.Buckets), c.MaxTokens, b.ids[:0]
	size := 2
	for size < 2*c.MaxTokens {
		size *= 2
	}
	if cap(b.seen) < size {
		b.seen = make([]int32, size)
		return
	}
	b.seen = b.seen[:size]
	clear(b.seen)
}

func (b *bag) full() bool { return len(b.ids) >= b.limit }

// add reports whether the feature is a new one.
func (b *bag) add(h uint64) bool {
	if b.full() {
		return false
	}
	// Mix, so that the low bits of neighbouring FNV values do not collide, and
	// scale to [0, buckets) by the high bits.
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	id := int32((h >> 32) * uint64(b.buckets) >> 32)
	mask := uint32(len(b.seen) - 1)
	for at := uint32(id) & mask; ; at = (at + 1) & mask {
		switch b.seen[at] {
		case id + 1:
			return false
		case 0:
			b.seen[at] = id + 1
			b.ids = append(b.ids, id)
			return true
		}
	}
}

// Kinds of features: the first byte that is hashed.
const (
	kindWords     = 'w'
	kindChars     = 'c'
	kindAttribute = 'a'
)

// 64-bit FNV-1a, written out because n-grams extend a hash byte by byte.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func hash(h uint64, c byte) uint64 { return (h ^ uint64(c)) * fnvPrime }

func salt(kind byte, name string) uint64 {
	h := hash(fnvOffset, kind)
	for i := 0; i < len(name); i++ {
		h = hash(h, name[i])
	}
	return hash(h, 0)
}

func (b *bag) attribute(name, value string) {
	b.folded = words.Append(b.folded[:0], value)
	if len(b.folded) == 0 {
		return
	}
	h := salt(kindAttribute, name)
	for _, c := range b.folded {
		h = hash(h, c)
	}
	if b.add(h) && b.naming {
		b.names = append(b.names, fmt.Sprintf("%s %q", name, b.folded))
	}
}

func (b *bag) text(c Config, f Field) {
	b.folded = words.Append(b.folded[:0], f.Text)
	if len(b.folded) == 0 {
		return
	}
	b.bounds = append(b.bounds[:0], 0)
	for i, ch := range b.folded {
		if ch == ' ' {
			b.bounds = append(b.bounds, i, i+1)
		}
	}
	b.bounds = append(b.bounds, len(b.folded))
	if c.Words[1] > 0 {
		b.words(salt(kindWords, f.Name), f.Name, c.Words)
	}
	if c.Chars[1] > 0 {
		h := salt(kindChars, f.Name)
		for i := 0; i < len(b.bounds) && !b.full(); i += 2 {
			b.chars(h, f.Name, b.folded[b.bounds[i]:b.bounds[i+1]], c.Chars)
		}
	}
}

// words adds the word n-grams. Those of two and more words also see the text's
// end, since titles put what a thing is there.
func (b *bag) words(salt uint64, field string, n [2]int) {
	count := len(b.bounds) / 2
	for i := 0; i < count && !b.full(); i++ {
		h := salt
		for k := 0; k < n[1] && i+k <= count; k++ {
			if i+k == count {
				h = hash(h, '\n')
			} else {
				for _, ch := range b.folded[b.bounds[2*(i+k)]:b.bounds[2*(i+k)+1]] {
					h = hash(h, ch)
				}
				h = hash(h, ' ')
			}
			if k+1 >= n[0] && b.add(h) && b.naming {
				last, end := min(i+k, count-1), ""
				if i+k == count {
					end = " $"
				}
				b.names = append(b.names, fmt.Sprintf("%s %q", field, string(b.folded[b.bounds[2*i]:b.bounds[2*last+1]])+end))
			}
		}
	}
}

// chars adds the n-grams of "<word>", counted in characters.
func (b *bag) chars(salt uint64, field string, word []byte, n [2]int) {
	for start := -1; start < len(word) && !b.full(); {
		h, at := salt, start
		for k := 1; k <= n[1] && at <= len(word); k++ {
			switch {
			case at < 0:
				h, at = hash(h, '<'), 0
			case at == len(word):
				h, at = hash(h, '>'), at+1
			default:
				for end := at + runeLen(word[at:]); at < end; at++ {
					h = hash(h, word[at])
				}
			}
			if k >= n[0] && b.add(h) && b.naming {
				b.names = append(b.names, field+" "+strings.Repeat("<", max(0, -start))+string(word[max(0, start):min(at, len(word))])+strings.Repeat(">", max(0, at-len(word))))
			}
		}
		if start < 0 {
			start = 0
		} else {
			start += runeLen(word[start:])
		}
	}
}

func runeLen(b []byte) int {
	if b[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRune(b)
	return n
}
