package wordpiece

import (
	"errors"
	"fmt"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of a file.
const (
	MaxFile     = 32 << 20 // bytes
	MaxTokens   = 1 << 20  // in the vocabulary
	MaxAdded    = 1024     // added tokens
	MaxPiece    = 1 << 10  // bytes of a token
	MaxWord     = 1 << 10  // max_input_chars_per_word
	maxSpecials = 64       // that are put around a text
)

// file is a tokenizer.json. What has several kinds is read by its type.
type file struct {
	Version       string         `json:"version"`
	Truncation    *truncation    `json:"truncation"`
	Padding       *padding       `json:"padding"`
	AddedTokens   []added        `json:"added_tokens"`
	Normalizer    jsontext.Value `json:"normalizer"`
	PreTokenizer  jsontext.Value `json:"pre_tokenizer"`
	PostProcessor jsontext.Value `json:"post_processor"`
	Decoder       jsontext.Value `json:"decoder"` // of no importance to encoding
	Model         jsontext.Value `json:"model"`
}

type truncation struct {
	Direction string `json:"direction"`
	MaxLength int    `json:"max_length"`
	Strategy  string `json:"strategy"`
	Stride    int    `json:"stride"` // how far what is cut off overlaps; it is not given out
}

// padding says how the library fills a batch up. Rows are as wide here as
// their batch needs, and the attention mask tells.
type padding struct {
	Strategy  jsontext.Value `json:"strategy"`
	Direction string         `json:"direction"`
	Multiple  *int           `json:"pad_to_multiple_of"`
	ID        int64          `json:"pad_id"`
	TypeID    int64          `json:"pad_type_id"`
	Token     string         `json:"pad_token"`
}

type added struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord *bool  `json:"single_word"`
	LStrip     *bool  `json:"lstrip"`
	RStrip     *bool  `json:"rstrip"`
	Normalized *bool  `json:"normalized"`
	Special    *bool  `json:"special"`
}

// Load reads a tokenizer.json.
func Load(json []byte) (*Tokenizer, error) {
	t, err := load(json)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return t, nil
}

func load(data []byte) (*Tokenizer, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%d bytes; at most %d are read", len(data), MaxFile)
	}
	var f file
	if err := decode(data, &f); err != nil {
		return nil, err
	}
	if f.Version != "1.0" {
		return nil, fmt.Errorf("version %q is not read; only 1.0 is", f.Version)
	}
	t := new(Tokenizer)
	if err := t.setModel(f.Model); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := t.setNormalizer(f.Normalizer); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	if err := only(f.PreTokenizer, "BertPreTokenizer", &struct {
		Type string `json:"type"`
	}{}); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	ids, err := t.setAdded(f.AddedTokens)
	if err != nil {
		return nil, fmt.Errorf("added_tokens: %w", err)
	}
	if err := t.setSpecials(f.PostProcessor, ids); err != nil {
		return nil, fmt.Errorf("post_processor: %w", err)
	}
	if err := t.setTruncation(f.Truncation); err != nil {
		return nil, fmt.Errorf("truncation: %w", err)
	}
	if err := t.setPadding(f.Padding, ids); err != nil {
		return nil, fmt.Errorf("padding: %w", err)
	}
	return t, nil
}

// decode refuses members that are not known, and names given twice.
func decode(data []byte, v any) error {
	err := jsonv2.Unmarshal(data, v, jsonv2.RejectUnknownMembers(true))
	if e, ok := errors.AsType[*jsonv2.SemanticError](err); ok && errors.Is(e.Err, jsonv2.ErrUnknownName) {
		return fmt.Errorf("%s is not known here", e.JSONPointer)
	}
	return err
}

// kind is the type that an object declares; empty for null and what is not
// there.
func kind(data jsontext.Value) (string, error) {
	var v *struct {
		Type string `json:"type"`
	}
	if len(data) == 0 {
		return "", nil
	}
	if err := jsonv2.Unmarshal(data, &v); err != nil {
		return "", err
	}
	switch {
	case v == nil:
		return "", nil
	case v.Type == "":
		return "", errors.New("it has no type")
	}
	return v.Type, nil
}

// only decodes what must be of the one type that is read here.
func only(data jsontext.Value, want string, v any) error {
	got, err := kind(data)
	switch {
	case err != nil:
		return err
	case got == "":
		return fmt.Errorf("there is none; want %s", want)
	case got != want:
		return fmt.Errorf("%s is not read; only %s is", got, want)
	}
	return decode(data, v)
}

func (t *Tokenizer) setModel(data jsontext.Value) error {
	var m struct {
		Type     string           `json:"type"`
		Unknown  *string          `json:"unk_token"`
		Prefix   *string          `json:"continuing_subword_prefix"`
		MaxChars *int             `json:"max_input_chars_per_word"`
		Vocab    map[string]int64 `json:"vocab"`
	}
	if err := only(data, "WordPiece", &m); err != nil {
		return err
	}
	switch {
	case m.Unknown == nil || m.Prefix == nil || m.MaxChars == nil:
		return errors.New("want unk_token, continuing_subword_prefix and max_input_chars_per_word")
	case len(m.Vocab) == 0 || len(m.Vocab) > MaxTokens:
		return fmt.Errorf("vocab has %d tokens; want 1 to %d", len(m.Vocab), MaxTokens)
	case *m.MaxChars < 0 || *m.MaxChars > MaxWord:
		return fmt.Errorf("max_input_chars_per_word is %d; want 0 to %d", *m.MaxChars, MaxWord)
	case len(*m.Prefix) > MaxPiece:
		return fmt.Errorf("continuing_subword_prefix is %d bytes long; at most %d are read", len(*m.Prefix), MaxPiece)
	}
	t.vocab, t.prefix, t.maxWord = m.Vocab, *m.Prefix, *m.MaxChars
	seen := make(map[int64]string, len(m.Vocab))
	for token, id := range m.Vocab {
		if len(token) > MaxPiece {
			return fmt.Errorf("vocab: %.40q... is %d bytes long; at most %d are read", token, len(token), MaxPiece)
		}
		if id < 0 || id >= 1<<31 {
			return fmt.Errorf("vocab: %q has the id %d; want 0 to %d", token, id, 1<<31-1)
		}
		if other, ok := seen[id]; ok {
			return fmt.Errorf("vocab: %q and %q have the same id %d", min(token, other), max(token, other), id)
		}
		seen[id] = token
		t.longestPiece, t.largest = max(t.longestPiece, len(token)), max(t.largest, id)
	}
	var ok bool
	if t.unknown, ok = m.Vocab[*m.Unknown]; !ok {
		return fmt.Errorf("vocab: the unk_token %.40q is not in it", *m.Unknown)
	}
	return nil
}

