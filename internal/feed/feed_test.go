package feed_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/product"
)

// readAll reads everything and renders each record as one line.
func readAll(t testing.TB, text string, opts feed.Options) (lines []string, notes []string, err error) {
	t.Helper()
	if opts.Name == "" {
		opts.Name = "f"
	}
	r, err := feed.New(strings.NewReader(text), opts)
	if err != nil {
		return nil, nil, err
	}
	for {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines, r.Notes(), nil
		}
		if err != nil {
			return lines, r.Notes(), err
		}
		lines = append(lines, render(item))
	}
}

func render(i feed.Item) string {
	if i.Err != nil {
		return i.Key() + " ! " + i.Err.Error()
	}
	p := i.Product
	s := fmt.Sprintf("%s@%d %s", i.Key(), i.Line, p.Title)
	if p.Description != "" {
		s += " desc=" + p.Description
	}
	if p.Brand != "" {
		s += " brand=" + p.Brand
	}
	if len(p.Attributes) > 0 {
		s += fmt.Sprint(" ", p.Attributes)
	}
	for _, im := range p.Images {
		s += fmt.Sprintf(" image=%s%x", im.URL, im.Data)
	}
	if i.Picture != "" {
		s += " picture=" + i.Picture
	}
	if i.Category != "" {
		s += " category=" + i.Category
	}
	return s
}

func TestFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		opts       feed.Options
		want       []string
		notes      []string
		err        string // the file's
	}{
		{name: "plain", text: "id,title\n1,Red shirt\n2,Blue jeans\n", want: []string{"1@2 Red shirt", "2@3 Blue jeans"}},
		{name: "every column", text: "id,title,image,description,brand,attributes.gender\n1,T,a/b.jpg,D,B,Men\n",
			want: []string{"1@2 T desc=D brand=B map[gender:Men] picture=a/b.jpg"}},
		{name: "image is a URL", text: "title,image\nT,https://x/y.jpg\n", want: []string{"line-2@2 T image=https://x/y.jpg"}},
		{name: "image is a data URL", text: "title,image\nT,\"data:image/png;base64,AA\"\n", want: []string{"line-2 ! line 2: the image is a data: URL; give a path or an http(s) URL, or send NDJSON with images[].data"}},
		{name: "no ids", text: "title\nA\nB\n", want: []string{"line-2@2 A", "line-3@3 B"}},
		{name: "mapped", text: "key;name;colour;sex\n7;Shirt;Red;NA\n8;Tie;;Men\n",
			opts: feed.Options{Columns: feed.Columns{ID: "key", Title: "name", Attributes: map[string]string{"gender": "sex", "colour": "colour"}}},
			want: []string{"7@2 Shirt map[colour:Red]", "8@3 Tie map[gender:Men]"}},
		{name: "mapped in another case", text: "ID,Title\n1,A\n", want: []string{"1@2 A"}},
		{name: "ignored columns are told", text: "id,title,price,stock\n1,A,2,3\n", want: []string{"1@2 A"}, notes: []string{"ignored columns: price, stock"}},
		{name: "category is ignored unless wanted", text: "title,category\nA,X\n", want: []string{"line-2@2 A"}, notes: []string{"ignored columns: category"}},
		{name: "category", text: "title,category\nA,X\nB,\n", opts: feed.Options{Category: true}, want: []string{"line-2@2 A category=X", "line-3 ! line 3: the category is empty"}},
		{name: "byte order mark and CRLF", text: "\xef\xbb\xbfid,title\r\n1,A\r\n", want: []string{"1@2 A"}},
		{name: "semicolons", text: "id;title\n1;Shirt, red\n", want: []string{"1@2 Shirt, red"}},
		{name: "tabs", text: "id\ttitle\n1\tA\n", want: []string{"1@2 A"}},
		{name: "a delimiter in a quoted header", text: "\"id\",\"title;a;b\"\n1,A\n", opts: feed.Options{Columns: feed.Columns{Title: "title;a;b"}}, want: []string{"1@2 A"}},
		{name: "a title over two lines", text: "id,title\n1,\"A\nB\"\n2,C\n", want: []string{"1@2 A\nB", "2@4 C"}},
		{name: "ragged", text: "id,title\n1,A,B\n2\n3,C\n", want: []string{
			"line-2 ! line 2: it has 3 fields, the header has 2; a field that holds the delimiter ',' must be quoted",
			"line-3 ! line 3: it has 1 fields, the header has 2; a field that holds the delimiter ',' must be quoted", "3@4 C"}},
		{name: "bare quote", text: "id,title\n1,5\" heel\n2,B\n", want: []string{
			`line-2 ! line 2: a quote (") in a field that is not quoted; quote the field and double the quote ("")`, "2@3 B"}},
		{name: "quote never closed", text: "id,title\n1,\"A\n2,B\n", want: []string{
			`line-2 ! line 2: a quoted field ends in the middle, or its quote (") is never closed; double a quote within quotes ("")`}},
		{name: "quote never closed in a large file", text: "id,title\n1,A\n2,\"B\n" + strings.Repeat("3,C\n", feed.MaxRecord/2), want: []string{"1@2 A"},
			err: "f: the record after the one on line 2 is longer than 4 MiB; is a quote opened and never closed?"},
		{name: "invalid UTF-8", text: "id,title\n1,Caf\xe9\n2,B\n", want: []string{
			"1 ! line 2: the title is not valid UTF-8; if the file is in another charset, say so: --charset windows-1250", "2@3 B"}},
		{name: "an id twice", text: "id,title\n1,A\n2,B\n1,C\n", want: []string{"1@2 A", "2@3 B",
			`1 ! line 4: the id "1" was used on line 2 already; ids must differ, or leave the column out`}},
		{name: "blank lines before NDJSON", text: "\n \n{\"title\":\"A\"}", want: []string{"line-3@3 A"}},
		{name: "blank lines before CSV", text: "\n\nid;title\n1;A\n", want: []string{"1@4 A"}},
		{name: "only a header", text: "id,title\n", want: nil},
		{name: "blank lines", text: "id,title\n\n1,A\n\n", want: []string{"1@3 A"}},

		{name: "empty", text: "", err: "f is empty; it should hold a header line and products, one JSON product a line, or XML"},
		{name: "blank", text: " \n\n", err: "f is empty; it should hold a header line and products, one JSON product a line, or XML"},
		{name: "gzip that is none", text: "\x1f\x8b\x08\x00", err: "f begins like gzip and is not: unexpected EOF"},
		{name: "zip that is none", text: "PK\x03\x04\x14\x00", err: "f: the zip archive holds no file"},
		{name: "JPEG", text: "\xff\xd8\xff\xe0\x00\x10JFIF", err: "f is not text; it should be CSV with a header line, NDJSON or XML"},
		{name: "prose", text: "Dear customer,\nhello\n", err: "f has neither a column title nor a column image; say which holds the title, as in --title COLUMN. Its columns are: Dear customer, \"\""},
		{name: "mapped column is missing", text: "id,title\n", opts: feed.Options{Columns: feed.Columns{Title: "name"}}, err: `f has no column "name" for the title. Its columns are: id, title`},
		{name: "mapped attribute is missing", text: "id,title\n", opts: feed.Options{Columns: feed.Columns{Attributes: map[string]string{"a": "b"}}}, err: `f has no column "b" for the attribute a. Its columns are: id, title`},
		{name: "no category column", text: "id,title\n", opts: feed.Options{Category: true}, err: "f has no column category; say which holds the true category, as in --category COLUMN. Its columns are: id, title"},
		{name: "images without ids", text: "title\n", opts: feed.Options{Images: true}, err: "f has no column id, and --images finds pictures by id; say which it is, as in --id COLUMN. Its columns are: title"},
		{name: "two title columns", text: "title,title\nA,B\n", err: `f has two columns named "title" (1 and 2); rename one`},
		{name: "endless first line", text: strings.Repeat("a", feed.MaxRecord+1), err: "f is not CSV: its first line is longer than 4 MiB"},
		{name: "unknown format", text: "a", opts: feed.Options{Format: "yaml"}, err: `format "yaml" is not known; use csv, tsv, ndjson, xml`},

		{name: "NDJSON", text: `{"id":"1","title":"A","attributes":{"gender":"Men"},"images":[{"url":"http://x/a"},{"data":"AQI="}]}` + "\n" + `{"id":2,"title":"B","image":"b.jpg"}`,
			want: []string{"1@1 A map[gender:Men] image=http://x/a image=0102", "2@2 B picture=b.jpg"}},
		{name: "NDJSON mapped", text: `{"sku":17,"name":"A","sex":"Men","price":3,"type":"X"}`,
			opts: feed.Options{Category: true, Columns: feed.Columns{ID: "sku", Title: "name", Category: "type", Attributes: map[string]string{"gender": "sex"}}},
			want: []string{"17@1 A map[gender:Men] category=X"}, notes: []string{"ignored members: price"}},
		{name: "NDJSON with garbage", text: "{\"title\":\"A\"}\n{oops}\n[1]\nnull\n{\"title\":[]}\n{\"title\":\"\xff\"}\n\n{\"title\":\"B\"}\n", want: []string{
			"line-1@1 A",
			"line-2 ! line 2: it is not a JSON object: invalid character 'o' looking for beginning of object key string",
			`line-3 ! line 3: it is JSON, but not an object; write one product a line, as in {"id": "1", "title": "..."}`,
			"line-4 ! line 4: it is null, not a product",
			"line-5 ! line 5: title must be a string or a number, not []",
			"line-6 ! line 6: the line is not valid UTF-8; if the file is in another charset, say so: --charset windows-1250",
			"line-8@8 B"}},
		{name: "NDJSON of wrong types", text: `{"attributes":[]}` + "\n" + `{"images":["a"]}` + "\n" + `{"images":[{"data":"!"}]}`, opts: feed.Options{Format: feed.NDJSON}, want: []string{
			"line-1 ! line 1: attributes must be an object of strings",
			`line-2 ! line 2: images must be an array of objects, each with "url" or "data" (base64)`,
			`line-3 ! line 3: images must be an array of objects, each with "url" or "data" (base64)`}},
		{name: "NDJSON line too long", text: `{"title":"` + strings.Repeat("a", product.MaxBody) + "\"}\n{\"title\":\"B\"}\n", want: []string{
			"line-1 ! line 1: it is longer than 16 MiB", "line-2@2 B"}},
		{name: "JSON array", text: "[{}]", err: "f is a JSON array; write one product a line instead: jq -c '.[]' f"},
		{name: "NDJSON member for two things", text: "{}", opts: feed.Options{Columns: feed.Columns{Title: "a", Attributes: map[string]string{"x": "a"}}},
			err: `the member "a" cannot be both attribute x and another field`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, notes, err := readAll(t, c.text, c.opts)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.notes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
			if msg := fmt.Sprint(err); (c.err != "" || err != nil) && msg != c.err {
				t.Errorf("error\n got %s\nwant %s", msg, c.err)
			}
		})
	}
}

