package feed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"aisle.dev/aisle/internal/product"
)

// item reads the item that begins at s.at, and says how far it went.
func (s *xmlSource) item(item *Item) (pos int, err error) {
	s.open, s.text, s.product = s.open[:0], s.text[:0], ""
	taken := false // whether the text that comes is of use
	for {
		lt, err := s.find("<", pos)
		if err != nil {
			return s.stuck(pos, err, "")
		}
		if taken {
			if err := s.unescape(s.buf[s.at+pos : s.at+lt]); err != nil {
				return pos, err
			}
		}
		pos = lt
		for s.end-s.at-pos < len("<![CDATA[") && s.fill() {
		}
		b := s.buf[s.at+pos : s.end]
		switch {
		case bytes.HasPrefix(b, []byte("<![CDATA[")):
			from := pos + len("<![CDATA[")
			end, err := s.find("]]>", from)
			if err != nil {
				return s.stuck(pos, err, "]]>")
			}
			if taken {
				s.text = append(s.text, s.buf[s.at+from:s.at+end]...)
			}
			pos = end + 3
			continue
		case bytes.HasPrefix(b, []byte("<!--")):
			if pos, err = s.past(pos, 4, "-->"); err != nil {
				return s.stuck(pos, err, "-->")
			}
			continue
		case bytes.HasPrefix(b, []byte("<?")):
			if pos, err = s.past(pos, 2, "?>"); err != nil {
				return s.stuck(pos, err, "?>")
			}
			continue
		}
		end, err := s.tag(pos)
		if err != nil {
			return s.stuck(pos, err, "")
		}
		tag := s.buf[s.at+pos+1 : s.at+end]
		switch {
		case len(tag) == 0 || tag[0] == '!':
			return pos, errors.New("a < that begins no element; write &lt; for it")
		case tag[0] == '/':
			name := local(tag[1:])
			last := s.open[len(s.open)-1]
			if was := s.buf[s.at+last.from : s.at+last.to]; !bytes.Equal(was, name) {
				return pos, fmt.Errorf("</%s> ends <%s>; each element must be closed", text(name), text(was))
			}
			if err := s.close(item, name); err != nil {
				return pos, err
			}
			s.open = s.open[:len(s.open)-1]
			pos = end + 1
			if len(s.open) == 0 {
				s.finish(item)
				return pos, nil
			}
			taken = false
		default:
			name := local(tag)
			from := pos + 1 + cap(tag) - cap(name)
			if len(name) == 0 {
				return pos, errors.New("a < that begins no element; write &lt; for it")
			}
			if len(s.open) > 0 && string(name) == shopItem {
				return pos, fmt.Errorf("the next %s begins before it is closed", shopItem)
			}
			if len(s.open) == maxNesting {
				return pos, fmt.Errorf("elements lie more than %d deep in each other", maxNesting)
			}
			s.open = append(s.open, span{from, from + len(name)})
			taken = s.opened(name)
			pos = end + 1
			if tag[len(tag)-1] == '/' {
				if err := s.close(item, name); err != nil {
					return pos, err
				}
				s.open = s.open[:len(s.open)-1]
				taken = false
				if len(s.open) == 0 {
					return pos, nil
				}
			}
		}
	}
}

// past finds the end of what begins at pos with a mark of n bytes.
func (s *xmlSource) past(pos, n int, mark string) (int, error) {
	end, err := s.find(mark, pos+n)
	if err != nil {
		return pos, err
	}
	return end + len(mark), nil
}

// stuck is where an item has no end within what may be held, or in the file. What
// has been read of it is passed, but for the end of a mark that may be cut off.
func (s *xmlSource) stuck(pos int, err error, mark string) (int, error) {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return pos, err
	}
	return max(pos, min(s.end-s.at, MaxRecord)-len(mark)), &longError{mark}
}

