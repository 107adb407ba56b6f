package wordpiece

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// member is a patch of one member of tokenizer.json.
func member(name, value string) map[string]json.RawMessage {
	return map[string]json.RawMessage{name: json.RawMessage(value)}
}

func TestRefusals(t *testing.T) {
	const flags = `"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false`
	token := func(id int, content, flags string) string {
		return fmt.Sprintf(`{"id":%d,"content":%q,%s}`, id, content, flags)
	}
	const size = 360 // of the vocabulary
	vocab := func(entries string) string {
		return `{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{` + entries + `}}`
	}
	single := func(pieces, tokens string) string {
		return `{"type":"TemplateProcessing","single":[` + pieces + `],"pair":[],"special_tokens":{` + tokens + `}}`
	}
	const text = `{"Sequence":{"id":"A","type_id":0}}`
	for name, tt := range map[string]struct {
		patch map[string]json.RawMessage
		want  string
	}{
		"version":                  {member("version", `"2.0"`), `version "2.0" is not read`},
		"unknown member":           {member("postprocess", `null`), "/postprocess is not known here"},
		"model of another type":    {member("model", `{"type":"BPE","vocab":{},"merges":[]}`), "model: BPE is not read; only WordPiece is"},
		"model of no type":         {member("model", `{"vocab":{}}`), "model: it has no type"},
		"no model":                 {member("model", `null`), "model: there is none"},
		"vocab empty":              {member("model", vocab("")), "vocab has 0 tokens"},
		"no unk":                   {member("model", vocab(`"a":0`)), `the unk_token "[UNK]" is not in it`},
		"ids twice":                {member("model", vocab(`"[UNK]":0,"b":1,"a":1`)), `"a" and "b" have the same id 1`},
		"id negative":              {member("model", vocab(`"[UNK]":-1`)), "has the id -1"},
		"id too large":             {member("model", vocab(`"[UNK]":2147483648`)), "has the id 2147483648"},
		"id beyond an int64":       {member("model", vocab(`"[UNK]":1e99`)), "model: "},
		"a token twice":            {member("model", vocab(`"[UNK]":0,"a":1,"a":2`)), "duplicate object member name"},
		"a token too long":         {member("model", vocab(`"[UNK]":0,"`+strings.Repeat("a", MaxPiece+1)+`":1`)), "is 1025 bytes long"},
		"invalid UTF-8":            {nil, "invalid UTF-8"},
		"words too long":           {member("model", strings.Replace(vocab(`"[UNK]":0`), ":100,", ":1000000,", 1)), "max_input_chars_per_word is 1000000"},
		"model without a prefix":   {member("model", `{"type":"WordPiece","unk_token":"[UNK]","max_input_chars_per_word":100,"vocab":{"[UNK]":0}}`), "want unk_token, continuing_subword_prefix"},
		"model with more":          {member("model", `{"type":"WordPiece","fuse_unk":true}`), "model: /fuse_unk is not known here"},
		"normalizer":               {member("normalizer", `{"type":"NFKC"}`), "normalizer: NFKC is not read; only BertNormalizer is"},
		"normalizers":              {member("normalizer", `{"type":"Sequence","normalizers":[]}`), "normalizer: Sequence is not read"},
		"normalizer's options":     {member("normalizer", `{"type":"BertNormalizer","clean_text":true}`), "want clean_text, handle_chinese_chars and lowercase"},
		"no pre-tokenizer":         {member("pre_tokenizer", `null`), "pre_tokenizer: there is none; want BertPreTokenizer"},
		"pre-tokenizer":            {member("pre_tokenizer", `{"type":"Whitespace"}`), "pre_tokenizer: Whitespace is not read"},
		"pre-tokenizer with more":  {member("pre_tokenizer", `{"type":"BertPreTokenizer","split":1}`), "pre_tokenizer: /split is not known here"},
		"post-processor":           {member("post_processor", `{"type":"RobertaProcessing"}`), "post_processor: RobertaProcessing is not read"},
		"template without text":    {member("post_processor", single("", "")), "the text is in it 0 times"},
		"template of two texts":    {member("post_processor", single(text+","+text, "")), "the text is in it 2 times"},
		"template of a pair":       {member("post_processor", single(`{"Sequence":{"id":"B","type_id":0}}`, "")), `the sequence "B" is not read`},
		"template's type":          {member("post_processor", single(`{"Sequence":{"id":"A","type_id":1}}`, "")), "the type_id 1 is not read"},
		"template's empty place":   {member("post_processor", single(`{}`, "")), "want a SpecialToken or a Sequence"},
		"template's token":         {member("post_processor", single(`{"SpecialToken":{"id":"x","type_id":0}},`+text, "")), `"x" is not among the special_tokens`},
		"template's id":            {member("post_processor", single(`{"SpecialToken":{"id":"x","type_id":0}},`+text, `"x":{"id":"x","ids":[999999],"tokens":["x"]}`)), "has the id 999999, which no token has"},
		"template of many":         {member("post_processor", single(strings.Repeat(`{"SpecialToken":{"id":"x","type_id":0}},`, 65)+text, `"x":{"id":"x","ids":[1],"tokens":["x"]}`)), "65 special tokens"},
		"bert without ids":         {member("post_processor", `{"type":"BertProcessing"}`), "want sep and cls"},
		"bert's ids":               {member("post_processor", `{"type":"BertProcessing","sep":["[SEP]","3"],"cls":["[CLS]",2]}`), "the id of a special token"},
		"truncation's direction":   {member("truncation", `{"direction":"Up","max_length":9,"strategy":"LongestFirst","stride":0}`), `direction "Up"`},
		"truncation's strategy":    {member("truncation", `{"direction":"Right","max_length":9,"strategy":"OnlySecond","stride":0}`), `strategy "OnlySecond"`},
		"truncation to nothing":    {member("truncation", `{"direction":"Right","max_length":1,"strategy":"OnlyFirst","stride":0}`), "max_length is 1; the special tokens alone are 2"},
		"padding on the left":      {member("padding", `{"strategy":"BatchLongest","direction":"Left","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"}`), `padding: direction "Left"`},
		"padding's type":           {member("padding", `{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":8,"pad_id":0,"pad_type_id":1,"pad_token":"[PAD]"}`), "pad_type_id 1"},
		"padding's id":             {member("padding", `{"strategy":"BatchLongest","direction":"Right","pad_to_multiple_of":null,"pad_id":-1,"pad_type_id":0,"pad_token":"[PAD]"}`), "pad_id -1 is no token"},
		"added, empty":             {member("added_tokens", `[`+token(size, "", flags)+`]`), "is empty"},
		"added, normalised away":   {member("added_tokens", `[`+token(size, "\u0301", strings.Replace(flags, `"normalized":false`, `"normalized":true`, 1))+`]`), "is empty"},
		"added, with space":        {member("added_tokens", `[`+token(size, "new ", flags)+`]`), "begins or ends with white space"},
		"added, single word":       {member("added_tokens", `[`+token(size, "new", strings.Replace(flags, "false", "true", 1))+`]`), "single_word is not read"},
		"added, without flags":     {member("added_tokens", `[{"id":360,"content":"new"}]`), "want single_word, lstrip"},
		"added, twice":             {member("added_tokens", `[`+token(size, "new", flags)+`,`+token(size+1, "new", flags)+`]`), `"new" is there twice`},
		"added, another id":        {member("added_tokens", `[`+token(size+4, "new", flags)+`]`), "has the id 364, and the library would give it 360"},
		"added, the vocab's id":    {member("added_tokens", `[`+token(7, "[PAD]", flags)+`]`), "has the id 7, and the library would give it 0"},
		"added, too long":          {member("added_tokens", `[`+token(size, strings.Repeat("n", MaxPiece+1), flags)+`]`), "is 1025 bytes long"},
		"added, too many":          {member("added_tokens", `[`+strings.Repeat(token(0, "[PAD]", flags)+`,`, MaxAdded)+token(0, "[PAD]", flags)+`]`), "1025 of them"},
		"a member of another kind": {member("added_tokens", `{}`), "tokenizer.json: "},
	} {
		t.Run(name, func(t *testing.T) {
			data := patched(t, tt.patch)
			if tt.patch == nil {
				data = []byte(strings.Replace(string(data), "[UNK]", "\xff", 1))
			}
			_, err := Load(data)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "tokenizer.json: ") {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
	t.Run("a gap in the ids", func(t *testing.T) {
		patch := member("model", vocab(`"[UNK]":0,"a":2`))
		patch["added_tokens"], patch["post_processor"] = json.RawMessage(`[`+token(2, "new", flags)+`]`), json.RawMessage(`null`)
		if _, err := Load(patched(t, patch)); err == nil || !strings.Contains(err.Error(), `"new" has the id 2 of another token`) {
			t.Error(err)
		}
	})
	t.Run("a file too large", func(t *testing.T) {
		if _, err := Load(make([]byte, MaxFile+1)); err == nil || !strings.Contains(err.Error(), "at most 33554432 are read") {
			t.Error(err)
		}
	})
	for name, data := range map[string]string{"empty": "", "not JSON": "[CLS]\n[SEP]\n", "ends early": `{"version":"1.0"`, "more after it": "{}{}", "null": "null"} {
		t.Run(name, func(t *testing.T) {
			if _, err := Load([]byte(data)); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestPadID(t *testing.T) {
	for name, tt := range map[string]struct {
		patch map[string]json.RawMessage
		want  int64
	}{
		"of the padding":     {member("padding", `{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":8,"pad_id":4,"pad_type_id":0,"pad_token":"[MASK]"}`), 4},
		"of the vocabulary":  {member("added_tokens", `[]`), 0},
		"of an added token":  {map[string]json.RawMessage{"model": json.RawMessage(`{"type":"WordPiece","unk_token":"a","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"a":0}}`), "post_processor": json.RawMessage(`null`), "added_tokens": json.RawMessage(`[{"id":1,"content":"[PAD]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}]`)}, 1},
		"as it was trained":  {nil, 0},
		"of a padding, null": {member("padding", `null`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			tok, err := Load(patched(t, tt.patch))
			if err != nil || tok.PadID() != tt.want {
				t.Errorf("%v, %v; want %d", tok, err, tt.want)
			}
		})
	}
}

// FuzzLoad wants every file to be refused or to make a tokenizer that keeps
// to its own bounds.
func FuzzLoad(f *testing.F) {
	f.Add(read(f, "tokenizer.json"))
	f.Add([]byte(`{"version":"1.0","model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"","max_input_chars_per_word":0,"vocab":{"u":0}},"pre_tokenizer":{"type":"BertPreTokenizer"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Load(data)
		if err != nil {
			return
		}
		for _, text := range []string{"", "a u ##u [MASK]\u0301 手", strings.Repeat("watch", 300)} {
			for _, id := range tok.Encode(text, 32) {
				if id < 0 || id > tok.MaxID() {
					t.Fatalf("%q: id %d of at most %d", text, id, tok.MaxID())
				}
			}
		}
	})
}
