// Package delivery sends a file's products to a composer as CloudEvents and
// hands back its answers.
//
// [Run] is a pipeline: one goroutine reads records, a bounded number of
// workers read pictures, encode and send, and the answers come out in the
// order of the file. What is in flight is bounded by Options.Concurrency and
// not by the file. What goes wrong with one product is that product's
// [Answer]; what makes going on useless (nothing listens, no composer is
// there) ends the run. It does not print and does not keep answers.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/product"
)

// Records is where products come from: a *feed.Reader, or a list in memory.
// Next returns io.EOF after the last one.
type Records interface {
	Next() (feed.Item, error)
}

// Answer is what became of one product: an event with its result, Err, or
// Accepted.
type Answer struct {
	Item     feed.Item
	Event    ce.Event        // the category event, when Err is nil
	Result   category.Result // its data
	Err      error           // why there is no category
	Accepted bool            // a broker has taken the event; its answer, if any, goes elsewhere
	Attempts int
	Took     time.Duration // from reading the picture to the last byte of the answer
	Wake     time.Duration // of it, what the composer itself took to start
}

// ColdMs is the longest that any process waited for took to start, in ms.
func (a Answer) ColdMs() float64 {
	ms := float64(a.Wake) / float64(time.Millisecond)
	for _, leg := range a.Result.Legs {
		ms = max(ms, leg.ColdMs)
	}
	return ms
}

// ErrNothing is in the chain of the error of a product that has neither text
// nor picture.
var ErrNothing = errors.New("the product has neither a title nor an image; there is nothing to categorise")

// Options say what is sent, where and how.
type Options struct {
	Poster      *Poster
	Pictures    *feed.Pictures // may be nil
	Concurrency int            // products in flight, >= 1
	Skip, Limit int            // of the file's records; Limit 0 means all
	Edit        func(*feed.Item)

	// Stop, when not nil, makes a Next that waits for input return: it is
	// called when no more records are wanted, perhaps twice.
	Stop func()

	// Emit is called for each record in the file's order, from Run's
	// goroutine. Its error ends the run.
	Emit func(Answer) error
}

// Run returns how many records of the file came before the point where it
// stopped (skipped ones included): the file's end, or an error. When ctx ends
// it starts nothing new, gives what is in flight [grace] to finish, and
// returns ctx's cause.
func Run(ctx context.Context, records Records, opts Options) (done int, err error) {
	// What is in flight outlives an interrupt by grace, and nothing outlives Run.
	inFlight, abandon := context.WithCancel(context.WithoutCancel(ctx))
	feeding, stopFeeding := context.WithCancel(ctx)
	type job struct {
		item   feed.Item
		answer chan Answer // buffered: a worker never waits for the collector
	}
	var (
		wg      sync.WaitGroup
		jobs    = make(chan job)
		ordered = make(chan job, opts.Concurrency) // how far ahead of the slowest product others may run
		readErr error                              // written before ordered is closed
	)
	// Shutdown: 1. no new records, 2. requests in flight end, 3. everyone is waited for.
	defer func() {
		stopFeeding()
		if opts.Stop != nil {
			opts.Stop()
		}
		abandon()
		wg.Wait()
	}()
	wg.Go(func() {
		select {
		case <-inFlight.Done():
			return
		case <-ctx.Done():
			if opts.Stop != nil {
				opts.Stop()
			}
		}
		select {
		case <-inFlight.Done():
		case <-time.After(grace):
			abandon()
		}
	})
	wg.Go(func() {
		defer close(ordered)
		defer close(jobs)
		for n := 0; opts.Limit == 0 || n < opts.Limit; {
			item, err := records.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				readErr = err
				return
			}
			if item.N <= opts.Skip {
				continue
			}
			n++
			j := job{item, make(chan Answer, 1)}
			select {
			case ordered <- j:
			case <-feeding.Done():
				return
			}
			select {
			case jobs <- j:
			case <-feeding.Done():
				j.answer <- Answer{Item: item, Err: context.Cause(feeding)}
				return
			}
		}
	})
	for range opts.Concurrency {
		wg.Go(func() {
			var buf buffers
			for j := range jobs {
				j.answer <- opts.deliver(inFlight, &buf, j.item)
			}
		})
	}
	done = opts.Skip
	for j := range ordered {
		a := <-j.answer
		if f, ok := errors.AsType[*fatal](a.Err); ok {
			return done, f.err
		}
		if ctx.Err() != nil && errors.Is(a.Err, context.Canceled) {
			break
		}
		if err := opts.Emit(a); err != nil {
			return done, err
		}
		done = a.Item.N
	}
	if ctx.Err() != nil {
		return done, context.Cause(ctx)
	}
	return done, readErr
}

// grace is what products in flight get to finish after an interrupt.
const grace = 2 * time.Second

// buffers are one worker's, used again for every product.
type buffers struct{ picture, body []byte }

// keep bounds what a worker holds between two products.
const keep = 1 << 20

func (b *buffers) trim() {
	if cap(b.picture) > keep {
		b.picture = nil
	}
	if cap(b.body) > keep {
		b.body = nil
	}
}

// Product is what would be sent for a record, or why nothing would.
func (o *Options) Product(item feed.Item) (product.Product, error) {
	return o.product(&buffers{}, &item)
}

// product is Product; its picture is in the buffers.
func (o *Options) product(buf *buffers, item *feed.Item) (product.Product, error) {
	if item.Err != nil {
		return product.Product{}, item.Err
	}
	if o.Edit != nil {
		o.Edit(item)
	}
	p := item.Product
	if o.Pictures != nil {
		var err error
		if buf.picture, err = o.Pictures.Append(buf.picture[:0], *item); err != nil {
			return p, err
		}
		p = withPicture(p, buf.picture)
	}
	err := p.Validate()
	if strings.TrimSpace(p.Title) == "" && len(p.Images) == 0 {
		err = ErrNothing
	}
	if err != nil {
		return p, fmt.Errorf("line %d: %w", item.Line, err)
	}
	return p, nil
}

func (o *Options) deliver(ctx context.Context, buf *buffers, item feed.Item) Answer {
	defer buf.trim()
	start := time.Now()
	p, err := o.product(buf, &item)
	if err != nil {
		return Answer{Item: item, Err: err}
	}
	body, err := AppendProduct(buf.body[:0], p)
	if err != nil {
		return Answer{Item: item, Err: fmt.Errorf("line %d: %w", item.Line, err)}
	}
	buf.body = body
	a := o.Poster.Post(ctx, item.Key(), p.ID, body)
	a.Item, a.Took = item, time.Since(start)
	return a
}
