package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/ortlib"
)

// TestServingPage runs the lines of docs/serving.md, and compares what they
// print with what the page says that they do.
func TestServingPage(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT TESTED: %v", err)
		}
	}
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "serving.md"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	logs, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, environment(map[string]string{"MODEL": filepath.Join("..", "..", "models", "title"), "HOST": "127.0.0.1", "PORT": "0", "ONNXRUNTIME_LIB": lib}), w)
		w.Close()
	}()
	line, err := bufio.NewReader(logs).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no log line (%v): %v", err, <-done)
	}
	go func() { _, _ = io.Copy(io.Discard, logs) }()
	var ready struct{ Address string }
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	_, port, err := net.SplitHostPort(ready.Address)
	if err != nil {
		t.Fatal(err)
	}

	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```\n```text\n(.*?)```\n").FindAllSubmatch(page, -1)
	if n := strings.Count(string(page), "```sh\n"); len(blocks) != n || n == 0 {
		t.Errorf("%d of %d examples say what they print", len(blocks), n)
	}
	here := strings.NewReplacer("localhost:8080", "127.0.0.1:"+port, "/tmp/answer", filepath.Join(t.TempDir(), "answer"))
	for _, b := range blocks {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", here.Replace(string(b[1])))
		out, err := cmd.CombinedOutput()
		want := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(string(b[2]))), `\.\.\.`, `.*`)
		got := strings.TrimSpace(strings.ReplaceAll(string(out), "\r", ""))
		if err != nil || !regexp.MustCompile("^"+want+"$").MatchString(got) {
			t.Errorf("%s\n%v: %s\nwant %s", b[1], err, got, b[2])
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("run returned %v", err)
	}
}
