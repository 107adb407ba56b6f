package wordpiece

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// golden is what testdata/reference.py wrote.
type golden struct {
	Tokenizers     string
	Texts          map[string]string
	EveryCharacter map[string]string
	Variants       []struct {
		Name  string
		Patch map[string]json.RawMessage
		Max   int
		IDs   map[string][]int64
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func goldens(t *testing.T) golden {
	t.Helper()
	var g golden
	if err := json.Unmarshal(read(t, "golden.json"), &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// patched is the trained tokenizer's file with some members replaced.
func patched(t testing.TB, patch map[string]json.RawMessage) []byte {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(read(t, "tokenizer.json"), &members); err != nil {
		t.Fatal(err)
	}
	maps.Copy(members, patch)
	data, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAsTheLibrary(t *testing.T) {
	g := goldens(t)
	texts := 0
	for _, v := range g.Variants {
		t.Run(v.Name, func(t *testing.T) {
			tok, err := Load(patched(t, v.Patch))
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range v.IDs {
				texts++
				got := tok.Encode(g.Texts[name], v.Max)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s, at most %d: %q (-library +here)\n%s", name, v.Max, g.Texts[name], diff)
				}
				for _, id := range got {
					if id > tok.MaxID() {
						t.Errorf("%s: id %d, and the largest is %d", name, id, tok.MaxID())
					}
				}
			}
		})
	}
	if texts < 1000 {
		t.Errorf("only %d texts were compared", texts)
	}
}

// TestEveryCharacter holds the tables, and golang.org/x/text's, to the
// library's.
func TestEveryCharacter(t *testing.T) {
	for option, n := range map[string]normalizer{
		"clean_text": {clean: true}, "handle_chinese_chars": {chinese: true},
		"strip_accents": {stripAccents: true}, "lowercase": {lowercase: true},
	} {
		t.Run(option, func(t *testing.T) {
			var all bytes.Buffer
			for r := rune(0); r <= utf8.MaxRune; r++ {
				if !utf8.ValidRune(r) {
					continue
				}
				if r > 0 {
					all.WriteByte('\n')
				}
				all.WriteString(n.apply(string(r)))
			}
			sum := sha256.Sum256(all.Bytes())
			if got, want := hex.EncodeToString(sum[:]), goldens(t).EveryCharacter[option]; got != want {
				t.Errorf("some character is not what the library makes of it: digest %s, want %s", got, want)
			}
		})
	}
}

func TestInvalidUTF8(t *testing.T) {
	tok, err := Load(read(t, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"wat\xffch", "\xed\xa0\x80watch", "watch\xc3"} { // a lone byte, a surrogate, an end too early
		if diff := cmp.Diff(tok.Encode("watch", 16), tok.Encode(text, 16)); diff != "" {
			t.Errorf("%q: U+FFFD is dropped\n%s", text, diff)
		}
	}
}

// FuzzEncode wants bounds kept, and the beginning of a text's ids to be the
// same however many are asked for.
func FuzzEncode(f *testing.F) {
	tok, err := Load(read(f, "tokenizer.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("red [MASK] shirt", 5)
	f.Add("é\u0301\u0323 手表 İ", 3)
	f.Add("\xff\x00", 0)
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = max(0, min(most, 600))
		ids := tok.Encode(text, most)
		if len(ids) > max(most, tok.Specials()) || len(ids) < tok.Specials() {
			t.Fatalf("%d ids; at most %d were asked for", len(ids), most)
		}
		all := tok.Encode(text, 1<<20)
		if n := len(ids) - 1; n > 0 && cmp.Diff(all[:n], ids[:n]) != "" {
			t.Fatalf("%v is not the beginning of %v", ids, all)
		}
		for _, id := range all {
			if id < 0 || id > tok.MaxID() {
				t.Fatalf("id %d", id)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	tok, err := Load(read(b, "tokenizer.json"))
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{
		"title":   "Red cotton shirt for men, long sleeves",
		"accents": "Crème brûlée café apron, naïve pattern",
		"long":    strings.Repeat("red shirt, ", 5000),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tok.Encode(text, 64)
			}
		})
	}
}
