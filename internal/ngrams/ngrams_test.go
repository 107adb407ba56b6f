package ngrams

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var wide = Config{Buckets: 1 << 24, Words: [2]int{1, 2}, Chars: [2]int{3, 5}, MaxTokens: 512, AttributeWeight: 0.5}

// The ids are frozen: models in use were trained with them.
func TestFeaturesGolden(t *testing.T) {
	c := Config{Buckets: 1000, Words: [2]int{1, 2}, Chars: [2]int{3, 3}, MaxTokens: 64, AttributeWeight: 0.5}
	ids, weights := c.Features([]Field{{"title", "Blue T-Shirt"}, {"attributes.gender", "Men"}})
	wantIDs := []int32{509, 991, 268, 827, 511, 745, 327, 379, 705, 453, 547, 100, 271, 593, 706, 609, 7}
	if diff := cmp.Diff(wantIDs, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if weights[0] != 0.5 || math.Abs(float64(weights[1])-1/math.Sqrt(float64(len(ids)-1))) > 1e-6 {
		t.Errorf("weights %v: want the attribute's 0.5 first, then 1/sqrt(%d)", weights, len(ids)-1)
	}
}

func TestNames(t *testing.T) {
	c := Config{Buckets: 1 << 24, Words: [2]int{1, 2}, Chars: [2]int{3, 3}, MaxTokens: 64, AttributeWeight: 0.5}
	fields := []Field{{"title", "Red tie"}, {"attributes.gender", "Men"}}
	want := []string{`gender "men"`, `title "red"`, `title "red tie"`, `title "tie"`, `title "tie $"`, "title <re", "title red", "title ed>", "title <ti", "title tie", "title ie>"}
	if diff := cmp.Diff(want, c.Names(fields)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := count(c, fields...); n != len(want) {
		t.Errorf("%d ids for %d names", n, len(want))
	}
}

func count(c Config, fields ...Field) int {
	ids, _ := c.Features(fields)
	return len(ids)
}

func TestFeaturesCount(t *testing.T) {
	words := Config{Buckets: 1 << 24, Words: [2]int{1, 2}, MaxTokens: 512}
	chars := Config{Buckets: 1 << 24, Chars: [2]int{3, 4}, MaxTokens: 512}
	for _, tc := range []struct {
		name   string
		c      Config
		fields []Field
		want   int
	}{
		{"words and pairs, the last with the end", words, []Field{{"title", "red silk tie"}}, 6},
		{"repeats count once", words, []Field{{"title", "tie tie tie"}}, 3},
		{"one word", words, []Field{{"title", "tie"}}, 2},
		{"characters of <tie>", chars, []Field{{"title", "tie"}}, 5},
		{"a word of one letter", chars, []Field{{"title", "x"}}, 1},
		{"characters are counted in runes", chars, []Field{{"title", "юбк"}}, 5},
		{"two fields do not share", words, []Field{{"title", "tie"}, {"brand", "tie"}}, 4},
		{"an attribute is one feature", wide, []Field{{"attributes.colour", "navy blue"}}, 1},
		{"attributes without weight are not read", words, []Field{{"attributes.colour", "blue"}, {"title", "tie"}}, 2},
		{"no text", wide, []Field{{"title", ""}}, 1},
		{"no words", wide, []Field{{"title", "?!"}}, 1},
		{"nothing", wide, nil, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := count(tc.c, tc.fields...); got != tc.want {
				t.Errorf("%d features, want %d", got, tc.want)
			}
		})
	}
}

func TestFeaturesOfNothingWeighNothing(t *testing.T) {
	ids, weights := wide.Features([]Field{{"title", " - "}})
	if !slices.Equal(ids, []int32{0}) || !slices.Equal(weights, []float32{0}) {
		t.Errorf("ids %v, weights %v: want one id 0 of weight 0", ids, weights)
	}
}

func TestAttributesSurviveLongTitles(t *testing.T) {
	colour := Field{"attributes.colour", "blue"}
	alone, _ := wide.Features([]Field{colour})
	ids, weights := wide.Features([]Field{{"title", strings.Repeat("abcdefg hijklm ", 1000) + rest()}, colour})
	if len(ids) != wide.MaxTokens || ids[0] != alone[0] || weights[0] != wide.AttributeWeight {
		t.Errorf("%d ids, the first %d of weight %v: want %d, the attribute's %d first", len(ids), ids[0], weights[0], wide.MaxTokens, alone[0])
	}
}

func rest() string {
	var b strings.Builder
	for r := rune(0x4e00); r < 0x4e00+2000; r++ {
		b.WriteRune(r)
	}
	return b.String()
}

func check(t interface{ Fatalf(string, ...any) }, c Config, fields []Field) {
	ids, weights := c.Features(fields)
	if len(ids) != len(weights) || len(ids) < 1 || len(ids) > c.MaxTokens {
		t.Fatalf("%d ids, %d weights: want equally many, 1 to %d", len(ids), len(weights), c.MaxTokens)
	}
	seen := map[int32]bool{}
	for i, id := range ids {
		if id < 0 || int(id) >= c.Buckets || seen[id] {
			t.Fatalf("id %d is out of range or occurs twice", id)
		}
		seen[id] = true
		if w := float64(weights[i]); !(w >= 0) || math.IsInf(w, 0) {
			t.Fatalf("weight %v", w)
		}
	}
	again, _ := c.Features(fields)
	if !slices.Equal(ids, again) {
		t.Fatalf("a second call differs")
	}
}

func TestFeaturesProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8)
		lo, lc := n.Draw(t, "words"), n.Draw(t, "chars")
		c := Config{
			Buckets:         rapid.IntRange(1, 1<<20).Draw(t, "buckets"),
			Words:           [2]int{lo, rapid.IntRange(lo, 8).Draw(t, "longest words")},
			Chars:           [2]int{lc, rapid.IntRange(lc, 8).Draw(t, "longest chars")},
			MaxTokens:       rapid.IntRange(1, 200).Draw(t, "tokens"),
			AttributeWeight: rapid.Float32Range(0, 2).Draw(t, "weight"),
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		check(t, c, []Field{
			{"title", rapid.String().Draw(t, "title")},
			{"attributes.colour", rapid.String().Draw(t, "colour")},
		})
	})
}

