// Package stored keeps what a composer answered, to be looked at again
// without asking: category events in the JSON format of CloudEvents, one a
// line, as `aisle send --wait -o ndjson` and `aisle results -o ndjson` write
// them. The extension attribute truth, where a line has it, is the category
// that is right.
//
// It holds one line at a time, and every line is bounded. It does not say how
// good an answer is.
package stored

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
)

// Truth is the extension attribute of the category that is right.
const Truth = "truth"

// MaxLine bounds one event: the legs' whole distributions, and no pictures.
const MaxLine = 8 << 20

// Answer is one answer.
type Answer struct {
	ID     string // of the product; of a product without one, that of its event
	Truth  string // empty: not known
	Result category.Result
}

// Write writes an answer's event as one line; truth may be empty.
func Write(w io.Writer, ev ce.Event, truth string) error {
	if truth != "" {
		ev = ev.Clone()
		ev.SetExtension(Truth, truth)
	}
	_, text, err := event.Encode(ev, true)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// Decode reads one event. One that holds no answer is an error.
func Decode(line []byte) (Answer, error) {
	ev, _, err := event.Decode(http.Header{"Content-Type": {"application/cloudevents+json"}}, line)
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	if err := json.Unmarshal(ev.Data(), &a.Result); err != nil || a.Result.Status == "" {
		return a, fmt.Errorf("its data is no answer of a composer; its type is %.80q", ev.Type())
	}
	a.ID, _ = ev.Extensions()["causationid"].(string)
	if a.Result.ID != "" {
		a.ID = a.Result.ID
	}
	a.Truth, _ = ev.Extensions()[Truth].(string)
	return a, nil
}

// Read passes a file's answers to each, in order. Name is the file's, for
// errors, which say the line.
func Read(r io.Reader, name string, each func(Answer) error) error {
	return lines(r, name, Decode, each)
}

// Events passes a file's events to each as Read does, answers or not.
func Events(r io.Reader, name string, each func(ce.Event) error) error {
	return lines(r, name, func(line []byte) (ce.Event, error) {
		ev, _, err := event.Decode(http.Header{"Content-Type": {"application/cloudevents+json"}}, line)
		return ev, err
	}, each)
}

func lines[T any](r io.Reader, name string, decode func([]byte) (T, error), each func(T) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 64<<10), MaxLine)
	for line := 1; in.Scan(); line++ {
		text := bytes.TrimSpace(in.Bytes())
		if len(text) == 0 {
			continue
		}
		a, err := decode(text)
		if err != nil {
			return fmt.Errorf("%s, line %d: %w; want category events as `aisle evaluate --save FILE` writes them", name, line, err)
		}
		if err := each(a); err != nil {
			return err
		}
	}
	if err := in.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%s has a line of more than %d MB", name, MaxLine>>20)
	} else if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// Is tells whether r begins with an answer.
func Is(r io.Reader) bool {
	stop := errors.New("the first one is enough")
	return errors.Is(Read(r, "", func(Answer) error { return stop }), stop)
}
