package engine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"aisle.dev/aisle/internal/manifest"
)

// A caller that stops in the middle of sending or reading holds a place in a
// pod, and counts as load, no longer than the service's timeout.
func TestStalledCaller(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/read":
			_, _ = io.Copy(io.Discard, req.Body)
		case "/early":
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			_, _ = io.WriteString(w, "too large")
		case "/large":
			for req.Context().Err() == nil { // more than all buffers on the way
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(backend.Close) // after the parallel ones
	const stalledBody = "Content-Length: 100\r\n\r\nthree"
	for _, test := range []struct {
		name, request string
		full          bool // no pod, and nobody may wait
		status        string
	}{
		{"sending", "POST /read HTTP/1.1\r\nHost: x\r\n" + stalledBody, false, "504"},
		{"sending in chunks", "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n", false, "504"},
		{"sending what is refused by the pod", "POST /early HTTP/1.1\r\nHost: x\r\n" + stalledBody, false, ""},
		{"sending what is refused here", "POST /read HTTP/1.1\r\nHost: x\r\n" + stalledBody, true, "503"},
		{"reading", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			spec := &manifest.Template{Timeout: 300 * time.Millisecond}
			if test.full {
				spec.Timeout = time.Minute
			}
			r := calling(t, spec)
			if test.full {
				r.lane.Refuse(&unavailable{reason: "no pod", until: time.Now()})
			} else {
				open(t, r, backend.Listener.Addr().String())
			}
			served := make(chan struct{})
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				defer close(served)
				r.serve(w, req)
			}))
			defer front.Close()
			conn, err := net.Dial("tcp", front.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, test.request)
			select {
			case <-served:
			case <-time.After(20 * time.Second):
				_ = conn.Close()
				t.Fatal("the request goes on")
			}
			if waiting, held := r.lane.Counts(); waiting+held != 0 {
				t.Errorf("%d wait and %d are held in the end", waiting, held)
			}
			if test.status == "" {
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.Contains(line, test.status) {
				t.Errorf("answered %q, %v; want %s", line, err, test.status)
			}
		})
	}
}
