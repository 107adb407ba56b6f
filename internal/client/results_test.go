package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/problem"
)

func TestReadStream(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"events":        {"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", []string{"1 a", "2 b"}},
		"several lines": {"id:1\ndata: a\ndata:\ndata:b\n\n", []string{"1 a\n\nb"}},
		"comments":      {": alive\n\nid: 1\nevent: x\nretry: 5\ndata: a\n\n", []string{"1 a"}},
		"no id":         {"id: 1\ndata: a\n\ndata: b\n\n", []string{"1 a", "1 b"}},
		"carriage":      {"id: 1\r\ndata: a\r\n\r\n", []string{"1 a"}},
		"cut off":       {"id: 1\ndata: a\n", nil},
		"no data":       {"id: 1\n\n", nil},
	} {
		var got []string
		err := readStream(strings.NewReader(test.text), func(id string, data []byte) error {
			got = append(got, id+" "+string(data))
			return nil
		})
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, -want +got:\n%s", name, err, diff)
		}
	}
	huge := "data: " + strings.Repeat("x", maxStreamEvent/4) + "\n"
	for name, text := range map[string]string{"a long line": strings.Repeat("x", maxStreamEvent+1), "many lines": strings.Repeat(huge, 5) + "\n"} {
		if err := readStream(strings.NewReader(text), func(string, []byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "more than 8 MB") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is read has been in the stream, and no line of it is a field's name.
func FuzzReadStream(f *testing.F) {
	f.Add([]byte("id: 1\ndata: a\n\n"))
	f.Add([]byte(":\r\ndata\n\nid\x00: \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_ = readStream(bytes.NewReader(text), func(id string, data []byte) error { // whatever it says of it
			if len(data) > len(text) || !bytes.Contains(text, []byte(id)) || strings.ContainsAny(id, "\n\x00") {
				t.Errorf("%q, %q out of %q", id, data, text)
			}
			return nil
		})
	})
}

// A connection that breaks is made again from the last event that came whole.
func TestResultsResume(t *testing.T) {
	var asked []string
	e := NewEngine(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, fmt.Sprintf("%s since %q, last %q", r.URL.Path, r.FormValue("since"), r.Header.Get("Last-Event-ID")))
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, fmt.Sprintf("id: %d\ndata: x\n\nid: 99\ndata: half of", len(asked))) // the client goes
	})))
	done := errors.New("done")
	var got []string
	err := e.Results(t.Context(), "0", true, func(r Result) error {
		if got = append(got, r.ID); len(got) == 2 {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"1", "2"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{`/v1/events/results since "0", last ""`, `/v1/events/results since "0", last "1"`}, asked); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Results(ctx, "", true, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	refuses := NewEngine(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem.Write(w, problem.New(http.StatusNotFound, "no broker"))
	})))
	if err := refuses.Results(t.Context(), "", true, nil); err == nil || err.Error() != "no broker" {
		t.Errorf("refused: %v", err)
	}
}

// Who follows comes back when the engine does, also before its Brokers are
// there, and is told of what will not pass.
func TestResultsResumeBeforeBrokers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []http.HandlerFunc{
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "id: 1\ndata: x\n\n") }, // the client goes
			func(w http.ResponseWriter, _ *http.Request) { problem.Write(w, problem.New(404, "no broker")) },
			func(w http.ResponseWriter, _ *http.Request) { problem.Write(w, problem.New(503, "it stops")) },
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "id: 2\ndata: x\n\n") },
			func(w http.ResponseWriter, _ *http.Request) { problem.Write(w, problem.New(400, "since is no place")) },
		}
		e := NewEngine("")
		e.http = &http.Client{Transport: answering(func(r *http.Request) *http.Response {
			w := httptest.NewRecorder()
			answers[0](w, r)
			answers = answers[1:]
			return w.Result()
		})}
		var got []string
		err := e.Results(t.Context(), "", true, func(r Result) error {
			got = append(got, r.ID)
			return nil
		})
		if err == nil || err.Error() != "since is no place" {
			t.Errorf("in the end: %v", err)
		}
		if diff := cmp.Diff([]string{"1", "2"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// Dead letters come in pages, of one namespace where one is asked for.
func TestDeadLetters(t *testing.T) {
	e := NewEngine(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, id := pageOfDeadLetters, 0
		if r.FormValue("after") != "0" {
			n, id = 2, pageOfDeadLetters
		}
		var letters []string
		for i := range n {
			letters = append(letters, fmt.Sprintf(`{"id":%d,"trigger":"%s/t"}`, id+i+1, []string{"a", "b"}[i%2]))
		}
		fmt.Fprintf(w, `{"items":[%s]}`, strings.Join(letters, ","))
	})))
	all, more, err := e.DeadLetters(t.Context(), "")
	if err != nil || more || len(all) != pageOfDeadLetters+2 || all[len(all)-1].ID != pageOfDeadLetters+2 {
		t.Errorf("%d dead letters, more %v, %v", len(all), more, err)
	}
	e.Namespace = "b"
	if all, _, err := e.DeadLetters(t.Context(), ""); err != nil || len(all) != pageOfDeadLetters/2+1 {
		t.Errorf("%d dead letters of b, %v", len(all), err)
	}
}
