package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative/knativetest"
	"aisle.dev/aisle/internal/client/objects"
)

func environment(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestEngineDir(t *testing.T) {
	for _, c := range []struct {
		name, flag string
		env        []string
		want       string
	}{
		{"flag first", "/f", []string{"AISLE_DATA_DIR", "/e"}, "/f"},
		{"variable", "", []string{"AISLE_DATA_DIR", "/e", "XDG_STATE_HOME", "/x"}, "/e"},
		{"XDG", "", []string{"XDG_STATE_HOME", "/x", "HOME", "/h"}, "/x/aisle"},
		{"a relative XDG is ignored", "", []string{"XDG_STATE_HOME", "x", "HOME", "/h"}, "/h/.local/state/aisle"},
		{"nothing", "", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &app{Streams: Streams{Getenv: environment(c.env...)}, dataDir: c.flag}
			got, err := a.engineDir()
			if got != c.want || (err != nil) != (c.want == "") {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestFindRoot(t *testing.T) {
	dir := t.TempDir()
	manifests := filepath.Join(dir, "project", "manifests", "overlays", "local")
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	// A file named bin is not the folder.
	if err := os.WriteFile(filepath.Join(manifests, "bin"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "project", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := findRoot(manifests)
	if want := filepath.Join(dir, "project"); got != want || err != nil {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if _, err := findRoot(filepath.Join(dir, "absent")); err == nil || !strings.Contains(err.Error(), "-k DIR") {
		t.Errorf("absent: %v", err)
	}
}

func TestHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := holder(l.Addr().String()); !strings.HasSuffix(got, fmt.Sprintf(", process %d", os.Getpid())) {
		t.Errorf("holder of our own port: %q", got)
	}
	for _, address := range []string{"", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"} {
		if got := holder(address); got != "" {
			t.Errorf("holder(%q) = %q", address, got)
		}
	}
}

func TestListening(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:A0B0 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
garbage
`
	got := map[string]bool{}
	listening(strings.NewReader(table), 8080, got)
	if diff := cmp.Diff(map[string]bool{"111": true}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A read that nobody will answer ends when it is told to.
func TestStoppable(t *testing.T) {
	r, w := io.Pipe()
	s := newStoppable(r)
	go func() { _, _ = w.Write([]byte("ab")) }() // ends with the pipe
	buf := make([]byte, 10)
	if n, err := s.Read(buf); string(buf[:n]) != "ab" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	ended := make(chan error)
	go func() {
		_, err := s.Read(buf)
		ended <- err
	}()
	s.stop()
	if err := <-ended; err != io.EOF {
		t.Errorf("a stopped read: %v", err)
	}
	if _, err := s.Read(buf); err != io.EOF {
		t.Errorf("after the stop: %v", err)
	}
	_ = w.Close() // lets the goroutine go
}

func TestPodsLine(t *testing.T) {
	pods := []client.Pod{{Service: "title", Phase: "Ready"}, {Service: "photo", Phase: "Draining"}, {Service: "photo", Phase: "Ready"}, {Service: "photo", Phase: "Ready"}}
	if got, want := podsLine(pods), "photo 1 draining, photo 2 ready, title 1 ready"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSource(t *testing.T) {
	for name, want := range map[string]string{"-": "/aisle/send", "a/b c.csv": "/aisle/send/b-c.csv", "ü%.csv": "/aisle/send/--.csv"} {
		if got := source(name); got != want {
			t.Errorf("source(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestSaid(t *testing.T) {
	all := []category.Leg{
		{Name: "a", Outcome: category.Answered, Label: "Shirts", Confidence: 0.5},
		{Name: "b", Outcome: category.Skipped}, {Name: "c", Outcome: category.LegFailed}, {Name: "e", Outcome: category.Closed},
	}
	for name, want := range map[string]screen.Cell{
		"a": {Text: "0.50 Shirts", Colour: screen.Dim}, "b": {Text: "-", Colour: screen.Dim}, "c": {Text: "failed", Colour: screen.Red}, "d": {}, "e": {Text: "closed", Colour: screen.Yellow},
	} {
		if diff := cmp.Diff(want, said(all, name, "Shirts")); diff != "" {
			t.Errorf("leg %s (-want +got):\n%s", name, diff)
		}
	}
}

// A watch on a pipe tells what changed, not that time passes.
func TestWatchOnAPipe(t *testing.T) {
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	lists := [][]client.Pod{
		{{Name: "a", Phase: "Starting", CPUSeconds: 1}}, {{Name: "a", Phase: "Starting", CPUSeconds: 2}}, {{Name: "a", Phase: "Ready", CPUSeconds: 3}},
	}
	place := &changing{lists: lists, end: cancel}
	a := &app{Streams: Streams{Getenv: environment()}, out: screen.Screen{Writer: &out, Width: 200}}
	if err := a.watch(ctx, place, objects.Pod, getting{format: "table"}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "NAME"); n != 2 {
		t.Errorf("the list was written %d times, want 2:\n%s", n, out.String())
	}
}

// changing answers with one list after the other, then ends.
type changing struct {
	place
	lists [][]client.Pod
	end   func()
}

func (c *changing) Pods(context.Context) ([]client.Pod, error) {
	if len(c.lists) == 0 {
		c.end()
		return nil, context.Canceled
	}
	next := c.lists[0]
	c.lists = c.lists[1:]
	return next, nil
}

// With -o name, json or yaml a watch tells each object as it changes.
func TestWatchObjects(t *testing.T) {
	s := new(knativetest.Server)
	put := func(name string, generation int) {
		s.Put("serving.knative.dev/services", knativetest.Object{"metadata": knativetest.Object{"name": name, "namespace": "default", "generation": generation}})
	}
	put("title", 1)
	put("photo", 1)
	srv := httptest.NewServer(s)
	defer srv.Close()
	c, err := objects.New(&objects.Config{Host: srv.URL}, srv.Client(), 10*time.Second, func(err error, _ string, _ objects.Kind) error { return err })
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ format, want string }{
		{"name", "service.serving.knative.dev/title\nservice.serving.knative.dev/title\n"},
		{"yaml", "---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  generation: 1\n"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var out bytes.Buffer
		a := &app{Streams: Streams{Getenv: environment()}, out: screen.Screen{Width: 200}}
		seen := 0
		a.out.Writer = writer(func(p []byte) {
			if out.Write(p); bytes.Contains(p, []byte("title")) {
				if seen++; seen == 2 {
					cancel()
				} else {
					put("photo", 2) // another one, which is not asked for
					put("title", 2)
				}
			}
		})
		err := a.watch(ctx, keeper{objects: c}, objects.Service, getting{format: test.format, names: []ref{{kind: objects.Service, name: "title"}}})
		cancel()
		if err != nil || !strings.HasPrefix(out.String(), test.want) || strings.Contains(out.String(), "photo") {
			t.Errorf("%s: %v:\n%s", test.format, err, out.String())
		}
		put("title", 1)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// keeper is a place of which only the objects are known.
type keeper struct {
	place
	objects *objects.Client
}

func (k keeper) Objects() *objects.Client { return k.objects }

func TestIgnoredIsToldOnce(t *testing.T) {
	var out bytes.Buffer
	a := &app{err: screen.Screen{Writer: &out, Width: 200}}
	log, told := a.logger(false)
	for _, service := range []string{"a", "b"} {
		log.Warn("ignored on one machine", "object", service, "field", "spec.containers[0].resources", "reason", "nothing is limited")
	}
	log.Info("not worth it")
	told()
	told()
	log.Warn("a pod died")
	got, last, _ := strings.Cut(out.String(), "time=")
	if diff := cmp.Diff("Ignored on one machine:\n  resources: nothing is limited\n", got); diff != "" || !strings.Contains(last, `msg="a pod died"`) {
		t.Errorf("%s, then %q", diff, last)
	}
}
