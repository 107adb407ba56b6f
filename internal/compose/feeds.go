package compose

import (
	"cmp"
	"fmt"
	"io"
	"mime"
	"net/http"

	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/problem"
)

// feed answers a file of products in any format that internal/feed reads, in
// the way of a stream of products. What is wrong with one record is its answer;
// the others go on.
func (c *Composer) feed(w http.ResponseWriter, r *http.Request) error {
	switch enc := r.Header.Get("Content-Encoding"); enc {
	case "", "identity", "gzip": // gzip is known by its first bytes
	default:
		return problem.New(http.StatusUnsupportedMediaType, "the content coding %.40q is not read; send the feed plain, in gzip or in zip", enc)
	}
	opts, predictions, err := feedAsked(r)
	if err != nil {
		return err
	}
	header := trace(r.Header, nil)
	return c.stream(w, r, func(body io.Reader) (func() (bulkItem, error), error) {
		in, err := feed.New(body, opts)
		if err != nil {
			return nil, problem.New(http.StatusBadRequest, "%v", err)
		}
		return func() (bulkItem, error) {
			read, err := in.Next()
			if err != nil {
				return bulkItem{}, err
			}
			item := bulkItem{line: read.Line, product: Product{Product: read.Product, Header: header, Predictions: predictions}}
			err = read.Err
			if err == nil && read.Picture != "" {
				err = fmt.Errorf("line %d: the image %.80q is a path, and only the sender has the file; give an http(s) URL, or use aisle send", read.Line, read.Picture)
			}
			if err == nil {
				if err = read.Product.Validate(); err != nil {
					err = fmt.Errorf("line %d: %w", read.Line, err)
				}
			}
			if err != nil {
				item.err = problem.New(http.StatusUnprocessableEntity, "%v", err)
			}
			return item, nil
		}, nil
	})
}

// feedAsked takes ?format=, ?charset= (or the Content-Type's), the columns
// ?id=, ?title=, ?description=, ?brand= and ?image=, and ?predictions=.
func feedAsked(r *http.Request) (feed.Options, int, error) {
	q := r.URL.Query()
	predictions, err := predictionsAsked(q)
	if err != nil {
		return feed.Options{}, 0, err
	}
	mt, params, err := mime.ParseMediaType(cmp.Or(r.Header.Get("Content-Type"), "application/octet-stream"))
	if err != nil {
		return feed.Options{}, 0, problem.New(http.StatusUnsupportedMediaType, "the Content-Type is %.80q, which is no media type", r.Header.Get("Content-Type"))
	}
	byType := map[string]feed.Format{"text/tab-separated-values": feed.TSV, "text/csv": feed.CSV}
	format := feed.Format(q.Get("format"))
	return feed.Options{
		Name: "the feed", Format: cmp.Or(format, byType[mt]), Charset: cmp.Or(q.Get("charset"), params["charset"]),
		Columns: feed.Columns{ID: q.Get("id"), Title: q.Get("title"), Description: q.Get("description"), Brand: q.Get("brand"), Image: q.Get("image")},
	}, predictions, nil
}
