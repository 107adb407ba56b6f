// Package contrast says how two ways to answer the same products differ: how
// often they agree, which is right more often where that is known, and which
// products move from one category to another.
//
// It is pure. Products that only one of the two was asked about are counted,
// and are in no other figure.
package contrast

import (
	"cmp"
	"slices"

	"aisle.dev/aisle/internal/score"
)

// Said is what one of the two says of a product.
type Said struct {
	ID         string
	Truth      string // empty: not known
	Label      string // empty: no answer
	Confidence float64
}

// Report is how A and B differ.
type Report struct {
	Products          int            `json:"products"` // that both were asked about
	OnlyInA           int            `json:"onlyInA"`
	OnlyInB           int            `json:"onlyInB"`
	Agreement         float64        `json:"agreement"` // share of the products that both say the same of
	AgreementInterval score.Interval `json:"agreementInterval"`
	Labelled          *Labelled      `json:"labelled,omitempty"` // nil: of no product is known what is right
	Pairs             []Pair         `json:"pairs"`              // the most frequent first
	Moves             []Move         `json:"moves"`              // in A's order

	// What is drawn: A and B over the products of Labelled, and Same over all:
	// A's answers, each right where B says the same.
	A, B, Same []score.Answer `json:"-"`
}

// Labelled is over the products whose category is known.
type Labelled struct {
	N                 int            `json:"n"`
	AccuracyA         float64        `json:"accuracyA"`
	AccuracyAInterval score.Interval `json:"accuracyAInterval"`
	AccuracyB         float64        `json:"accuracyB"`
	AccuracyBInterval score.Interval `json:"accuracyBInterval"`
	Paired            score.Paired   `json:"paired"`
}

// Pair is one way in which products move.
type Pair struct {
	From   string `json:"from"` // empty: no answer
	To     string `json:"to"`
	Count  int    `json:"count"`
	Gained int    `json:"gained"` // B is right
	Lost   int    `json:"lost"`   // A was right
}

// Move is a product that the two say different things of.
type Move struct {
	ID             string  `json:"id"`
	From           string  `json:"from"`
	FromConfidence float64 `json:"fromConfidence"`
	To             string  `json:"to"`
	ToConfidence   float64 `json:"toConfidence"`
	Truth          string  `json:"truth,omitempty"`
}

// Compare compares two lists. Of an id that is twice in one the last counts:
// an answer that came again.
func Compare(a, b []Said) Report {
	other := make(map[string]Said, len(b))
	for _, s := range b {
		other[s.ID] = s
	}
	last := make(map[string]int, len(a))
	for i, s := range a {
		last[s.ID] = i
	}
	r := Report{OnlyInB: len(other), Pairs: []Pair{}, Moves: []Move{}}
	classes := map[string]int32{"": 0} // no answer is no category
	class := func(name string) int32 {
		c, ok := classes[name]
		if !ok {
			c = int32(len(classes))
			classes[name] = c
		}
		return c
	}
	pairs := map[[2]string]*Pair{}
	same := 0
	for i, x := range a {
		if last[x.ID] != i {
			continue
		}
		y, ok := other[x.ID]
		if !ok {
			r.OnlyInA++
			continue
		}
		r.OnlyInB--
		r.Products++
		truth := cmp.Or(x.Truth, y.Truth)
		if truth != "" {
			r.A = append(r.A, score.Answer{Truth: class(truth), Said: class(x.Label), Confidence: x.Confidence})
			r.B = append(r.B, score.Answer{Truth: class(truth), Said: class(y.Label), Confidence: y.Confidence})
		}
		r.Same = append(r.Same, score.Answer{Truth: class(y.Label), Said: class(x.Label), Confidence: x.Confidence})
		if x.Label == y.Label {
			same++
			continue
		}
		r.Moves = append(r.Moves, Move{x.ID, x.Label, x.Confidence, y.Label, y.Confidence, truth})
		key := [2]string{x.Label, y.Label}
		if pairs[key] == nil {
			pairs[key] = &Pair{From: x.Label, To: y.Label}
		}
		p := pairs[key]
		p.Count++
		switch {
		case truth == "":
		case truth == y.Label:
			p.Gained++
		case truth == x.Label:
			p.Lost++
		}
	}
	r.Agreement, r.AgreementInterval = float64(same)/float64(max(1, r.Products)), score.Wilson(same, r.Products)
	for _, p := range pairs {
		r.Pairs = append(r.Pairs, *p)
	}
	slices.SortFunc(r.Pairs, func(x, y Pair) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.From, y.From), cmp.Compare(x.To, y.To))
	})
	if n := len(r.A); n > 0 {
		l := &Labelled{N: n, AccuracyA: score.Accuracy(r.A), AccuracyB: score.Accuracy(r.B), Paired: score.Pair(r.A, r.B)}
		l.AccuracyAInterval = score.Wilson(int(l.AccuracyA*float64(n)+0.5), n)
		l.AccuracyBInterval = score.Wilson(int(l.AccuracyB*float64(n)+0.5), n)
		r.Labelled = l
	}
	return r
}