func (t *Tokenizer) setNormalizer(data jsontext.Value) error {
	if got, err := kind(data); err != nil || got == "" {
		return err
	}
	var n struct {
		Type         string `json:"type"`
		Clean        *bool  `json:"clean_text"`
		Chinese      *bool  `json:"handle_chinese_chars"`
		StripAccents *bool  `json:"strip_accents"` // null: as lowercase
		Lowercase    *bool  `json:"lowercase"`
	}
	if err := only(data, "BertNormalizer", &n); err != nil {
		return err
	}
	if n.Clean == nil || n.Chinese == nil || n.Lowercase == nil {
		return errors.New("want clean_text, handle_chinese_chars and lowercase")
	}
	if n.StripAccents == nil {
		n.StripAccents = n.Lowercase
	}
	t.normalizer = &normalizer{clean: *n.Clean, chinese: *n.Chinese, stripAccents: *n.StripAccents, lowercase: *n.Lowercase}
	return nil
}

// setAdded returns all tokens by id, those of the vocabulary too.
func (t *Tokenizer) setAdded(tokens []added) (map[int64]bool, error) {
	ids := make(map[int64]bool, len(t.vocab)+len(tokens))
	for _, id := range t.vocab {
		ids[id] = true
	}
	if len(tokens) > MaxAdded {
		return nil, fmt.Errorf("%d of them; at most %d are read", len(tokens), MaxAdded)
	}
	next := int64(len(t.vocab)) // as the library numbers what its vocabulary has not
	seen := map[string]bool{}
	for _, a := range tokens {
		if a.SingleWord == nil || a.LStrip == nil || a.RStrip == nil || a.Normalized == nil || a.Special == nil {
			return nil, fmt.Errorf("%.40q: want single_word, lstrip, rstrip, normalized and special", a.Content)
		}
		text, in := a.Content, &t.raw
		if *a.Normalized {
			text, in = t.normalizer.apply(text), &t.folded
		}
		id, ok := t.vocab[a.Content]
		if !ok {
			id = next
		}
		switch {
		case a.Content == "" || text == "":
			return nil, fmt.Errorf("the one of id %d is empty (normalised, where it says so)", a.ID)
		case len(text) > MaxPiece:
			return nil, fmt.Errorf("%.40q... is %d bytes long; at most %d are read", text, len(text), MaxPiece)
		case strings.TrimSpace(text) != text:
			return nil, fmt.Errorf("%q begins or ends with white space, which is not read", text)
		case *a.SingleWord:
			return nil, fmt.Errorf("%q: single_word is not read", a.Content)
		case seen[a.Content] || seen[text]:
			return nil, fmt.Errorf("%q is there twice", a.Content)
		case id != a.ID:
			return nil, fmt.Errorf("%q has the id %d, and the library would give it %d", a.Content, a.ID, id)
		case !ok && ids[id]:
			return nil, fmt.Errorf("%q has the id %d of another token", a.Content, id)
		}
		if !ok {
			ids[id] = true
			next, t.largest = next+1, max(t.largest, id)
		}
		seen[a.Content], seen[text] = true, true
		in.add(addedToken{text: text, id: id, lstrip: *a.LStrip, rstrip: *a.RStrip})
		if a.Content == "[PAD]" {
			t.padding = id
		}
	}
	return ids, nil
}

func (t *Tokenizer) setTruncation(tr *truncation) error {
	if tr == nil {
		return nil
	}
	switch {
	case tr.Direction != "Right" && tr.Direction != "Left":
		return fmt.Errorf("direction %.40q is not read; only Right and Left are", tr.Direction)
	case tr.Strategy != "LongestFirst" && tr.Strategy != "OnlyFirst": // the same for one text
		return fmt.Errorf("strategy %.40q is not read; only LongestFirst and OnlyFirst are", tr.Strategy)
	case tr.MaxLength < max(1, t.Specials()):
		return fmt.Errorf("max_length is %d; the special tokens alone are %d", tr.MaxLength, t.Specials())
	}
	t.maxTokens, t.left = tr.MaxLength, tr.Direction == "Left"
	return nil
}

func (t *Tokenizer) setPadding(p *padding, ids map[int64]bool) error {
	if p == nil {
		if id, ok := t.vocab["[PAD]"]; ok {
			t.padding = id
		}
		return nil
	}
	switch {
	case p.Direction != "Right":
		return fmt.Errorf("direction %.40q is not read; only Right is", p.Direction)
	case p.TypeID != 0:
		return fmt.Errorf("pad_type_id %d is not read; only 0 is", p.TypeID)
	case !ids[p.ID]:
		return fmt.Errorf("pad_id %d is no token", p.ID)
	}
	t.padding = p.ID
	return nil
}
