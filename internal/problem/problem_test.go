package problem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestWrite(t *testing.T) {
	full := &Error{Status: 503, Detail: "the queue is full; try again", RetryAfter: 1200 * time.Millisecond, Extra: map[string]any{"legs": []string{"photo"}}}
	for _, tt := range []struct {
		name   string
		err    error
		status int
		says   string
		retry  string
	}{
		{"refusal", New(422, "no title"), 422, "no title", ""},
		{"wrapped", fmt.Errorf("read: %w", New(400, "not JSON")), 400, "not JSON", ""},
		{"overload rounds Retry-After up", full, 503, "queue is full", "2"},
		{"body too large", fmt.Errorf("read: %w", &http.MaxBytesError{Limit: 10}), 413, "larger than 10 bytes", ""},
		{"deadline", fmt.Errorf("run: %w", context.DeadlineExceeded), 504, "deadline", ""},
		{"anything else keeps its secret", errors.New("dial 10.0.0.1: password wrong"), 500, "internal error", ""},
		{"an Extra that cannot be written", &Error{Status: 422, Detail: "why", Extra: map[string]any{"f": func() {}}}, 422, "why", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			Handler(func(http.ResponseWriter, *http.Request) error { return tt.err }, nil).ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
			var body struct {
				Status        int
				Detail, Error string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatalf("%q: %v", w.Body, err)
			}
			if w.Code != tt.status || body.Status != tt.status || !strings.Contains(body.Detail, tt.says) || body.Error != body.Detail {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if got := w.Header().Get("Retry-After"); got != tt.retry {
				t.Errorf("Retry-After %q, want %q", got, tt.retry)
			}
			if strings.Contains(w.Body.String(), "password") {
				t.Errorf("leaks: %s", w.Body)
			}
		})
	}
}

func TestHandlerRecovers(t *testing.T) {
	var reported error
	h := Handler(func(http.ResponseWriter, *http.Request) error { panic("a secret") }, func(_ *http.Request, err error) { reported = err })
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 || !strings.Contains(w.Body.String(), "internal error") || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if reported == nil || !strings.Contains(reported.Error(), "a secret") || !strings.Contains(reported.Error(), "TestHandlerRecovers") {
		t.Errorf("reported %v, want the panic and where it was", reported)
	}
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("ErrAbortHandler became %v", v)
		}
	}()
	Handler(func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }, nil).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
}

func TestHandlerReportsFaultsOnly(t *testing.T) {
	var reported []error
	report := func(_ *http.Request, err error) { reported = append(reported, err) }
	for _, err := range []error{New(422, "no"), New(503, "full"), errors.New("bug"), nil} {
		Handler(func(w http.ResponseWriter, _ *http.Request) error { return err }, report).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	if len(reported) != 1 || reported[0].Error() != "bug" {
		t.Errorf("reported %v, want the bug alone", reported)
	}
}