func FuzzFeatures(f *testing.F) {
	for _, s := range []string{"", "Puma Men's T-shirt", "\xff\xfe\x00", "юбка 裙子 ﷺ", strings.Repeat("a", 5000), strings.Repeat("ab ", 2000), "e\u0301"} {
		f.Add(s, "Navy Blue", 256)
	}
	f.Fuzz(func(t *testing.T, title, colour string, tokens int) {
		c := wide
		c.Buckets, c.MaxTokens = 4096, 1+int(uint(tokens)%MaxTokens)
		check(t, c, []Field{{"title", title}, {"attributes.colour", colour}})
	})
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"as it is", func(*Config) {}, true},
		{"words alone", func(c *Config) { c.Chars = [2]int{} }, true},
		{"neither", func(c *Config) { c.Words, c.Chars = [2]int{}, [2]int{} }, false},
		{"no buckets", func(c *Config) { c.Buckets = 0 }, false},
		{"too many buckets", func(c *Config) { c.Buckets = MaxBuckets + 1 }, false},
		{"no tokens", func(c *Config) { c.MaxTokens = 0 }, false},
		{"too many tokens", func(c *Config) { c.MaxTokens = MaxTokens + 1 }, false},
		{"reversed", func(c *Config) { c.Chars = [2]int{5, 3} }, false},
		{"from zero", func(c *Config) { c.Words = [2]int{0, 2} }, false},
		{"too long", func(c *Config) { c.Words = [2]int{1, 9} }, false},
		{"negative weight", func(c *Config) { c.AttributeWeight = -1 }, false},
		{"not a number", func(c *Config) { c.AttributeWeight = float32(math.NaN()) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := wide
			tc.change(&c)
			if err := c.Validate(); (err == nil) != tc.ok {
				t.Errorf("Validate: %v", err)
			}
		})
	}
}

func BenchmarkFeatures(b *testing.B) {
	fields := []Field{{"title", "Turtle Check Men Navy Blue Casual Shirt"}, {"attributes.gender", "Men"}, {"attributes.colour", "Navy Blue"}}
	b.ReportAllocs()
	for b.Loop() {
		wide.Features(fields)
	}
}