// A file's products come back as they were written.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-zà-ÿ"',;|\t\n ☂]{0,20}`)
		n := rapid.IntRange(1, 8).Draw(t, "n")
		var buf bytes.Buffer
		w := csv.NewWriter(&buf)
		w.Comma = rapid.SampledFrom([]rune{',', ';', '\t', '|'}).Draw(t, "delimiter")
		w.UseCRLF = rapid.Bool().Draw(t, "crlf")
		write := func(record ...string) {
			if err := w.Write(record); err != nil {
				t.Fatal(err)
			}
		}
		write("title", "id", "brand")
		var want []product.Product
		for i := range n {
			p := product.Product{ID: fmt.Sprint(i), Title: text.Draw(t, "title"), Brand: text.Draw(t, "brand")}
			write(p.Title, p.ID, p.Brand)
			want = append(want, p)
		}
		w.Flush()
		r, err := feed.New(&buf, feed.Options{Name: "f"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			item, err := r.Next()
			if err != nil || item.Err != nil || item.N != i+1 {
				t.Fatalf("record %d: number %d, %v %v", i+1, item.N, err, item.Err)
			}
			if diff := cmp.Diff(want[i], item.Product); diff != "" {
				t.Fatalf("record %d (-want +got):\n%s", i+1, diff)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last: %v", err)
		}
	})
}

