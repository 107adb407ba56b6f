// Package feed reads files of products: CSV or TSV with a header, NDJSON with one
// product a line, Heureka's XML; as they are, in gzip or in a zip archive, in UTF-8
// or another charset.
//
// A [Reader] holds one record at a time, whatever the file's size, and every
// record is bounded. What is wrong with one record is that [Item]'s Err, which
// names the line, and reading goes on; what is wrong with the file (it is not
// text, there is no title column) is an error of [New] or of [Reader.Next] and
// ends it. Pictures are named here and read by [Pictures]; nothing is fetched
// and nothing is sent.
package feed

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"strings"
	"unicode/utf8"

	"aisle.dev/aisle/internal/product"
)

// MaxRecord bounds one CSV record; an NDJSON line may be [product.MaxBody]
// long, since it can carry pictures.
const MaxRecord = 4 << 20

// maxIDs bounds how many ids are remembered to find one that occurs twice.
const maxIDs = 1 << 20

// Format is how a file is written.
type Format string

const (
	Auto   Format = ""       // by the first character: NDJSON is {, XML is <, else CSV
	CSV    Format = "csv"    // a header line; comma, semicolon, tab or bar
	TSV    Format = "tsv"    // a header line; tabs, and a quote within a field is a character like any other
	NDJSON Format = "ndjson" // one JSON object a line
	XML    Format = "xml"    // Heureka's: SHOPITEMs within SHOP
)

// Formats names what a Format may be.
func Formats() []string { return []string{string(CSV), string(TSV), string(NDJSON), string(XML)} }

// Options say how to read a file.
type Options struct {
	Name      string // of the file, for messages
	Format    Format
	Delimiter rune   // of CSV; 0 finds it in the header
	Charset   string // one of [Charsets]; "" finds it
	Columns   Columns
	Category  bool // every record must have a category
	Images    bool // pictures lie in a folder by id: records need an id, and neither title nor image
}

// Item is one record.
type Item struct {
	N        int             // the first record is 1
	Line     int             // of the file, where the record begins
	Product  product.Product // pictures that are files are not in it yet
	Picture  string          // path of a picture, relative to the file; empty when there is none
	Category string          // the true category, where the file has one
	Err      error           // why the record cannot be used; the fields above may be empty
}

// Key names the record for people and in event ids: the product's id, or
// "line-N".
func (i Item) Key() string { return cmp.Or(i.Product.ID, fmt.Sprintf("line-%d", i.Line)) }

// Reader reads records. It is not safe for concurrent use.
type Reader struct {
	opts   Options
	in     *counter
	source source
	n      int
	layout Layout
	notes  []string
	ended  bool
	seed   maphash.Seed
	lines  map[uint64]int // hash of an id -> its line
}

// source is one file format. An error from next other than a recordError ends
// the file.
type source interface {
	next() (Item, error)
}

// noter is a source that knows only at the end what was not used.
type noter interface{ notes() []string }

// recordError is what is wrong with one record.
type recordError struct {
	line int
	err  error
}

func (e *recordError) Error() string { return e.err.Error() }
func (e *recordError) Unwrap() error { return e.err }

