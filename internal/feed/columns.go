package feed

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Columns says which column of a CSV file (or member of an NDJSON object)
// holds what. An empty name means the field's own name, where the file has
// it: id, title, description, brand, image, category. Columns that are named
// attributes.NAME are attributes without being mapped.
type Columns struct {
	ID, Title, Description, Brand, Image, Category string

	Attributes map[string]string // attribute -> column
}

// field is one of the six; get and its order are shared by both formats.
type field int

const (
	fieldID field = iota
	fieldTitle
	fieldDescription
	fieldBrand
	fieldImage
	fieldCategory
	fields
)

var fieldNames = [fields]string{"id", "title", "description", "brand", "image", "category"}

func (c Columns) named() [fields]string {
	return [fields]string{c.ID, c.Title, c.Description, c.Brand, c.Image, c.Category}
}

// set gives a field its text.
func (i *Item) set(f field, text string) error {
	if err := validText(fieldNames[f], text); err != nil {
		return err
	}
	switch f {
	case fieldID:
		i.Product.ID = strings.TrimSpace(text)
	case fieldTitle:
		i.Product.Title = text
	case fieldDescription:
		i.Product.Description = text
	case fieldBrand:
		i.Product.Brand = text
	case fieldImage:
		return i.place(text)
	case fieldCategory:
		i.Category = strings.TrimSpace(text)
	}
	return nil
}

// setAttribute leaves out what is missing: an empty cell, or NA.
func (i *Item) setAttribute(name, text string) error {
	if err := validText("attribute "+name, text); err != nil {
		return err
	}
	if text = strings.TrimSpace(text); text == "" || text == "NA" {
		return nil
	}
	if i.Product.Attributes == nil {
		i.Product.Attributes = map[string]string{}
	}
	i.Product.Attributes[name] = text
	return nil
}

// attribute pairs a column's index with the attribute that it holds.
type attribute struct {
	name   string
	column int
}

// resolve finds the columns in a header.
func (c Columns) resolve(file string, header []string, opts Options) (at [fields]int, attrs []attribute, notes []string, err error) {
	find := func(column string) (int, error) {
		i := slices.Index(header, column)
		if i < 0 {
			i = slices.IndexFunc(header, func(h string) bool { return strings.EqualFold(h, column) })
		}
		if i < 0 {
			return -1, nil
		}
		if j := slices.Index(header[i+1:], header[i]); j >= 0 {
			return -1, fmt.Errorf("%s has two columns named %q (%d and %d); rename one", file, header[i], i+1, i+j+2)
		}
		return i, nil
	}
	used := make([]bool, len(header))
	for f, column := range c.named() {
		wanted := column
		if wanted == "" {
			wanted = fieldNames[f]
		}
		if column == "" && field(f) == fieldCategory && !opts.Category {
			at[f] = -1
			continue
		}
		if at[f], err = find(wanted); err != nil {
			return at, nil, nil, err
		}
		if at[f] < 0 && column != "" {
			return at, nil, nil, missing(file, fieldNames[f], column, header)
		}
		if at[f] >= 0 {
			used[at[f]] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Attributes)) {
		i, err := find(c.Attributes[name])
		if err == nil && i < 0 {
			err = missing(file, "attribute "+name, c.Attributes[name], header)
		}
		if err != nil {
			return at, nil, nil, err
		}
		used[i] = true
		attrs = append(attrs, attribute{name, i})
	}
	var ignored []string
	for i, h := range header {
		if name, ok := strings.CutPrefix(h, "attributes."); ok && name != "" && !used[i] {
			attrs = append(attrs, attribute{name, i})
		} else if !used[i] {
			ignored = append(ignored, h)
		}
	}
	switch {
	case at[fieldTitle] < 0 && at[fieldImage] < 0 && !opts.Images:
		return at, nil, nil, fmt.Errorf("%s has neither a column title nor a column image; say which holds the title, as in --title COLUMN. Its columns are: %s", file, list(header))
	case opts.Images && at[fieldID] < 0:
		return at, nil, nil, fmt.Errorf("%s has no column id, and --images finds pictures by id; say which it is, as in --id COLUMN. Its columns are: %s", file, list(header))
	case opts.Category && at[fieldCategory] < 0:
		return at, nil, nil, fmt.Errorf("%s has no column category; say which holds the true category, as in --category COLUMN. Its columns are: %s", file, list(header))
	}
	return at, attrs, ignoredNote("columns", ignored), nil
}

func ignoredNote(what string, ignored []string) []string {
	if len(ignored) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("ignored %s: %s", what, list(ignored))}
}

func missing(file, field, column string, header []string) error {
	return fmt.Errorf("%s has no column %q for the %s. Its columns are: %s", file, clip(column), field, list(header))
}

// list names columns, not more than a screenful.
func list(names []string) string {
	const most = 30
	shown := make([]string, 0, most)
	for _, n := range names[:min(len(names), most)] {
		if n == "" {
			n = `""`
		}
		shown = append(shown, strings.ToValidUTF8(clip(n), "?"))
	}
	s := strings.Join(shown, ", ")
	if more := len(names) - most; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}
