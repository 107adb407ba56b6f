package product

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"aisle.dev/aisle/internal/problem"
)

// IsMany reports whether JSON text is that of several products: an array.
func IsMany(data []byte) bool {
	for _, c := range data {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c == '['
		}
	}
	return false
}

// Split gives the text of each element of a JSON array, of which there may be
// at most most, in data's memory. What an element says is not looked at, but
// for its being JSON: each is to be decoded by itself, so that one that is
// refused says nothing of the others.
func Split(data []byte, most int) ([][]byte, error) {
	if len(data) > MaxBody {
		return nil, problem.New(http.StatusRequestEntityTooLarge, "the products are larger than %d bytes", MaxBody)
	}
	// What makes one product bad must not make all of them bad.
	d := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '[' {
		return nil, problem.New(http.StatusBadRequest, "the products are not a JSON array")
	}
	var all [][]byte
	for d.PeekKind() != ']' {
		v, err := d.ReadValue()
		if err != nil {
			return nil, broken(err)
		}
		if len(all) == most {
			return nil, problem.New(http.StatusRequestEntityTooLarge, "there are more than %d products; send them in several requests", most)
		}
		end := int(d.InputOffset())
		all = append(all, data[end-len(v):end])
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, broken(err)
	}
	if rest := bytes.TrimLeft(data[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, problem.New(http.StatusBadRequest, "there is text after the closing bracket of the products")
	}
	return all, nil
}

func broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return problem.New(http.StatusBadRequest, "the products are not valid JSON: it ends too early")
	}
	_, text, _ := strings.Cut(err.Error(), ": ")
	return problem.New(http.StatusBadRequest, "the products are not valid JSON: %.200s", text)
}
