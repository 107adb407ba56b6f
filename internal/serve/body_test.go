package serve_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/serve"
)

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if _, err := zw.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func deflated(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := zlib.NewWriter(&b)
	if _, err := zw.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadBody(t *testing.T) {
	const max = 1000
	full := bytes.Repeat([]byte("x"), max)
	good := zipped(t, []byte("hello"))
	tests := []struct {
		name     string
		body     []byte
		encoding string
		length   int64 // Content-Length; 0 means the body's
		status   int   // 0 means accepted
		want     string
	}{
		{name: "plain", body: []byte("hello"), want: "hello"},
		{name: "empty", body: []byte{}, want: ""},
		{name: "identity", body: []byte("hello"), encoding: "identity", want: "hello"},
		{name: "gzip", body: good, encoding: "gzip", want: "hello"},
		{name: "gzip, other spelling", body: good, encoding: "X-GZIP", want: "hello"},
		{name: "deflate", body: deflated(t, []byte("hello")), encoding: "deflate", want: "hello"},
		{name: "deflate, bomb", body: deflated(t, make([]byte, 8<<20)), encoding: "deflate", length: -1, status: 413},
		{name: "deflate, truncated", body: deflated(t, []byte("hello"))[:8], encoding: "deflate", status: 400},
		{name: "not deflate", body: []byte("hello, world"), encoding: "deflate", status: 400},
		{name: "unknown length", body: []byte("hello"), length: -1, want: "hello"},
		{name: "announced longer than it is", body: []byte("hello"), length: 900, want: "hello"},
		{name: "as long as allowed", body: full, want: string(full)},
		{name: "as long as allowed, gzip", body: zipped(t, full), encoding: "gzip", want: string(full)},
		{name: "one too long", body: append(full, 'x'), status: 413},
		{name: "one too long, unknown length", body: append(full, 'x'), length: -1, status: 413},
		{name: "one too long after decompression", body: zipped(t, append(full, 'x')), encoding: "gzip", status: 413},
		{name: "bomb", body: zipped(t, make([]byte, 8<<20)), encoding: "gzip", length: -1, status: 413},
		{name: "announced too long", body: []byte("hello"), length: 1 << 40, status: 413},
		{name: "brotli", body: []byte("hello"), encoding: "br", status: 415},
		{name: "twice gzip", body: good, encoding: "gzip, gzip", status: 415},
		{name: "not gzip", body: []byte("hello, world"), encoding: "gzip", status: 400},
		{name: "gzip, empty", body: []byte{}, encoding: "gzip", status: 400},
		{name: "gzip, truncated", body: good[:len(good)-5], encoding: "gzip", status: 400},
		{name: "gzip, bad checksum", body: append(bytes.Clone(good[:len(good)-8]), 1, 2, 3, 4, 5, 0, 0, 0), encoding: "gzip", status: 400},
		{name: "gzip, trailing junk", body: append(bytes.Clone(good), "junk and more junk"...), encoding: "gzip", status: 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", bytes.NewReader(tt.body))
			if tt.length != 0 {
				r.ContentLength = tt.length
			}
			r.Header.Set("Content-Encoding", tt.encoding)
			w := httptest.NewRecorder()
			got, err := serve.ReadBody(w, r, max)
			if tt.status == 0 {
				if err != nil || string(got) != tt.want {
					t.Fatalf("got %q, %v; want %q", got, err, tt.want)
				}
				return
			}
			if err == nil {
				t.Fatalf("accepted as %.40q", got)
			}
			if s := problem.Status(err); s != tt.status {
				t.Errorf("status %d (%v), want %d", s, err, tt.status)
			}
			if tt.status == 415 && w.Header().Get("Accept-Encoding") != "gzip, deflate" {
				t.Error("a 415 does not say what is accepted")
			}
		})
	}
}

// A caller that stops in the middle of its body gets a 400, and one that is
// refused gets its problem over the wire.
func TestReadBodyOverTheWire(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		data, err := serve.ReadBody(w, r, 1000)
		if err != nil {
			problem.Write(w, err)
			return
		}
		_, _ = w.Write(data)
	}, nil)
	for _, h2 := range []bool{false, true} {
		c := client(t, h2)
		resp, err := c.Post(s.url, "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "hello" {
			t.Errorf("h2 %v: echoed %q", h2, body)
		}
		resp, err = c.Post(s.url, "text/plain", strings.NewReader(strings.Repeat("x", 1001)))
		if err != nil {
			t.Fatal(err)
		}
		body, _ = io.ReadAll(resp.Body)
		resp.Body.Close()
		if m := problemOf(t, string(body)); resp.StatusCode != 413 || m["error"] == nil {
			t.Errorf("h2 %v: %d %s", h2, resp.StatusCode, body)
		}
	}
}

// A caller that sends its body too slowly is told so, though nothing but the
// deadline ends the read.
func TestSlowBody(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := serve.ReadBody(w, r.WithContext(ctx), 1000)
		problem.Write(w, err)
	}, nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(body), "in time") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// A bomb costs no more memory than the limit allows, whatever it expands to.
func TestBombMemory(t *testing.T) {
	bomb := bytes.Repeat(zipped(t, make([]byte, 1<<20)), 256) // members of a megabyte each
	r := httptest.NewRequest("POST", "/", bytes.NewReader(bomb))
	r.Header.Set("Content-Encoding", "gzip")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := serve.ReadBody(httptest.NewRecorder(), r, 4<<20)
	runtime.ReadMemStats(&after)
	if problem.Status(err) != 413 {
		t.Fatalf("got %v, want a 413", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 12<<20 {
		t.Errorf("giving up a bomb at 4 MiB allocated %d bytes", used)
	}
}

func FuzzReadBody(f *testing.F) {
	f.Add([]byte("hello"), false)
	f.Add(zipped(f, []byte("hello")), true)
	f.Add(zipped(f, make([]byte, 5000)), true)
	f.Fuzz(func(t *testing.T, body []byte, zip bool) {
		const max = 1000
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		if zip {
			r.Header.Set("Content-Encoding", "gzip")
		}
		got, err := serve.ReadBody(httptest.NewRecorder(), r, max)
		switch {
		case err == nil && len(got) > max:
			t.Fatalf("%d bytes accepted", len(got))
		case err != nil && (problem.Status(err) < 400 || problem.Status(err) > 499):
			t.Fatalf("a bad body is answered with %d: %v", problem.Status(err), err)
		case !zip && len(body) <= max && (err != nil || !bytes.Equal(got, body)):
			t.Fatalf("plain body changed: %v", err)
		}
	})
}
