package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"aisle.dev/aisle/internal/problem"
)

// Result is a category event as the engine keeps it.
type Result struct {
	ID   string // its place, which Since names
	Data []byte // the event, in the JSON format of CloudEvents
}

// Results passes events to each, oldest first: category events, or those of the
// types that are named; those after since, or all that are kept where that is empty; with follow it goes on with those that
// come, until ctx ends. A connection that breaks is made again from where it
// was.
func (e *Engine) Results(ctx context.Context, since string, follow bool, each func(Result) error, types ...string) error {
	q := url.Values{"type": types, "since": {since}, "follow": {strconv.FormatBool(follow)}}
	last := ""
	for first := true; ; first = false {
		header := http.Header{"Accept": {"text/event-stream"}}
		if last != "" {
			header.Set("Last-Event-ID", last)
		}
		resp, err := e.do(ctx, http.MethodGet, eventsPath+"/results?"+q.Encode(), header, nil)
		switch {
		case err != nil && (first || !follow || !mayPass(err)):
			return err
		case err == nil:
			err = readStream(resp.Body, func(id string, data []byte) error {
				last = id
				return each(Result{id, data})
			})
			_ = resp.Body.Close() // nothing of it is wanted any more
			if stop, ok := errors.AsType[*stopped](err); ok {
				return stop.err
			}
			if !follow {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second): // it restarts, perhaps
		}
	}
}

// mayPass is whether a refusal may be another one soon: an engine that has just
// started answers 404 until its Brokers are back.
func mayPass(err error) bool {
	if refusal, ok := errors.AsType[*problem.Error](err); ok {
		return refusal.Status == http.StatusNotFound || refusal.Status == http.StatusTooManyRequests || refusal.Status >= 500
	}
	return errors.Is(err, ErrNotRunning)
}

// maxStreamEvent bounds one event of a stream; a category event has the legs'
// answers and no pictures.
const maxStreamEvent = 8 << 20

// stopped is an error of whom events are passed to.
type stopped struct{ err error }

func (s *stopped) Error() string { return s.err.Error() }

// readStream reads Server-Sent Events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html) until the
// stream ends. Comments and fields other than id and data are passed over.
func readStream(from io.Reader, each func(id string, data []byte) error) error {
	in := bufio.NewScanner(from)
	in.Buffer(nil, maxStreamEvent)
	id, size := "", 0
	var data []string
	for in.Scan() {
		line := in.Text()
		if line == "" {
			if len(data) > 0 {
				if err := each(id, []byte(strings.Join(data, "\n"))); err != nil {
					return &stopped{err}
				}
			}
			data, size = nil, 0
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		case "data":
			if size += len(value) + 1; size > maxStreamEvent {
				return &stopped{fmt.Errorf("an event of more than %d MB is in the stream of results", maxStreamEvent>>20)}
			}
			data = append(data, value)
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return &stopped{fmt.Errorf("an event of more than %d MB is in the stream of results", maxStreamEvent>>20)}
	}
	return in.Err()
}
