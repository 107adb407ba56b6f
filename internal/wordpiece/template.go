package wordpiece

import (
	"errors"
	"fmt"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// piece is one place in a template: a special token, or the text.
type piece struct {
	SpecialToken *place `json:"SpecialToken"`
	Sequence     *place `json:"Sequence"`
}

type place struct {
	ID     string `json:"id"`
	TypeID int64  `json:"type_id"`
}

// setSpecials reads which tokens are put around a single text.
func (t *Tokenizer) setSpecials(data jsontext.Value, ids map[int64]bool) error {
	name, err := kind(data)
	if err != nil {
		return err
	}
	switch name {
	case "":
	case "TemplateProcessing":
		err = t.template(data)
	case "BertProcessing":
		err = t.bert(data)
	default:
		return fmt.Errorf("%s is not read; only TemplateProcessing and BertProcessing are", name)
	}
	if err != nil {
		return err
	}
	if n := t.Specials(); n > maxSpecials {
		return fmt.Errorf("%d special tokens around a text; at most %d are read", n, maxSpecials)
	}
	for _, side := range [][]int64{t.before, t.after} {
		for _, id := range side {
			if !ids[id] {
				return fmt.Errorf("a special token has the id %d, which no token has", id)
			}
		}
	}
	return nil
}

func (t *Tokenizer) template(data jsontext.Value) error {
	var p struct {
		Type   string         `json:"type"`
		Single []piece        `json:"single"`
		Pair   jsontext.Value `json:"pair"` // there are no pairs here
		Tokens map[string]struct {
			ID     string   `json:"id"`
			IDs    []int64  `json:"ids"`
			Tokens []string `json:"tokens"`
		} `json:"special_tokens"`
	}
	if err := decode(data, &p); err != nil {
		return err
	}
	texts := 0
	for _, piece := range p.Single {
		at := piece.SpecialToken
		if at == nil {
			at = piece.Sequence
		}
		switch {
		case at == nil || piece.SpecialToken != nil && piece.Sequence != nil:
			return errors.New("single: want a SpecialToken or a Sequence in each place")
		case at.TypeID != 0:
			return fmt.Errorf("single: the type_id %d is not read; only 0 is", at.TypeID)
		case piece.Sequence != nil:
			if at.ID != "A" {
				return fmt.Errorf("single: the sequence %.40q is not read; only A is", at.ID)
			}
			texts++
			continue
		}
		special, ok := p.Tokens[at.ID]
		if !ok {
			return fmt.Errorf("single: %.40q is not among the special_tokens", at.ID)
		}
		side := &t.before
		if texts > 0 {
			side = &t.after
		}
		*side = append(*side, special.IDs...)
		if t.Specials() > maxSpecials { // before a short name of many ids, often repeated, has become large
			return nil
		}
	}
	if texts != 1 {
		return fmt.Errorf("single: the text is in it %d times; want once", texts)
	}
	return nil
}

// bert reads the older form of "[CLS] text [SEP]".
func (t *Tokenizer) bert(data jsontext.Value) error {
	var p struct {
		Type string            `json:"type"`
		SEP  [2]jsontext.Value `json:"sep"` // the token and its id
		CLS  [2]jsontext.Value `json:"cls"`
	}
	if err := decode(data, &p); err != nil {
		return err
	}
	for _, s := range []struct {
		pair [2]jsontext.Value
		side *[]int64
	}{{p.CLS, &t.before}, {p.SEP, &t.after}} {
		var id int64
		if len(s.pair[1]) == 0 {
			return errors.New("want sep and cls, a token and its id each")
		}
		if err := jsonv2.Unmarshal(s.pair[1], &id); err != nil {
			return fmt.Errorf("the id of a special token: %w", err)
		}
		*s.side = append(*s.side, id)
	}
	return nil
}