// endless is a file of which only the first products may be read.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	if e.n == 0 {
		e.n = 1
		return copy(p, "title\n"), nil
	}
	e.n++
	return copy(p, "A product\n"), nil
}

// Reading is by demand: what is read ahead does not grow with the file.
func TestReadsAhead(t *testing.T) {
	file := &endless{}
	r, err := feed.New(file, feed.Options{Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if read := r.Offset(); read > 1000*10+128<<10 {
		t.Errorf("%d bytes read for 1000 records of 10", read)
	}
}

// What a slow pipe has brought is read at once, not when a buffer is full.
func TestPipe(t *testing.T) {
	for format, lines := range map[feed.Format][]string{feed.CSV: {"title\n", "A\n"}, feed.NDJSON: {"{\"title\":\"A\"}\n"}} {
		r, w := io.Pipe()
		written := make(chan struct{})
		go func() {
			defer close(written)
			for _, l := range lines {
				if _, err := io.WriteString(w, l); err != nil {
					t.Error(err)
				}
			}
		}()
		records, err := feed.New(r, feed.Options{Name: "f"})
		if err != nil {
			t.Fatal(err)
		}
		if item, err := records.Next(); err != nil || item.Product.Title != "A" {
			t.Errorf("%s: %q, %v", format, item.Product.Title, err)
		}
		<-written
		_ = w.Close() // always nil
		if _, err := records.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: after the end: %v", format, err)
		}
	}
}

func fuzz(f *testing.F, format feed.Format) {
	for _, seed := range []string{
		"id,title\n1,A\n1,\"B\n", "a;b\n1;2;3\n", "\xef\xbb\xbftitle\r\n\xff\r\n", "title|image\n|x.jpg\n",
		`{"title":"A","images":[{"data":"AA=="}]}` + "\n{}\n\x00", `{"id":1e400,"attributes":{"a":"b"}}`, "{\"title\":\"\\ud800\"}\n", "\n\n{",
	} {
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, category bool) {
		r, err := feed.New(bytes.NewReader(text), feed.Options{Name: "f", Format: format, Category: category, Columns: feed.Columns{Attributes: nil}})
		if err != nil {
			return
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		last := 0
		for n := 1; ; n++ {
			item, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatalf("a file in memory below %d MiB fails: %v", feed.MaxRecord>>20, err)
			}
			if item.N != n || item.Line <= last || item.Line > lines {
				t.Fatalf("record %d has number %d and line %d, the one before had %d, the file has %d", n, item.N, item.Line, last, lines)
			}
			last = item.Line
			if item.Err != nil {
				if !strings.HasPrefix(item.Err.Error(), fmt.Sprintf("line %d: ", item.Line)) {
					t.Fatalf("the error names no line: %v", item.Err)
				}
				continue
			}
			p := item.Product
			for _, text := range []string{p.ID, p.Title, p.Description, p.Brand, item.Category} {
				if !utf8.ValidString(text) {
					t.Fatalf("record %d has text that is not UTF-8: %q", n, text)
				}
			}
			if category && item.Category == "" {
				t.Fatalf("record %d has no category", n)
			}
		}
	})
}

func FuzzCSV(f *testing.F)    { fuzz(f, feed.CSV) }
func FuzzNDJSON(f *testing.F) { fuzz(f, feed.NDJSON) }
