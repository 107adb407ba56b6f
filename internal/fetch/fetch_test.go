package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"aisle.dev/aisle/internal/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server that a Fetcher of these options may ask.
func serve(t *testing.T, o Options, h http.HandlerFunc) (*Fetcher, string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	o.Allow = append(o.Allow, server.Listener.Addr().String())
	return newFetcher(t, o), server.URL
}

func TestAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		status int // 0: fetched
		want   string
		retry  time.Duration
	}{
		"a picture": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/png; q=1")
			_, _ = io.WriteString(w, "ok")
		}, 0, "ok", 0},
		"bytes of a store": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "binary/octet-stream")
			_, _ = io.WriteString(w, "ok")
		}, 0, "ok", 0},
		"of no type": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "ok")
		}, 0, "ok", 0},
		"a page":                {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, 422, `gives a "text/html"`, 0},
		"compressed":            {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "gzip") }, 422, `Content-Encoding "gzip"`, 0},
		"nothing":               {func(http.ResponseWriter, *http.Request) {}, 422, "gives nothing", 0},
		"no content":            {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 422, "answered 204", 0},
		"not there":             {http.NotFound, 422, "answered 404", 0},
		"forbidden":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, 422, "answered 403", 0},
		"not modified, unasked": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, 422, "answered 304", 0},
		"too many":              {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "7"); w.WriteHeader(429) }, 503, "answered 429", 7 * time.Second},
		"a long wait": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "99999999999999")
			w.WriteHeader(503)
		}, 503, "answered 503", maxWait},
		"an hour": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(503)
		}, 503, "answered 503", maxWait},
		"broken":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 503, "answered 500", retryAfter},
		"too large, as it says": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "101") }, 422, "larger than 100 bytes", 0},
		"too large, unsaid": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			for range 101 {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
			}
		}, 422, "larger than 100 bytes", 0},
		"just large enough": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			_, _ = io.WriteString(w, strings.Repeat("x", 100))
		}, 0, strings.Repeat("x", 100), 0},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			w.Header().Set("Content-Length", "50")
			_, _ = io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		}, 503, "gives no answer", retryAfter},
		"silent": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 503, "has not answered within", retryAfter},
		"trickles": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, 503, "has not answered within", retryAfter},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{MaxBytes: 100, Types: []string{"image/"}}
			if name == "silent" || name == "trickles" {
				o.Timeout = 50 * time.Millisecond
			}
			var outcome string
			o.Observe = func(s string, _ time.Duration) { outcome = s }
			f, url := serve(t, o, tt.answer)
			data, err := f.Get(t.Context(), url+"/a.png")
			e, _ := errors.AsType[*problem.Error](err)
			switch {
			case tt.status == 0:
				if err != nil || string(data) != tt.want || outcome != "fetched" {
					t.Errorf("%q, %v, %s", data, err, outcome)
				}
			case e == nil || e.Status != tt.status || !strings.Contains(e.Detail, tt.want) || e.RetryAfter != tt.retry:
				t.Errorf("%+v; want %d %q after %s", err, tt.status, tt.want, tt.retry)
			case outcome != map[int]string{422: "refused", 503: "failed"}[tt.status]:
				t.Errorf("outcome %s", outcome)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	f, url := newFetcher(t, Options{Allow: []string{server.Listener.Addr().String()}}), server.URL
	server.Close()
	_, err := f.Get(t.Context(), url)
	if e, ok := errors.AsType[*problem.Error](err); !ok || e.Status != 503 || e.RetryAfter == 0 || strings.Contains(e.Detail, "dial") {
		t.Errorf("%v", err)
	}
}

func TestCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of the handshake
	server.StartTLS()
	defer server.Close()
	_, err := newFetcher(t, Options{Allow: []string{server.Listener.Addr().String()}}).Get(t.Context(), server.URL)
	refused(t, err, "certificate")
}

func TestRevalidation(t *testing.T) {
	for name, tt := range map[string]struct {
		head     map[string]string
		requests int64
		outcomes string
	}{
		"an ETag":           {map[string]string{"ETag": `"1"`}, 3, "fetched unchanged unchanged"},
		"fresh":             {map[string]string{"Cache-Control": "public, max-age=60"}, 1, "fetched cached cached"},
		"fresh, with a tag": {map[string]string{"Cache-Control": "max-age=60", "ETag": `"1"`}, 1, "fetched cached cached"},
		"fresh no longer":   {map[string]string{"Cache-Control": "max-age=60", "Age": "61"}, 3, "fetched fetched fetched"},
		"not to be kept":    {map[string]string{"Cache-Control": "no-store, max-age=60", "ETag": `"1"`}, 3, "fetched fetched fetched"},
		"to be asked about": {map[string]string{"Cache-Control": "max-age=60, no-cache", "ETag": `"1"`}, 3, "fetched unchanged unchanged"},
		"neither":           {nil, 3, "fetched fetched fetched"},
		"a tag too long":    {map[string]string{"ETag": `"` + strings.Repeat("1", maxETag) + `"`}, 3, "fetched fetched fetched"},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			var outcomes []string
			o := Options{Observe: func(s string, _ time.Duration) { outcomes = append(outcomes, s) }}
			f, url := serve(t, o, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				for k, v := range tt.head {
					w.Header().Set(k, v)
				}
				if tag := tt.head["ETag"]; tag != "" && r.Header.Get("If-None-Match") == tag {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				_, _ = io.WriteString(w, "bytes")
			})
			for range 3 {
				if data, err := f.Get(t.Context(), url); err != nil || string(data) != "bytes" {
					t.Fatalf("%q, %v", data, err)
				}
			}
			if got := strings.Join(outcomes, " "); requests.Load() != tt.requests || got != tt.outcomes {
				t.Errorf("%d requests, %s; want %d, %s", requests.Load(), got, tt.requests, tt.outcomes)
			}
		})
	}
}

