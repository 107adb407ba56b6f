// Package labelled keeps what the legs of a composition said of products whose
// categories are known: in a file, one answer a line, and as what internal/fit
// fits reducers to.
//
// Everything is bounded: a line, and what a fit holds in memory. It sends and
// prints nothing.
package labelled

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/fit"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/reduce"
	"aisle.dev/aisle/internal/words"
)

// maxLine bounds a line, maxValues the probabilities that a fit holds: 400 MB.
const (
	maxLine   = 4 << 20
	maxValues = 50_000_000
)

// Answer is one product's.
type Answer struct {
	ID       string `json:"id,omitempty"`
	View     string `json:"view,omitempty"` // how the product was seen: views are fitted to alike
	Group    string `json:"group"`          // products that are alike, and so no evidence of each other
	Category string `json:"category"`       // the true one
	// Legs has what each leg predicts that answered and counts.
	Legs map[string][]prediction.Prediction `json:"legs"`
}

// New is the answer of a composer to a product. Its group is the one that
// groups names, by the product's id; else all products of its title.
func New(item feed.Item, view string, r category.Result, groups map[string]string) Answer {
	a := Answer{ID: item.Product.ID, View: view, Category: item.Category, Legs: map[string][]prediction.Prediction{}}
	var named bool
	if a.Group, named = groups[item.Product.ID]; !named {
		a.Group = "title " + words.Fold(item.Product.Title)
	}
	for _, l := range r.Legs {
		if l.Outcome == category.Answered && !l.Shadow {
			a.Legs[l.Name] = l.Predictions
		}
	}
	return a
}

// Read reads answers, one in JSON a line.
func Read(r io.Reader) ([]Answer, error) {
	var out []Answer
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	values := 0
	for n := 1; lines.Scan(); n++ {
		if len(strings.TrimSpace(lines.Text())) == 0 {
			continue
		}
		var a Answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return nil, fmt.Errorf("line %d: %w; want what --save wrote", n, err)
		}
		if a.Category == "" {
			return nil, fmt.Errorf(`line %d: it has no "category": the true one is needed`, n)
		}
		for _, p := range a.Legs {
			values += len(p)
		}
		if values > maxValues {
			return nil, fmt.Errorf("line %d: more than %d probabilities; fit to fewer products", n, maxValues)
		}
		out = append(out, a)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the answers: %w", err)
	}
	return out, nil
}

// Groups reads a CSV file with the columns id and component: which products
// are alike. Other columns are left out.
func Groups(r io.Reader) (map[string]string, error) {
	in := csv.NewReader(r)
	header, err := in.Read()
	id, component := slices.Index(header, "id"), slices.Index(header, "component")
	if err != nil || id < 0 || component < 0 {
		return nil, errors.New("want a CSV file with the columns id and component")
	}
	out := map[string]string{}
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(out) == maxValues/100 {
			return nil, fmt.Errorf("more than %d products", maxValues/100)
		}
		out[strings.Clone(record[id])] = strings.Clone(record[component])
	}
}

// Data is what a fit needs of the answers: each view of them, over all labels
// that a leg knows, and the legs' names. Unknown counts products whose
// category no leg knows; nothing can be learnt from them. prior may be nil.
func Data(answers []Answer, prior map[string]float64) (d fit.Data, legs []string, unknown int, err error) {
	labels, names := map[string]bool{}, map[string]bool{}
	for _, a := range answers {
		for name, predictions := range a.Legs {
			names[name] = true
			for _, p := range predictions {
				labels[p.Label] = true
			}
		}
	}
	legs = slices.Sorted(maps.Keys(names))
	d.Labels = slices.Sorted(maps.Keys(labels))
	if n := len(answers) * len(legs) * len(d.Labels); n > maxValues {
		return d, legs, 0, fmt.Errorf("%d answers of %d legs over %d labels are more than %d probabilities: use --limit", len(answers), len(legs), len(d.Labels), maxValues)
	}
	if len(legs) < 2 {
		return d, legs, 0, fmt.Errorf("%d legs answered: there is nothing to fit with less than two", len(legs))
	}
	index := make(map[string]int, len(d.Labels))
	for y, label := range d.Labels {
		index[label] = y
	}
	if prior != nil {
		for _, label := range d.Labels {
			share, ok := prior[label]
			if !ok {
				share = 1 / float64(len(prior))
			}
			d.Prior = append(d.Prior, share)
		}
	}
	views, groups := map[string]*fit.View{}, map[string]int{}
	for _, a := range answers {
		truth, known := index[a.Category]
		if !known {
			unknown++
			continue
		}
		v := views[a.View]
		if v == nil {
			v = new(fit.View)
			views[a.View] = v
		}
		if _, ok := groups[a.Group]; !ok {
			groups[a.Group] = len(groups)
		}
		said := make([][]float64, len(legs))
		for i, name := range legs {
			if p := a.Legs[name]; len(p) > 0 {
				said[i] = make([]float64, len(d.Labels))
				reduce.Spread(said[i], p, index)
			}
		}
		v.Legs, v.Truth, v.Group = append(v.Legs, said), append(v.Truth, truth), append(v.Group, groups[a.Group])
	}
	for _, name := range slices.Sorted(maps.Keys(views)) {
		v := views[name]
		v.Weight = fit.Shares(v.Group)
		d.Views = append(d.Views, *v)
	}
	return d, legs, unknown, nil
}
