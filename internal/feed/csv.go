package feed

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

type csvSource struct {
	name   string
	r      *csv.Reader
	bound  *bounded
	header int // fields in it
	line   int // where the last good record begins
	at     [fields]int
	attrs  []attribute

	mapping []Mapping
}

func newCSV(buf *bufio.Reader, head []byte, opts Options, format Format) (*csvSource, []string, error) {
	delimiter := opts.Delimiter
	if format == TSV {
		delimiter = '\t'
	}
	if delimiter == 0 {
		delimiter = sniff(bytes.TrimLeft(head, "\r\n"))
	}
	bound := &bounded{r: buf, left: MaxRecord}
	r := csv.NewReader(bound)
	r.Comma = delimiter
	r.FieldsPerRecord = -1 // checked here, with a better sentence
	r.ReuseRecord = true
	r.LazyQuotes = format == TSV
	record, err := r.Read()
	switch {
	case errors.Is(err, errTooLong):
		return nil, nil, fmt.Errorf("%s is not CSV: its first line is longer than %d MiB", opts.Name, MaxRecord>>20)
	case errors.Is(err, io.EOF):
		return nil, nil, fmt.Errorf("%s is empty; it should hold a header line and products", opts.Name)
	case err != nil:
		return nil, nil, fmt.Errorf("%s is not CSV: %s", opts.Name, explainCSV(err))
	}
	header := make([]string, len(record))
	for i, h := range record {
		if !utf8.ValidString(h) || strings.ContainsRune(h, 0) {
			return nil, nil, fmt.Errorf("%s is not CSV in UTF-8: its first line is not text; it should name the columns", opts.Name)
		}
		header[i] = strings.TrimSpace(h)
	}
	s := &csvSource{name: opts.Name, r: r, bound: bound, header: len(header), line: 1}
	var notes []string
	s.at, s.attrs, notes, err = opts.Columns.resolve(opts.Name, header, opts)
	if err != nil {
		return nil, nil, err
	}
	for f, i := range s.at {
		if i >= 0 {
			s.mapping = append(s.mapping, fromColumn(field(f), header[i]))
		}
	}
	for _, a := range s.attrs {
		s.mapping = append(s.mapping, Mapping{"attributes." + a.name, header[a.column]})
	}
	return s, notes, nil
}

// sniff chooses the delimiter that the header has most of, outside quotes.
func sniff(head []byte) rune {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	best, most := ',', 0
	for _, d := range []rune{',', ';', '\t', '|'} {
		n, quoted := 0, false
		for _, c := range string(line) {
			switch {
			case c == '"':
				quoted = !quoted
			case c == d && !quoted:
				n++
			}
		}
		if n > most {
			best, most = d, n
		}
	}
	return best
}

func (s *csvSource) next() (Item, error) {
	s.bound.left = MaxRecord
	record, err := s.r.Read()
	if err != nil {
		if errors.Is(err, errTooLong) {
			// The rest cannot be told apart from the record: reading ends here.
			return Item{}, fmt.Errorf("%s: the record after the one on line %d is longer than %d MiB; is a quote opened and never closed?", s.name, s.line, MaxRecord>>20)
		}
		if p, ok := errors.AsType[*csv.ParseError](err); ok {
			return Item{}, &recordError{p.StartLine, errors.New(explainCSV(err))}
		}
		if errors.Is(err, io.EOF) {
			return Item{}, io.EOF
		}
		return Item{}, fmt.Errorf("read %s: %w", s.name, err)
	}
	line, _ := s.r.FieldPos(0)
	s.line = line
	item := Item{Line: line}
	if len(record) != s.header {
		return item, &recordError{line, fmt.Errorf("it has %d fields, the header has %d; a field that holds the delimiter %q must be quoted", len(record), s.header, s.r.Comma)}
	}
	for f, column := range s.at {
		if column < 0 {
			continue
		}
		if err := item.set(field(f), record[column]); err != nil {
			return item, &recordError{line, err}
		}
	}
	for _, a := range s.attrs {
		if err := item.setAttribute(a.name, record[a.column]); err != nil {
			return item, &recordError{line, err}
		}
	}
	return item, nil
}

func explainCSV(err error) string {
	switch {
	case errors.Is(err, csv.ErrBareQuote):
		return `a quote (") in a field that is not quoted; quote the field and double the quote ("")`
	case errors.Is(err, csv.ErrQuote):
		return `a quoted field ends in the middle, or its quote (") is never closed; double a quote within quotes ("")`
	}
	return err.Error()
}

var errTooLong = errors.New("record too long")

// bounded fails once left bytes have been read since left was set, so that an
// unclosed quote cannot swallow the rest of the file into memory.
type bounded struct {
	r    io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
