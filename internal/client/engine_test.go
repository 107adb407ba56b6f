package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/scaling"
)

// serve answers on an engine's socket in a fresh data directory.
func serve(t *testing.T, h http.Handler) (dataDir string) {
	t.Helper()
	dataDir, err := os.MkdirTemp("", "aisle") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dataDir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done; _ = os.RemoveAll(dataDir) })
	return dataDir
}

func TestEngine(t *testing.T) {
	mux := http.NewServeMux()
	for path, body := range map[string]string{
		"/v1/services":  `[{"namespace":"default","name":"title","ready":true,"pods":2}]`,
		"/v1/revisions": `[{"name":"title-00001","want":2,"why":"load"}]`,
		"/v1/pods":      `[{"name":"title-00001-bcdfg","pid":7}]`,
		"/v1/version":   `{"version":"v1","engine":"local"}`,
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
	}
	e := NewEngine(serve(t, mux))
	ctx := t.Context()
	services, err := e.Services(ctx)
	check(t, err, []Service{{Namespace: "default", Name: "title", Ready: true, Pods: 2}}, services)
	revisions, err := e.Revisions(ctx)
	check(t, err, []Revision{{Name: "title-00001", Want: 2, Why: "load"}}, revisions)
	pods, err := e.Pods(ctx)
	check(t, err, []Pod{{Name: "title-00001-bcdfg", PID: 7}}, pods)
	version, err := e.Version(ctx)
	check(t, err, Version{Version: "v1", Engine: "local"}, version)
}

func check[T any](t *testing.T, err error, want, got T) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEngineErrors(t *testing.T) {
	answer := func(status int, contentType, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	stale := t.TempDir()
	if err := os.WriteFile(filepath.Join(stale, SocketName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, dataDir string
		want          string
		status        int // of the problem; 0: none
	}{
		{name: "nobody was ever there", dataDir: filepath.Join(t.TempDir(), "x"), want: "start one with: aisle up"},
		{name: "it was killed", dataDir: stale, want: "start one with: aisle up"},
		{name: "a long name", dataDir: "/tmp/" + strings.Repeat("x", 120), want: "choose a shorter --data-dir"},
		{name: "a refusal", dataDir: serve(t, answer(404, problem.ContentType, `{"detail":"there is no pod x"}`)), want: "there is no pod x", status: 404},
		{name: "an unreadable refusal", dataDir: serve(t, answer(500, problem.ContentType, `<`)), want: "500 Internal Server Error", status: 500},
		{name: "not JSON", dataDir: serve(t, answer(200, "text/plain", `<`)), want: "read the engine's answer to /v1/pods"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := NewEngine(test.dataDir).Pods(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v, want %q in it", err, test.want)
			}
			if p, ok := errors.AsType[*problem.Error](err); test.status != 0 && (!ok || p.Status != test.status) {
				t.Errorf("%#v has not status %d", err, test.status)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewEngine(stale).Pods(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestEngineLogs(t *testing.T) {
	dataDir := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s\n", r.URL.Path, r.FormValue("follow"))
		if r.FormValue("follow") == "true" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}))
	var text strings.Builder
	if err := NewEngine(dataDir).Logs(t.Context(), &text, LogsOf("default/title")); err != nil || text.String() != "/v1/logs/default/title false\n" {
		t.Errorf("%q, %v", text.String(), err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/services", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"namespace":"default","name":"title"}]`)
	})
	mux.HandleFunc("GET /v1/logs/{name...}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.PathValue("name")) })
	for name, want := range map[string]string{"title": "other/title", "title-00001": "title-00001", "default/title": "default/title"} {
		e := NewEngine(serve(t, mux))
		e.Namespace = "other"
		text.Reset()
		if err := e.Logs(t.Context(), &text, LogsOf(name)); err != nil || text.String() != want {
			t.Errorf("%s of namespace other: %q, %v; want %q", name, text.String(), err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := NewEngine(dataDir).Logs(ctx, writer(func(p []byte) { cancel() }), LogQuery{Name: "title", Follow: true}); err != nil {
		t.Errorf("followed: %v", err)
	}
}

// TestEngineLogsKilled: an engine that is killed is named, and so is what to do.
func TestEngineLogsKilled(t *testing.T) {
	dataDir := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "a line\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	var text strings.Builder
	err := NewEngine(dataDir).Logs(t.Context(), &text, LogQuery{Name: "title", Follow: true})
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "aisle up") || text.String() != "a line\n" {
		t.Errorf("%q, %v", text.String(), err)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// Bounds are changed as they were read, or whatever they are.
func TestChanging(t *testing.T) {
	set := &scaling.ScalingSchedule{ObjectMeta: metav1.ObjectMeta{UID: "u1", Generation: 2}}
	for name, tt := range map[string]struct {
		read *Scale
		want http.Header
	}{
		"whatever is set": {nil, http.Header{}},
		"nothing was set": {&Scale{}, http.Header{"If-None-Match": {"*"}}},
		"this was set":    {&Scale{ByHand: set}, http.Header{"If-Match": {`"u1.2"`}}},
	} {
		if diff := cmp.Diff(tt.want, Changing{Read: tt.read}.condition()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
