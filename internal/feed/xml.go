package feed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"aisle.dev/aisle/internal/product"
)

// Heureka's feed (https://sluzby.heureka.cz/napoveda/xml-feed/):
//
//	<SHOP><SHOPITEM>
//	  <ITEM_ID>…</ITEM_ID> <PRODUCTNAME>…</PRODUCTNAME> <IMGURL>…</IMGURL>
//	  <PARAM><PARAM_NAME>…</PARAM_NAME><VAL>…</VAL></PARAM>
//	</SHOPITEM></SHOP>
const (
	shopItem  = "SHOPITEM"
	param     = "PARAM"
	paramName = "PARAM_NAME"
	paramVal  = "VAL"

	maxNesting = 32 // elements within each other in an item
	maxTag     = 64 << 10
	window     = 64 << 10 // what is read at a time
)

// elements are what is taken of an item, where nothing else is mapped.
var elements = map[string]slot{
	"ITEM_ID": {field: fieldID}, "PRODUCTNAME": {field: fieldTitle}, "DESCRIPTION": {field: fieldDescription},
	"MANUFACTURER": {field: fieldBrand}, "IMGURL": {field: fieldImage}, "IMGURL_ALTERNATIVE": {field: fieldImage},
	"CATEGORYTEXT": {field: fieldCategory},
	"EAN":          {attr: "ean"}, "ISBN": {attr: "isbn"}, "PRODUCTNO": {attr: "productno"},
}

// xmlSource reads SHOPITEMs one after the other. It is a tokenizer of its own:
// encoding/xml reads a quarter as fast (go run ./hack/bench -only feed). It holds
// one item. What is outside of items is passed over. It expands no entities but
// XML's five and characters by number, and a document type with declarations of
// its own ends the file.
type xmlSource struct {
	name    string
	in      io.Reader
	buf     []byte // buf[at:end] has been read and not been passed
	at, end int
	line    int // of buf[at]
	failed  error
	eof     bool

	slots   map[string]slot
	title   bool   // PRODUCTNAME is the title: PRODUCT is where there is none
	root    string // the file's first element
	items   int
	closed  bool // the root's end was seen
	ended   bool
	ignored map[string]bool
	cut     int // parameters that were more than a product may have

	open       []span // the open elements of the item, names by offset from at
	text       []byte // of the element that is read
	name0, val []byte // of the PARAM that is read
	product    string // PRODUCT's text
}

// span is a part of buf, from at on.
type span struct{ from, to int }

func newXML(in io.Reader, opts Options) (*xmlSource, error) {
	s := &xmlSource{name: opts.Name, in: in, buf: make([]byte, window), line: 1, slots: maps.Clone(elements), title: opts.Columns.Title == "", ignored: map[string]bool{}}
	for f, element := range opts.Columns.named() {
		if element == "" {
			continue
		}
		maps.DeleteFunc(s.slots, func(_ string, o slot) bool { return o.attr == "" && o.field == field(f) })
		s.slots[element] = slot{field: field(f)}
	}
	for name, element := range opts.Columns.Attributes {
		if o, taken := s.slots[element]; taken && o.attr == "" {
			return nil, fmt.Errorf("the element %q cannot be both attribute %s and another field", element, name)
		}
		s.slots[element] = slot{attr: name}
	}
	return s, nil
}