// New looks at the beginning of r. Its error says what the file is instead of
// a file of products, or which columns it has instead of the wanted ones.
func New(r io.Reader, opts Options) (*Reader, error) {
	in := &counter{r: r}
	fr := &Reader{opts: opts, in: in, seed: maphash.MakeSeed(), lines: map[uint64]int{}}
	buf, packed, err := unpacked(opts.Name, bufio.NewReaderSize(in, window))
	if err != nil {
		return nil, err
	}
	head, err := peekLine(buf)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", opts.Name, err)
	}
	if len(bytes.TrimSpace(head)) == 0 && err != nil {
		return nil, fmt.Errorf("%s is empty; it should hold a header line and products, one JSON product a line, or XML", opts.Name)
	}
	buf, charset, note, err := decoded(opts.Name, opts.Charset, buf, head)
	if err != nil {
		return nil, err
	}
	if head, err = peekLine(buf); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", opts.Name, err)
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return nil, fmt.Errorf("%s is not text; it should be CSV with a header line, NDJSON or XML", opts.Name)
	}
	format := opts.Format
	if format == Auto {
		format = CSV
		switch first := bytes.TrimSpace(head); {
		case bytes.HasPrefix(first, []byte("{")):
			format = NDJSON
		case bytes.HasPrefix(first, []byte("<")):
			format = XML
		case bytes.HasPrefix(first, []byte("[")):
			return nil, fmt.Errorf("%s is a JSON array; write one product a line instead: jq -c '.[]' %s", opts.Name, opts.Name)
		}
	}
	switch format {
	case CSV, TSV:
		fr.source, fr.notes, err = newCSV(buf, head, opts, format)
	case NDJSON:
		fr.source, err = newNDJSON(buf, opts)
	case XML:
		fr.source, err = newXML(buf, opts)
	default:
		err = fmt.Errorf("format %q is not known; use %s", format, strings.Join(Formats(), ", "))
	}
	if note != "" {
		fr.notes = append(fr.notes, note)
	}
	if err != nil {
		return nil, err
	}
	fr.layout = Layout{Packed: packed, Charset: charset, Format: format}
	return fr, nil
}

// peekLine looks ahead to the end of the first line that is not blank, or as
// far as there is: no further, since the rest of a pipe may come much later.
func peekLine(buf *bufio.Reader) ([]byte, error) {
	for n := 1; ; {
		head, err := buf.Peek(max(n, buf.Buffered()))
		if err != nil || len(head) == buf.Size() || bytes.IndexByte(bytes.TrimLeft(head, " \t\r\n"), '\n') >= 0 {
			return head, err
		}
		n = len(head) + 1
	}
}

// Next returns the next record, or io.EOF after the last one.
func (r *Reader) Next() (Item, error) {
	item, err := r.source.next()
	if bad, ok := errors.AsType[*recordError](err); ok {
		item.Line, item.Err = bad.line, fmt.Errorf("line %d: %w", bad.line, bad.err)
	} else if err != nil {
		if n, ok := r.source.(noter); ok && errors.Is(err, io.EOF) && !r.ended {
			r.ended, r.notes = true, append(r.notes, n.notes()...)
		}
		return Item{}, err
	}
	r.n++
	item.N = r.n
	if item.Err == nil {
		item.Err = r.check(item)
	}
	return item, nil
}

// check finds what only the whole file shows, or what every format shares.
func (r *Reader) check(item Item) error {
	if id := item.Product.ID; id != "" && len(r.lines) < maxIDs {
		h := maphash.String(r.seed, id)
		if first, used := r.lines[h]; used {
			return fmt.Errorf("line %d: the id %q was used on line %d already; ids must differ, or leave the column out", item.Line, clip(id), first)
		}
		r.lines[h] = item.Line
	}
	if r.opts.Category && item.Category == "" {
		return fmt.Errorf("line %d: the category is empty", item.Line)
	}
	return nil
}

// Offset says how many bytes of the file have been read, some ahead of the
// record that Next returned last.
func (r *Reader) Offset() int64 { return r.in.n.Load() }

// Notes says what of the file is not used: columns and members that nothing
// was mapped to. For NDJSON and XML it is complete at the end of the file.
func (r *Reader) Notes() []string { return r.notes }

// validText refuses what is no text, with what to do about it.
func validText(name, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("the %s is not valid UTF-8; if the file is in another charset, say so: --charset windows-1250", name)
	}
	return nil
}

// place puts the text of an image cell where it belongs.
func (i *Item) place(image string) error {
	switch image = strings.TrimSpace(image); {
	case image == "":
	case strings.HasPrefix(image, "http://"), strings.HasPrefix(image, "https://"):
		i.Product.Images = append(i.Product.Images, product.Image{URL: image})
	case strings.HasPrefix(image, "data:"):
		return errors.New("the image is a data: URL; give a path or an http(s) URL, or send NDJSON with images[].data")
	case strings.ContainsRune(image, 0):
		return errors.New("the image's path contains a NUL character")
	default:
		i.Picture = image
	}
	return nil
}

// clip shortens text for a message.
func clip(s string) string {
	if len(s) <= 60 {
		return s
	}
	return strings.ToValidUTF8(s[:57], "") + "..."
}
