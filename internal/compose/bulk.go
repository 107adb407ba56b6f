package compose

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

const (
	// MaxProducts is how many products an array for /category/predict may hold.
	MaxProducts = 100

	maxStreams = 32      // streams of products at once
	ahead      = 16      // products of one request that are on their way at once
	maxLine    = 4 << 20 // bytes of one product in a stream

	// patience is how long a stream's sender may send nothing, and how long its
	// reader may take nothing.
	patience = 5 * time.Minute
)

// BulkAnswer is what is said of one of several products: its category, or why
// there is none.
type BulkAnswer struct {
	Line             int            `json:"line,omitempty"` // of the stream, where the product begins; 0 in an array
	*category.Result                // nil with an Error
	Error            map[string]any `json:"error,omitempty"` // as in problem+json, and the product's id if it is known
}

// bulkItem is a product on its way in, or what is wrong with it.
type bulkItem struct {
	line    int
	product Product
	err     error
}

// answer categorises one of several products. Its caller holds a slot.
func (c *Composer) answer(ctx context.Context, item bulkItem) BulkAnswer {
	var res category.Result
	err := item.err
	if err == nil {
		err = problem.Recover(func() (err error) { res, err = c.Compose(ctx, item.product); return err })
	}
	if err == nil {
		c.metrics.products.Inc(string(res.Status))
		return BulkAnswer{Line: item.line, Result: &res}
	}
	c.refused(ctx, err)
	if problem.Status(err) == http.StatusInternalServerError {
		c.log.Error("a product of several failed", "line", item.line, "error", err)
	}
	said := maps.Clone(problem.Members(err))
	if item.product.ID != "" {
		said["id"] = item.product.ID
	}
	return BulkAnswer{Line: item.line, Error: said}
}

// many answers an array of products with an array in the same order. The
// caller holds a slot; more are used as far as they are free.
func (c *Composer) many(ctx context.Context, body []byte, header http.Header, predictions int) ([]byte, error) {
	texts, err := product.Split(body, MaxProducts)
	if err != nil {
		return nil, err
	}
	answers := make([]BulkAnswer, len(texts))
	var next atomic.Int64
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(texts)); i = next.Add(1) - 1 {
			item := bulkItem{product: Product{JSON: texts[i], Header: header, Predictions: predictions}}
			item.product.Product, item.err = product.Decode(texts[i])
			answers[i] = c.answer(ctx, item)
		}
	}
	var others sync.WaitGroup
more:
	for range min(len(texts), ahead) - 1 {
		select {
		case c.slots <- struct{}{}:
			others.Go(func() {
				defer func() { <-c.slots }()
				work()
			})
		default:
			break more
		}
	}
	work()
	others.Wait()
	return json.Marshal(answers)
}

// isStream reports whether a body is products, one a line.
func isStream(contentType string) bool {
	mt, _, err := mime.ParseMediaType(contentType)
	return err == nil && (mt == "application/x-ndjson" || mt == "application/ndjson" || mt == "application/jsonl")
}

// predictLines answers products as they come, one a line.
func (c *Composer) predictLines(w http.ResponseWriter, r *http.Request) error {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return problem.New(http.StatusUnsupportedMediaType, "a stream of products is read as it comes, without the content coding %.40q; post a compressed one to /v1/feeds", enc)
	}
	predictions, err := predictionsAsked(r.URL.Query())
	if err != nil {
		return err
	}
	header := trace(r.Header, nil)
	return c.stream(w, r, func(body io.Reader) (func() (bulkItem, error), error) {
		in := &lines{in: bufio.NewReaderSize(body, 64<<10)}
		return func() (bulkItem, error) {
			text, err := in.next()
			if err != nil && !errors.Is(err, errLongLine) {
				return bulkItem{}, err
			}
			item := bulkItem{line: in.n, product: Product{JSON: text, Header: header, Predictions: predictions}}
			if err != nil {
				item.err = problem.New(http.StatusRequestEntityTooLarge, "line %d: the product is larger than %d bytes", in.n, maxLine)
				return item, nil
			}
			item.product.Product, item.err = product.Decode(text)
			return item, nil
		}, nil
	})
}