// TestChanged: a new ETag brings new bytes.
func TestChanged(t *testing.T) {
	var version atomic.Int64
	f, url := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		tag := fmt.Sprintf(`"%d"`, version.Load())
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, version.Load())
	})
	for _, want := range []string{"0", "0", "1", "1"} {
		if want == "1" {
			version.Store(1)
		}
		if data, err := f.Get(t.Context(), url); err != nil || string(data) != want {
			t.Errorf("%q, %v; want %s", data, err, want)
		}
	}
}

func TestCacheBounds(t *testing.T) {
	var c cache
	now := time.Now()
	head := http.Header{"Cache-Control": {"max-age=10"}}
	for i := range 2 * maxEntries {
		c.put(fmt.Sprint(i), []byte("small"), "", head, now)
	}
	if len(c.entries) != maxEntries || c.order.Len() != maxEntries {
		t.Errorf("%d entries", len(c.entries))
	}
	if e, _ := c.get("0", now); e != nil {
		t.Error("the oldest is still there")
	}
	if e, fresh := c.get(fmt.Sprint(maxEntries), now); e == nil || !fresh { // and used
		t.Error("the newest are not there")
	}
	for i := range 10 {
		c.put(fmt.Sprint("large ", i), make([]byte, maxEntry/2), "", head, now)
	}
	if c.bytes > maxCached || len(c.entries) == 0 {
		t.Errorf("%d bytes in %d entries", c.bytes, len(c.entries))
	}
	c.put("too large", make([]byte, maxEntry), "", head, now)
	if e, _ := c.get("too large", now); e != nil {
		t.Error("a quarter of the cache is one entry")
	}
	c.put("tag", []byte("x"), `"1"`, head, now)
	if e, fresh := c.get("tag", now.Add(10*time.Second)); e == nil || fresh {
		t.Error("ten seconds on it is to be asked about")
	}
	for _, url := range []string{"tag", "tag"} { // put twice, then not to be kept
		c.put(url, []byte("y"), "", http.Header{"Cache-Control": {"no-store"}}, now)
	}
	if e, _ := c.get("tag", now); e != nil {
		t.Error("kept against the server's word")
	}
}

// TestTogether: who asks for the same at the same time shares one request, and
// one who goes away takes it from nobody.
func TestTogether(t *testing.T) {
	var requests atomic.Int64
	arrived, release := make(chan struct{}), make(chan struct{})
	f, url := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			close(arrived)
		}
		<-release
		_, _ = io.WriteString(w, "bytes")
	})
	leaving, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { _, err := f.Get(leaving, url); gone <- err }()
	<-arrived
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for range 8 {
		wg.Go(func() {
			started <- struct{}{}
			if data, err := f.Get(t.Context(), url); err != nil || string(data) != "bytes" {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
	for range 8 {
		<-started
	}
	close(release)
	wg.Wait()
	// Those that came after the first flight had landed share another.
	if n := requests.Load(); n > 8 {
		t.Errorf("%d requests", n)
	}
}

// TestFull: what is under way is bounded, in URLs and in bytes.
func TestFull(t *testing.T) {
	f, url := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "bytes") })
	full := func(want string) {
		t.Helper()
		_, err := f.Get(t.Context(), url)
		if e, ok := errors.AsType[*problem.Error](err); !ok || e.Status != 503 || !strings.Contains(e.Detail, want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	for range maxFlights {
		f.running <- struct{}{}
	}
	full("too many URLs")
	for range maxFlights {
		<-f.running
	}
	if !f.held.TryAcquire(maxHeld) {
		t.Fatal("bytes were not given back")
	}
	full("too much is being fetched")
	f.held.Release(maxHeld)
	if _, err := f.Get(t.Context(), url); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{MaxBytes: -1}, {MaxBytes: maxHeld + 1}, {Timeout: -1}, {Redirects: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestInline(t *testing.T) {
	for name, tt := range map[string]struct {
		url, data, want string
		ok              bool
	}{
		"another URL":      {url: "http://example.com/"},
		"base64":           {url: "data:image/png;base64,aGk=", data: "hi", ok: true},
		"without padding":  {url: "data:image/png;base64,aGk", data: "hi", ok: true},
		"escaped":          {url: "DATA:;BASE64,aGk%3D", data: "hi", ok: true},
		"plain":            {url: "data:,h%69", data: "hi", ok: true},
		"nothing":          {url: "data:,", ok: true},
		"no comma":         {url: "data:image/png;base64", ok: true, want: "no comma"},
		"no base64":        {url: "data:image/png;base64,!!", ok: true, want: "not base64"},
		"a broken percent": {url: "data:,%zz", ok: true, want: "broken percent sign"},
	} {
		t.Run(name, func(t *testing.T) {
			data, ok, err := Inline(tt.url)
			if string(data) != tt.data || ok != tt.ok {
				t.Errorf("%q, %v", data, ok)
			}
			if tt.want != "" {
				refused(t, err, tt.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzInline(f *testing.F) {
	f.Add("data:image/png;base64,aGk=")
	f.Add("data:;base64,====")
	f.Fuzz(func(t *testing.T, raw string) {
		data, ok, err := Inline(raw)
		if len(data) > len(raw) || !ok && err != nil {
			t.Fatalf("%d bytes, %v, %v", len(data), ok, err)
		}
		if err != nil {
			refused(t, err, "data: URL")
		}
	})
}