// opened begins an element of the item and says whether its text is of use.
func (s *xmlSource) opened(name []byte) bool {
	switch depth := len(s.open) - 1; {
	case depth == 1:
		s.text = s.text[:0]
		if string(name) == param {
			s.name0, s.val = s.name0[:0], s.val[:0]
			return false
		}
		_, ok := s.slots[string(name)]
		if !ok && string(name) != "PRODUCT" && len(s.ignored) < maxIgnored && !s.ignored[string(name)] {
			s.ignored[text(name)] = true
		}
		return ok || string(name) == "PRODUCT"
	case depth == 2 && string(s.name1()) == param:
		s.text = s.text[:0]
		return string(name) == paramName || string(name) == paramVal
	}
	return false
}

// name1 is the name of the item's child that is open.
func (s *xmlSource) name1() []byte {
	return s.buf[s.at+s.open[1].from : s.at+s.open[1].to]
}

// close ends the element that was opened last.
func (s *xmlSource) close(item *Item, name []byte) error {
	switch depth := len(s.open) - 1; {
	case depth == 2 && string(s.name1()) == param:
		switch string(name) {
		case paramName:
			s.name0 = append(s.name0[:0], bytes.TrimSpace(s.text)...)
		case paramVal:
			s.val = append(s.val[:0], bytes.TrimSpace(s.text)...)
		}
	case depth != 1:
	case string(name) == param:
		return s.parameter(item)
	default:
		of, ok := s.slots[string(name)]
		value := string(bytes.TrimSpace(s.text))
		switch {
		case !ok:
			if string(name) == "PRODUCT" {
				s.product = value
				return validText("PRODUCT", value)
			}
		case value == "":
		case of.attr != "":
			return item.setAttribute(of.attr, value)
		case of.field == fieldImage && len(item.Product.Images) == product.MaxImages:
		case of.field == fieldDescription:
			return item.set(of.field, plain(value))
		default:
			return item.set(of.field, value)
		}
	}
	return nil
}

// parameter takes a PARAM: of several with one name, all values.
func (s *xmlSource) parameter(item *Item) error {
	if len(s.name0) == 0 || len(s.val) == 0 {
		return nil
	}
	name, value := string(s.name0), string(s.val)
	if err := validText("name of a parameter", name); err != nil {
		return err
	}
	before, ok := item.Product.Attributes[name]
	switch {
	case ok:
		value = before + ", " + value
	case len(item.Product.Attributes) >= product.MaxAttributes-attributesKept:
		s.cut++
		return nil
	}
	return item.setAttribute(name, value)
}

// attributesKept are for what is no PARAM: ean, isbn, productno, category.
const attributesKept = 4

// unescape appends XML text to s.text, its references to characters resolved.
func (s *xmlSource) unescape(b []byte) error {
	for {
		i := bytes.IndexByte(b, '&')
		if i < 0 {
			s.text = append(s.text, b...)
			return nil
		}
		s.text = append(s.text, b[:i]...)
		b = b[i+1:]
		end := bytes.IndexByte(b[:min(len(b), 12)], ';')
		if end < 0 {
			return errors.New("an & that is no reference; write &amp; for it")
		}
		ref := string(b[:end])
		b = b[end+1:]
		switch ref {
		case "amp":
			s.text = append(s.text, '&')
		case "lt":
			s.text = append(s.text, '<')
		case "gt":
			s.text = append(s.text, '>')
		case "quot":
			s.text = append(s.text, '"')
		case "apos":
			s.text = append(s.text, '\'')
		default:
			r, ok := character(ref)
			if !ok {
				return fmt.Errorf("&%s; is not known in XML; write the character itself, or use CDATA", text([]byte(ref)))
			}
			s.text = utf8.AppendRune(s.text, r)
		}
	}
}

// character reads #N or #xN, a character that XML permits.
func character(ref string) (rune, bool) {
	if len(ref) < 2 || ref[0] != '#' {
		return 0, false
	}
	digits, base := ref[1:], 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(digits, base, 21)
	r := rune(n)
	return r, err == nil && utf8.ValidRune(r) && (r >= 0x20 || r == '\t' || r == '\n' || r == '\r') && r != 0xfffe && r != 0xffff
}

// text is a name for a message.
func text(name []byte) string {
	return string(bytes.ToValidUTF8([]byte(clip(string(name))), []byte("?")))
}
