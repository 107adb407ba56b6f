package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const onlyTitle = `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  legs: [{name: title, service: title}]
  reducer: {type: logpool}
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "composition.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigurationErrorsAtStart(t *testing.T) {
	good := write(t, onlyTitle)
	for _, tt := range []struct {
		name string
		env  map[string]string
		says string
	}{
		{"no composition", nil, "COMPOSITION is not set"},
		{"missing composition", map[string]string{"COMPOSITION": "/nowhere/composition.yaml"}, "COMPOSITION names it"},
		{"misspelt field", map[string]string{"COMPOSITION": write(t, strings.Replace(onlyTitle, "legs:", "leggs:", 1))}, `line 5, column 3: spec.leggs: unknown field "leggs"`},
		{"bad leg url", map[string]string{"COMPOSITION": good, "LEG_URL": "http://{servcie}"}, "LEG_URL"},
		{"bad max inflight", map[string]string{"COMPOSITION": good, "MAX_INFLIGHT": "many"}, "MAX_INFLIGHT"},
		{"bad log level", map[string]string{"COMPOSITION": good, "LOG_LEVEL": "loud"}, "LOG_LEVEL"},
		{"bad namespace", map[string]string{"COMPOSITION": good, "NAMESPACE": "a/b"}, "NAMESPACE"},
		{"bad port", map[string]string{"COMPOSITION": good, "PORT": "http-alt-99"}, "PORT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), func(k string) string { return tt.env[k] }, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func TestServesUntilTold(t *testing.T) {
	env := map[string]string{"COMPOSITION": write(t, onlyTitle), "PORT": "0"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	logs, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, func(k string) string { return env[k] }, w)
		_ = w.Close()
		done <- err
	}()
	var ready struct{ Address string }
	in := bufio.NewReader(logs)
	line, err := in.ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &ready) != nil || ready.Address == "" {
		t.Fatalf("%v %s", err, line)
	}
	go func() { _, _ = io.Copy(io.Discard, in) }() // ends when run closes the pipe
	port := ready.Address[strings.LastIndex(ready.Address, ":"):]
	for path, says := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/": `"name":"products"`, "/metrics": "aisle_composer_in_flight"} {
		resp, err := http.Get("http://127.0.0.1" + port + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), says) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
