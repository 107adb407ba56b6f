package feed

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"aisle.dev/aisle/internal/product"
)

type ndjsonSource struct {
	name    string
	r       *bufio.Reader
	line    int
	buf     []byte
	members map[string]slot
	ignored map[string]bool
}

// slot is what a member of a line's object fills.
type slot struct {
	field field
	attr  string // an attribute's name, when not empty
}

// maxIgnored bounds how many names of unused members are remembered.
const maxIgnored = 64

func newNDJSON(buf *bufio.Reader, opts Options) (*ndjsonSource, error) {
	members := map[string]slot{}
	for f, column := range opts.Columns.named() {
		if column == "" {
			column = fieldNames[f]
			if field(f) == fieldCategory && !opts.Category {
				continue
			}
		}
		members[column] = slot{field: field(f)}
	}
	for name, column := range opts.Columns.Attributes {
		if _, taken := members[column]; taken {
			return nil, fmt.Errorf("the member %q cannot be both attribute %s and another field", column, name)
		}
		members[column] = slot{attr: name}
	}
	return &ndjsonSource{name: opts.Name, r: buf, members: members, ignored: map[string]bool{}}, nil
}

func (s *ndjsonSource) next() (Item, error) {
	for {
		text, err := s.readLine()
		if bad, ok := errors.AsType[*recordError](err); ok {
			return Item{}, bad
		}
		if err != nil {
			return Item{}, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		item, err := s.decode(text)
		item.Line = s.line
		if err != nil {
			return item, &recordError{s.line, err}
		}
		return item, nil
	}
}

// readLine returns the next line. One that is too long is skipped to its end.
func (s *ndjsonSource) readLine() ([]byte, error) {
	s.buf = s.buf[:0]
	if cap(s.buf) > 1<<20 {
		s.buf = nil // one large line must not be paid for until the end
	}
	long := false
	for {
		part, err := s.r.ReadSlice('\n')
		if !long {
			s.buf = append(s.buf, part...)
			if len(s.buf) > product.MaxBody {
				long, s.buf = true, s.buf[:1] // not empty: there is a line
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(s.buf) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read %s: %w", s.name, err)
		}
		s.line++
		if long {
			return nil, &recordError{s.line, fmt.Errorf("it is longer than %d MiB", product.MaxBody>>20)}
		}
		return s.buf, nil
	}
}

func (s *ndjsonSource) decode(text []byte) (Item, error) {
	var item Item
	if !utf8.Valid(text) {
		return item, validText("line", "\xff")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return item, errors.New("it is JSON, but not an object; write one product a line, as in {\"id\": \"1\", \"title\": \"...\"}")
		}
		return item, fmt.Errorf("it is not a JSON object: %w", err)
	}
	if object == nil {
		return item, errors.New("it is null, not a product")
	}
	for _, member := range slices.Sorted(maps.Keys(object)) {
		value := object[member]
		slot, mapped := s.members[member]
		var err error
		switch {
		case mapped && slot.attr != "":
			var t string
			if t, err = scalar(member, value); err == nil {
				err = item.setAttribute(slot.attr, t)
			}
		case mapped:
			var t string
			if t, err = scalar(member, value); err == nil {
				err = item.set(slot.field, t)
			}
		case member == "attributes":
			var attrs map[string]string
			if json.Unmarshal(value, &attrs) != nil {
				err = errors.New("attributes must be an object of strings")
			}
			for name, t := range attrs {
				err = errors.Join(err, item.setAttribute(name, t))
			}
		case member == "images":
			var images []product.Image
			if json.Unmarshal(value, &images) != nil {
				err = errors.New(`images must be an array of objects, each with "url" or "data" (base64)`)
			}
			item.Product.Images = append(item.Product.Images, images...)
		case len(s.ignored) < maxIgnored:
			s.ignored[strings.ToValidUTF8(member, "?")] = true
		}
		if err != nil {
			return item, err
		}
	}
	return item, nil
}

// scalar reads a string, a number or null as text: ids are often numbers.
func scalar(member string, value json.RawMessage) (string, error) {
	switch {
	case bytes.Equal(value, []byte("null")):
		return "", nil
	case value[0] == '"':
		var s string
		err := json.Unmarshal(value, &s)
		return s, err
	case value[0] == '-' || '0' <= value[0] && value[0] <= '9':
		return string(value), nil
	}
	return "", fmt.Errorf("%s must be a string or a number, not %s", clip(member), clip(string(value)))
}

func (s *ndjsonSource) notes() []string {
	return ignoredNote("members", slices.Sorted(maps.Keys(s.ignored)))
}
