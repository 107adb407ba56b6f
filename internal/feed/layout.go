package feed

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Layout is what a file turned out to be, and where its fields come from.
type Layout struct {
	Packed    string    `json:"packed,omitempty"` // gzip or zip
	Charset   string    `json:"charset"`
	Format    Format    `json:"format"`
	Delimiter string    `json:"delimiter,omitempty"` // of CSV and TSV
	Mapping   []Mapping `json:"mapping"`
}

// Mapping is where a field of the product comes from.
type Mapping struct {
	Field string `json:"field"` // as in id, title, images, attributes.NAME; category is the true one
	From  string `json:"from"`  // a column, a member or an element
}

// Layout says what the file is. What NDJSON and XML hold beyond it is in
// [Reader.Notes] at the file's end.
func (r *Reader) Layout() Layout {
	l := r.layout
	switch s := r.source.(type) {
	case *csvSource:
		l.Delimiter, l.Mapping = string(s.r.Comma), slices.Clone(s.mapping)
	case *ndjsonSource:
		for _, name := range slices.Sorted(maps.Keys(s.members)) {
			l.Mapping = append(l.Mapping, mapping(s.members[name], name))
		}
		l.Mapping = append(l.Mapping, Mapping{"attributes.*", "attributes"}, Mapping{"images", "images"})
	case *xmlSource:
		for _, name := range slices.Sorted(maps.Keys(s.slots)) {
			l.Mapping = append(l.Mapping, mapping(s.slots[name], name))
		}
		if s.title {
			l.Mapping = append(l.Mapping, Mapping{"title", "PRODUCT, where there is no PRODUCTNAME"})
		}
		l.Mapping = append(l.Mapping, Mapping{"attributes.*", param}, Mapping{"attributes.category", "CATEGORYTEXT"})
	}
	slices.SortStableFunc(l.Mapping, func(a, b Mapping) int {
		return cmp.Or(cmp.Compare(rank(a.Field), rank(b.Field)), strings.Compare(a.Field, b.Field))
	})
	return l
}

func mapping(s slot, from string) Mapping {
	if s.attr != "" {
		return Mapping{"attributes." + s.attr, from}
	}
	return fromColumn(s.field, from)
}

func fromColumn(f field, from string) Mapping {
	name := fieldNames[f]
	if f == fieldImage {
		name = "images"
	}
	return Mapping{name, from}
}

// rank is a field's place in a product.
func rank(name string) int {
	if i := slices.Index([]string{"id", "title", "description", "brand", "images", "category"}, name); i >= 0 {
		return i
	}
	return int(fields)
}