// stream answers products in their order, a line each, while they still come.
// At most ahead of them are on their way: then nothing more is read, and a
// caller that does not read its answers is not read from either. open's error
// is the whole request's; an error of what it returns, other than io.EOF, is
// the last line.
func (c *Composer) stream(w http.ResponseWriter, r *http.Request, open func(io.Reader) (func() (bulkItem, error), error)) error {
	select {
	case c.streams <- struct{}{}:
	default:
		e := problem.New(http.StatusServiceUnavailable, "%d streams of products are being answered already; send this one again shortly", cap(c.streams))
		e.RetryAfter = 10 * time.Second
		return e
	}
	defer func() { <-c.streams }()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // HTTP/2 always is
	next, err := open(&streamBody{ctx: ctx, rc: rc, body: r.Body})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")

	queue := make(chan chan BulkAnswer, ahead)
	written := make(chan error, 1)
	go func() {
		err := writeAnswers(w, rc, queue)
		if err != nil {
			cancel()                                // before the deadline: see streamBody
			_ = rc.SetReadDeadline(time.Unix(1, 0)) // wakes a read that waits
			for range queue {                       // what was on its way
			}
		}
		written <- err
	}()
	var products sync.WaitGroup
	readErr := problem.Recover(func() error { return c.enqueue(ctx, next, queue, &products) })
	close(queue)
	products.Wait()
	if err := errors.Join(readErr, <-written); err != nil {
		if r.Context().Err() == nil {
			c.log.Error("a stream of products was cut", "path", r.URL.Path, "error", err)
		}
		panic(http.ErrAbortHandler) // the caller must not take what there is for all
	}
	_ = rc.SetReadDeadline(time.Time{}) // the connection's next request has its own
	_ = rc.SetWriteDeadline(time.Time{})
	return nil
}

// enqueue starts a product's work for each that comes, and ends with the
// context's error or none.
func (c *Composer) enqueue(ctx context.Context, next func() (bulkItem, error), queue chan<- chan BulkAnswer, products *sync.WaitGroup) error {
	for {
		item, err := next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		answer := make(chan BulkAnswer, 1)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			answer <- BulkAnswer{Error: problem.Members(problem.New(http.StatusBadRequest, "the products end here: %v", err))}
			queue <- answer // drained by the writer, whatever happens
			return nil
		case item.err != nil:
			answer <- c.answer(ctx, item)
		default:
			release, err := c.takeTurn(ctx, len(item.product.JSON))
			if err != nil {
				return err
			}
			products.Go(func() {
				defer release()
				answer <- c.answer(ctx, item)
			})
		}
		queue <- answer
	}
}

// takeTurn waits for a product's slot and for room for its bytes. Streams use
// half of the slots at most, so that they keep nobody else out.
func (c *Composer) takeTurn(ctx context.Context, size int) (release func(), err error) {
	for _, slots := range []chan struct{}{c.bulk, c.slots} {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			if slots == c.slots {
				<-c.bulk
			}
			return nil, ctx.Err()
		}
	}
	free := func() { <-c.slots; <-c.bulk }
	share, err := c.bodies.Hold(ctx, int64(size))
	if err != nil {
		free()
		return nil, err
	}
	return func() { share.Release(); free() }, nil
}

// writeAnswers writes answers as they are there, and lets none wait in a
// buffer for the next one.
func writeAnswers(w io.Writer, rc *http.ResponseController, queue <-chan chan BulkAnswer) error {
	flush := func() error {
		_ = rc.SetWriteDeadline(time.Now().Add(patience))
		return rc.Flush()
	}
	for {
		var answer chan BulkAnswer
		var open bool
		select {
		case answer, open = <-queue:
		default:
			if err := flush(); err != nil {
				return err
			}
			answer, open = <-queue
		}
		if !open {
			return flush()
		}
		var a BulkAnswer
		select {
		case a = <-answer:
		default:
			if err := flush(); err != nil {
				return err
			}
			a = <-answer
		}
		text, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("write the answer for line %d: %w", a.Line, err)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(patience))
		if _, err := w.Write(append(text, '\n')); err != nil {
			return err
		}
	}
}

// streamBody is a request's body that may take as long as it likes while
// something comes. Once ctx has ended it reads no more: that is looked at after
// the deadline is set, so that it does not undo the one that ends a read.
type streamBody struct {
	ctx  context.Context
	rc   *http.ResponseController
	body io.Reader
}

func (b *streamBody) Read(p []byte) (int, error) {
	_ = b.rc.SetReadDeadline(time.Now().Add(patience))
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.body.Read(p)
	if err != nil {
		_ = b.rc.SetReadDeadline(time.Time{}) // it would end the request's context
	}
	return n, err
}

// errLongLine: a line has more than maxLine bytes. It has been skipped.
var errLongLine = errors.New("line too long")

// lines reads lines that are not blank, each bounded.
type lines struct {
	in *bufio.Reader
	n  int // of the line that was read last
}

func (l *lines) next() ([]byte, error) {
	for {
		var line []byte
		long := false
		l.n++
		for {
			part, err := l.in.ReadSlice('\n')
			if long = long || len(line)+len(part) > maxLine; !long {
				line = append(line, part...)
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			if errors.Is(err, io.EOF) && (long || len(bytes.TrimSpace(line)) > 0) {
				break
			}
			if err != nil {
				return nil, err
			}
			break
		}
		if long {
			return nil, errLongLine
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}