// fill reads more behind what is there. False: there is no more.
func (s *xmlSource) fill() bool {
	if s.eof || s.failed != nil {
		return false
	}
	if s.at > 0 {
		s.end = copy(s.buf, s.buf[s.at:s.end])
		s.at = 0
	}
	if s.end == len(s.buf) {
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	for range 100 {
		n, err := s.in.Read(s.buf[s.end:])
		s.end += n
		if errors.Is(err, io.EOF) {
			s.eof = true
		} else if err != nil {
			s.failed = fmt.Errorf("read %s: %w", s.name, err)
		}
		if n > 0 || err != nil {
			return n > 0
		}
	}
	s.failed = fmt.Errorf("read %s: %w", s.name, io.ErrNoProgress)
	return false
}

// pass moves on by n bytes.
func (s *xmlSource) pass(n int) {
	s.line += bytes.Count(s.buf[s.at:s.at+n], []byte{'\n'})
	s.at += n
}

// passTo moves on to behind the next mark, however far it is. False: there is
// none.
func (s *xmlSource) passTo(mark string) bool {
	for {
		if i := bytes.Index(s.buf[s.at:s.end], []byte(mark)); i >= 0 {
			s.pass(i + len(mark))
			return true
		}
		s.pass(max(0, s.end-s.at-len(mark)+1))
		if !s.fill() {
			s.pass(s.end - s.at)
			return false
		}
	}
}

// errItem is what is wrong with an item; errLong, that it is too long.
var errLong = errors.New("too long")

// find gives where mark is, in offsets from at, at or after pos; errLong where an
// item would be too long by then.
func (s *xmlSource) find(mark string, pos int) (int, error) {
	from := pos
	for {
		b := s.buf[s.at:s.end]
		i := bytes.Index(b[from:], []byte(mark))
		switch {
		case i >= 0 && from+i <= MaxRecord:
			return from + i, nil
		case i >= 0 || len(b) > MaxRecord:
			return 0, errLong
		}
		from = max(pos, len(b)-len(mark)+1)
		if !s.fill() {
			return 0, io.ErrUnexpectedEOF
		}
	}
}

// tag finds the end of the tag that begins at pos: a > that is not in quotes.
func (s *xmlSource) tag(pos int) (end int, err error) {
	from := pos
	for {
		end, err = s.find(">", from)
		if err != nil || end-pos > maxTag {
			return end, cmpErr(err, errLong)
		}
		if !quoted(s.buf[s.at+pos : s.at+end]) {
			return end, nil
		}
		from = end + 1
	}
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// seek moves on to the next item's <. io.EOF: there is none.
func (s *xmlSource) seek() error {
	for {
		if !s.passTo("<") {
			return s.over()
		}
		s.at-- // of the same line
		for s.end-s.at < len("<![CDATA[") && s.fill() {
		}
		b := s.buf[s.at:s.end]
		mark := ""
		switch {
		case bytes.HasPrefix(b, []byte("<!--")):
			mark = "-->"
		case bytes.HasPrefix(b, []byte("<![CDATA[")):
			mark = "]]>"
		case bytes.HasPrefix(b, []byte("<?")):
			mark = "?>"
		}
		if mark != "" {
			s.pass(2)
			if !s.passTo(mark) {
				return s.over()
			}
			continue
		}
		end, err := s.tag(0)
		switch {
		case errors.Is(err, errLong):
			return fmt.Errorf("%s: the tag on line %d has no end within %d KiB", s.name, s.line, maxTag>>10)
		case err != nil:
			s.pass(s.end - s.at)
			return s.over()
		}
		b = s.buf[s.at : s.at+end]
		switch {
		case bytes.HasPrefix(b, []byte("<!")):
			if bytes.IndexByte(b, '[') >= 0 {
				return fmt.Errorf("%s: the document type on line %d declares entities or elements of its own, which are not read; take it out", s.name, s.line)
			}
		case bytes.HasPrefix(b, []byte("</")):
			if string(local(b[2:])) == s.root {
				s.closed = true
			}
		default:
			name := local(b[1:])
			if string(name) == shopItem {
				return nil
			}
			if s.root == "" {
				s.root = string(name)
			}
		}
		s.pass(end + 1)
	}
}

// over is what the end of the file says.
func (s *xmlSource) over() error {
	switch {
	case s.failed != nil:
		return s.failed
	case s.items == 0 && s.root == "":
		return fmt.Errorf("%s has no %s in it, and no XML element at all", s.name, shopItem)
	case s.items == 0:
		return fmt.Errorf("%s has no %s in it; its first element is %q: is it a feed as Heureka has them?", s.name, shopItem, clip(s.root))
	case !s.closed && s.root != "" && !s.ended:
		s.ended = true
		return &recordError{s.line, fmt.Errorf("the file ends before </%s>: is it whole?", clip(s.root))}
	}
	return io.EOF
}

func (s *xmlSource) next() (Item, error) {
	if cap(s.buf) > 1<<20 && s.end-s.at < window {
		s.buf = append(make([]byte, 0, 2*window), s.buf[s.at:s.end]...)[:2*window] // one large item must not be paid for until the end
		s.at, s.end = 0, s.end-s.at
	}
	if err := s.seek(); err != nil {
		return Item{}, err
	}
	s.items++
	item := Item{Line: s.line}
	pos, err := s.item(&item)
	at := item.Line
	if err != nil {
		at = s.line + bytes.Count(s.buf[s.at:s.at+pos], []byte{'\n'})
	}
	s.pass(pos)
	if err == nil {
		return item, nil
	}
	switch long := (*longError)(nil); {
	case s.failed != nil:
		return Item{}, s.failed
	case errors.As(err, &long):
		if long.mark != "" {
			s.passTo(long.mark)
		}
		err = fmt.Errorf("the %s is longer than %d MiB", shopItem, MaxRecord>>20)
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.pass(s.end - s.at)
		s.ended = true
		err = fmt.Errorf("the file ends within the %s that begins here: is it whole?", shopItem)
	case at != item.Line:
		err = fmt.Errorf("in the %s that begins here, on line %d: %w", shopItem, at, err)
	}
	return item, &recordError{item.Line, err}
}

// longError is an item that is too long; mark ends what it is cut off in.
type longError struct{ mark string }

func (*longError) Error() string { return errLong.Error() }

func (s *xmlSource) notes() []string {
	notes := ignoredNote("elements", slices.Sorted(maps.Keys(s.ignored)))
	if s.cut > 0 {
		notes = append(notes, fmt.Sprintf("%d parameters left out: a product has at most %d attributes", s.cut, product.MaxAttributes))
	}
	return notes
}

// finish puts an item's last pieces together.
func (s *xmlSource) finish(item *Item) {
	if s.title && item.Product.Title == "" {
		item.Product.Title = s.product
	}
	if path := item.Category; path != "" {
		// What the shop calls it, whole; the category itself is the path's end.
		_ = item.setAttribute("category", path) // it has been set before: it is text
		item.Category = strings.TrimSpace(path[strings.LastIndexByte(path, '|')+1:])
	}
}
