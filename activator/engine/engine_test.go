package engine

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBackOff(t *testing.T) {
	var got []time.Duration
	for n := range 10 {
		got = append(got, backOff(n))
	}
	want := []time.Duration{0, 0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if backOff(1<<40) != maxBackOff {
		t.Error("the pause overflows")
	}
}

func TestPodNames(t *testing.T) {
	for range 100 {
		if name := podName("title-00001"); !isPodOf(name, "title-00001") || isPodOf(name, "title") || isPodOf(name, "title-0000") {
			t.Fatalf("%s is not known as a pod of title-00001 alone", name)
		}
	}
	for _, name := range []string{"", "title-00001", "title-00001-", "title-00001-bcdf", "title-00001-bcdfa", "title-00001-bcd/.", "other-00001-bcdfg"} {
		if isPodOf(name, "title-00001") {
			t.Errorf("%q is taken for a pod", name)
		}
	}
}

func TestProgressDeadline(t *testing.T) {
	for value, want := range map[string]time.Duration{"": defaultProgress, "30s": 30 * time.Second, "-1s": defaultProgress, "soon": defaultProgress} {
		if got := progressDeadline(map[string]string{"serving.knative.dev/progress-deadline": value}); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

func TestState(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want state
		err  string
	}{
		"none":     {"", state{Layout: layout}, ""},
		"ours":     {`{"layout":2,"counted":{"default/title":7}}`, state{Layout: layout, Counted: map[string]int64{"default/title": 7}}, ""},
		"older":    {`{"layout":1,"services":{"default/title":{"generation":7,"digest":"a","initialised":true}}}`, state{Layout: layout, Counted: map[string]int64{"default/title": 7}}, ""},
		"newer":    {`{"layout":3}`, state{}, "layout 3"},
		"no state": {"{", state{}, "move the data directory away"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if test.text != "" {
				if err := os.WriteFile(filepath.Join(dir, stateName), []byte(test.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // what was brought here stays
				got, err := openState(dir)
				if test.err != "" {
					if err == nil || !strings.Contains(err.Error(), test.err) {
						t.Errorf("%v, want %q in it", err, test.err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || len(left) > 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	held, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("locked twice: %v", err)
	}
	_ = held.Close()
	again, err := lock(dir)
	if err != nil {
		t.Fatalf("not free after Close: %v", err)
	}
	_ = again.Close()
}

func TestDataDirectoryIsPrivate(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		ok   bool
	}{"empty": {"", true}, "an engine's": {lockName, true}, "somebody's": {"letters.txt", false}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if test.file != "" {
				if err := os.WriteFile(filepath.Join(dir, test.file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			held, err := lock(dir)
			if (err == nil) != test.ok {
				t.Fatalf("taken: %v", err)
			}
			info, statErr := os.Stat(dir)
			if statErr != nil {
				t.Fatal(statErr)
			}
			want := os.FileMode(0o755)
			if err == nil {
				_ = held.Close()
				want = 0o700
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("mode %o, want %o", got, want)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	root := t.TempDir()
	manifests := filepath.Join(root, "m")
	if err := os.Mkdir(manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(service string) {
		t.Helper()
		for name, text := range map[string]string{
			"kustomization.yaml": "resources: [service.yaml]\n",
			"service.yaml":       "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: one}\nspec: {template: " + service + "}\n",
		} {
			if err := os.WriteFile(filepath.Join(manifests, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	opts := Options{Manifests: manifests, Root: root, DataDir: filepath.Join(root, "data")}
	for name, test := range map[string]struct{ service, want string }{
		"a misspelt field": {`{spec: {containers: [{image: "ko://aisle.dev/aisle/functions/f", comand: [x]}]}}`, "comand"},
		"not built":        {`{spec: {containers: [{image: "ko://aisle.dev/aisle/functions/f"}]}}`, "make build"},
		"hpa":              {`{metadata: {annotations: {autoscaling.knative.dev/class: hpa.autoscaling.knative.dev}}, spec: {containers: [{image: "ko://aisle.dev/aisle/functions/f"}]}}`, "kpa.autoscaling.knative.dev"},
	} {
		t.Run(name, func(t *testing.T) {
			write(test.service)
			if _, err := New(opts); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q in it", err, test.want)
			}
			if _, err := os.Stat(opts.DataDir); !os.IsNotExist(err) {
				t.Error("New has written")
			}
		})
	}
	if _, err := New(Options{Manifests: manifests}); err == nil {
		t.Error("made without a root and a data directory")
	}
}

// A folder may have Brokers and Triggers alone: their Services come by hand.
func TestNewWithoutServices(t *testing.T) {
	root := t.TempDir()
	for text, ok := range map[string]bool{eventing: true, settings: false} {
		manifests := t.TempDir()
		for name, text := range map[string]string{"kustomization.yaml": "resources: [all.yaml]\n", "all.yaml": text} {
			if err := os.WriteFile(filepath.Join(manifests, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := New(Options{Manifests: manifests, Root: root, DataDir: filepath.Join(root, "data")}); (err == nil) != ok {
			t.Errorf("of %s: %v", text, err)
		}
	}
}

// Whatever Host comes, it leads to the service of that name or is misdirected.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"title.default.localhost", "TITLE.default.localhost.:8080", "[::1]:80", "", ":", "title.default.localhost:x:y", "engine.localhost"} {
		f.Add(host)
	}
	routes := new(atomic.Pointer[table])
	routes.Store(&table{})
	p := &proxy{routes: routes, cross: http.NewCrossOriginProtection(), own: http.NotFoundHandler()}
	f.Fuzz(func(t *testing.T, host string) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Host = host
		w := httptest.NewRecorder()
		p.ServeHTTP(w, req) // without a route, so that only a wrong one could answer
		want := http.StatusMisdirectedRequest
		if bareHost(host) == ownHost {
			want = http.StatusNotFound
		}
		if w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
		if bare := bareHost(host); bare != strings.ToLower(bare) {
			t.Errorf("%q is not in lower case", bare)
		}
	})
}

func TestHosts(t *testing.T) {
	if got := hostOf("default", "title", ""); got != "title.default.localhost" {
		t.Errorf("%s", got)
	}
	if got := hostOf("default", "title", "next"); got != "next-title.default.localhost" {
		t.Errorf("%s", got)
	}
	for host, want := range map[string]string{
		"Title.Default.localhost":              "title.default",
		"title.default.localhost.":             "title.default",
		"title.default.localhost:80":           "title.default",
		"title.default.localhost.:8080":        "title.default",
		"title.default.svc.cluster.local":      "title.default",
		"next-title.default.svc.cluster.local": "next-title.default",
		"title.default":                        "",
		"[::1]:80":                             "",
		"localhost":                            "",
	} {
		if got := routed(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

// A gate that has been shut lets nobody in, and is shut only while nobody is
// within, whoever comes and goes at the same moment.
func TestGate(t *testing.T) {
	var g gate
	var within, wrong atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10_000 {
				if !g.enter() {
					return
				}
				within.Add(1)
				if g.n.Load() < 0 {
					wrong.Add(1)
				}
				within.Add(-1)
				g.leave()
			}
		})
	}
	all.Go(func() {
		for !g.shutEmpty() {
			runtime.Gosched()
		}
		if within.Load() != 0 {
			wrong.Add(1)
		}
	})
	all.Wait()
	if wrong.Load() != 0 || g.enter() {
		t.Errorf("%d were within a gate that was shut", wrong.Load())
	}
	var held gate
	if !held.enter() || held.shutEmpty() {
		t.Error("shut although somebody is within")
	}
	held.shut()
	held.shut()
	held.leave()
	if held.enter() || held.n.Load() != shut {
		t.Errorf("open again: %d", held.n.Load())
	}
}
