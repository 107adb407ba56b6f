package words

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestFold(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"only separators", " -\t/ ", ""},
		{"case and punctuation", "Puma Men's  T-Shirt (Blue)", "puma men s t shirt blue"},
		{"accents", "Crème BRÛLÉE", "creme brulee"},
		{"decomposed accents", "Cafe\u0301", "cafe"},
		{"full width", "ＡＢＣ１２", "abc12"},
		{"ligature", "ﬁne", "fine"},
		{"czech", "Dětské oblečení", "detske obleceni"},
		{"other scripts", "Юбка 裙子", "юбка 裙子"},
		{"trade mark is letters", "Nike™", "niketm"},
		{"invalid UTF-8 separates", "a\xffb", "a b"},
		{"NUL separates", "a\x00b", "a b"},
		{"emoji separates", "red\U0001F457dress", "red dress"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Fold(tc.in); got != tc.want {
				t.Errorf("Fold(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestAppendSeparates(t *testing.T) {
	for _, second := range []string{"Two", "Twó", " two "} {
		if got := string(Append([]byte("one"), second)); got != "one two" {
			t.Errorf("Append(one, %q) = %q, want %q", second, got, "one two")
		}
		if got := string(Append([]byte("one "), second)); got != "one two" {
			t.Errorf("Append(one+space, %q) = %q, want %q", second, got, "one two")
		}
	}
}

func TestFoldProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`)).Draw(t, "s")
		f := Fold(s)
		if strings.Contains(f, "  ") || strings.TrimSpace(f) != f {
			t.Fatalf("Fold(%q) = %q: words are not separated by single spaces", s, f)
		}
		if g := Fold(f); g != f {
			t.Fatalf("Fold is not idempotent: %q, then %q", f, g)
		}
		ascii := strings.Map(func(r rune) rune {
			if r < utf8.RuneSelf {
				return r
			}
			return '-'
		}, s)
		if a, u := Fold(ascii), string(appendUnicode(nil, ascii, false)); a != u {
			t.Fatalf("the ASCII path says %q, the Unicode path %q", a, u)
		}
	})
}

func FuzzFold(f *testing.F) {
	for _, s := range []string{"", "Puma T-shirt", "Cafe\u0301", "\xff\xfe", strings.Repeat("\u0301", 100), "a\x00b", "ﷺ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Fold(s)
		if !utf8.ValidString(got) {
			t.Fatalf("Fold(%q) is not valid UTF-8", s)
		}
		if len(got) > 18*len(s) { // U+FDFA, the longest NFKD expansion, is 33 bytes of 3
			t.Fatalf("Fold made %d bytes of %d", len(got), len(s))
		}
	})
}
