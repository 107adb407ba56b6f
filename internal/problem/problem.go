// Package problem is how Aisle's HTTP services say no: an error that carries
// a status code, written as RFC 9457 problem+json.
//
// Handlers return errors; [Write] is the one place that maps them to a
// response. Any error without a *problem.Error in its chain becomes a 500
// whose detail does not leak the error's text.
package problem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"
)

// ContentType is the media type of a written problem.
const ContentType = "application/problem+json"

// Types that a caller branches on. All others are "about:blank": the status
// says all that a program needs to know.
const (
	// TypeNothingToRead: the product is well formed, but has none of the
	// fields that this classifier reads (a title-only product at a photo
	// classifier). A composer treats such a leg as skipped, not as failed.
	TypeNothingToRead = "https://aisle.dev/problems/nothing-to-read"
	// TypeClosed: a schedule keeps the service closed, so that nothing is
	// started for the request. It is a 503 whose Retry-After is the time to
	// the next opening, where one is known. A composer takes such a leg as
	// closed, which is no failure, and asks the leg's other service if there
	// is one.
	TypeClosed = "https://aisle.dev/problems/closed"
)

// Error is a refusal with a reason. It is an error of the caller (4xx) or of
// the moment (429, 503), and its Detail is safe to show to the caller.
type Error struct {
	Status     int           // HTTP status code
	Type       string        // URI that names the kind of problem; empty means about:blank
	Detail     string        // one sentence: what is wrong, and what to do
	RetryAfter time.Duration // when > 0, sent as Retry-After in whole seconds, rounded up
	Extra      map[string]any
}

func (e *Error) Error() string { return e.Detail }

// New returns an Error with the given status and a formatted detail.
func New(status int, format string, args ...any) *Error {
	return &Error{Status: status, Detail: fmt.Sprintf(format, args...)}
}

// Status reports the status code that [Write] would answer err with.
func Status(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok && e != nil {
		return http.StatusRequestEntityTooLarge
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// Detail is the sentence that the caller of a service is told of err.
func Detail(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Detail
	}
	switch Status(err) {
	case http.StatusRequestEntityTooLarge:
		mb, _ := errors.AsType[*http.MaxBytesError](err)
		return fmt.Sprintf("the request body is larger than %d bytes", mb.Limit)
	case http.StatusGatewayTimeout:
		return "the deadline passed before there was an answer"
	}
	return "internal error; the service's log says more"
}

// RetryAfter sets the header of that name where err says when to try again.
func RetryAfter(h http.Header, err error) {
	if e, ok := errors.AsType[*Error](err); ok && e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
}

// Members are those of RFC 9457 that tell of err: type, title, status and
// detail, and what the error adds.
func Members(err error) map[string]any {
	status := Status(err)
	body := map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status}
	if e, ok := errors.AsType[*Error](err); ok {
		for k, v := range e.Extra {
			body[k] = v
		}
		if e.Type != "" {
			body["type"] = e.Type
		}
	}
	body["detail"] = Detail(err)
	return body
}

// Write answers with err as problem+json: its [Members], and "error", which
// repeats the detail for clients that look for the older convention.
func Write(w http.ResponseWriter, err error) {
	status, body := Status(err), Members(err)
	detail := body["detail"]
	body["error"] = detail
	RetryAfter(w.Header(), err)
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)                 // people read it; it is never HTML
	if err := enc.Encode(body); err != nil { // an Extra that cannot be written: a programming error, but the caller still gets the reason
		buf.Reset()
		_ = enc.Encode(map[string]any{"status": status, "detail": detail, "error": detail}) // strings and a number
	}
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the client has gone; there is nobody left to tell
}

// Handler adapts a handler that returns an error. A 5xx other than 503 is
// given to report (which may be nil) before it is written. A panic is a 500
// too: net/http would cut the connection and log it where nobody looks.
func Handler(h func(http.ResponseWriter, *http.Request) error, report func(*http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := Recover(func() error { return h(w, r) })
		if err == nil {
			return
		}
		if s := Status(err); s >= 500 && s != http.StatusServiceUnavailable && report != nil {
			report(r, err)
		}
		Write(w, err)
	})
}

// Recover calls f, and makes an error of its panic, if it is not the one by
// which a handler cuts its connection.
func Recover(f func() error) (err error) {
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler:
			panic(v)
		default:
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}
