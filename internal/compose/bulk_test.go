package compose

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// served is a composer behind a real server, and a client of it.
func served(t *testing.T, w *world, h2 bool) (*http.Client, string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(w.Handler())
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(func() { tr.CloseIdleConnections(); srv.Close() })
	return &http.Client{Transport: tr}, srv.URL
}

// told is what a line of answers says: the label, or the status of the error.
func told(t *testing.T, line []byte) string {
	t.Helper()
	var a BulkAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if a.Error != nil {
		return fmt.Sprintf("%d %v", a.Line, a.Error["status"])
	}
	return fmt.Sprintf("%d %s %s", a.Line, a.ID, a.Category.Label)
}

func TestPredictArray(t *testing.T) {
	w := newWorld(t, twoLegs)
	rec := post(w.Handler(), "/category/predict", `[`+shirt+`, {"title":7}, {"id":"p3","title":"a shoe"}, {}]`)
	var lines []json.RawMessage
	if err := json.Unmarshal(rec.Body.Bytes(), &lines); err != nil || rec.Code != 200 {
		t.Fatalf("%d %s: %v", rec.Code, rec.Body, err)
	}
	var got []string
	for _, l := range lines {
		got = append(got, told(t, l))
	}
	if want := []string{"0 p1 Shirts", "0 400", "0 p3 Shirts", "0 422"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for body, status := range map[string]int{
		"[" + strings.Repeat(`{"title":"x"},`, MaxProducts) + `{"title":"x"}]`: http.StatusRequestEntityTooLarge,
		`[{"title":"x"}`: http.StatusBadRequest,
	} {
		if rec := post(w.Handler(), "/category/predict", body); rec.Code != status {
			t.Errorf("%.40s...: %d %s, want %d", body, rec.Code, rec.Body, status)
		}
	}
	if n := len(w.slots); n != 0 {
		t.Errorf("%d slots are still taken", n)
	}
}

// Each line is answered before the next one is sent, over either protocol.
func TestPredictStreamsBothWays(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			client, url := served(t, newWorld(t, twoLegs), h2)
			pr, pw := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/category/predict", pr)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-ndjson")
			sent := make(chan error, 1)
			go func() { _, err := io.WriteString(pw, shirt+"\n"); sent <- err }()
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			answers := bufio.NewScanner(res.Body)
			for i, c := range []struct{ next, want string }{
				{"\nnot json\n", "1 p1 Shirts"},
				{strings.Repeat("x", maxLine+1) + "\n", "3 400"},
				{`{"id":"p5","title":"shoe"}` + "\n", "4 413"},
				{"", "5 p5 Shirts"},
			} {
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
				if !answers.Scan() {
					t.Fatalf("answer %d: %v", i, answers.Err())
				}
				if got := told(t, answers.Bytes()); got != c.want {
					t.Errorf("answer %d: %s, want %s", i, got, c.want)
				}
				go func() { _, err := io.WriteString(pw, c.next); sent <- err }()
			}
			<-sent
			_ = pw.Close()
			if answers.Scan() || answers.Err() != nil {
				t.Errorf("after the end: %q %v", answers.Text(), answers.Err())
			}
		})
	}
}

func TestFeeds(t *testing.T) {
	gzipped := func(s string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, s)
		_ = z.Close()
		return b.String()
	}
	const heureka = "<?xml version=\"1.0\" encoding=\"windows-1250\"?>\n<SHOP>\n<SHOPITEM><ITEM_ID>1</ITEM_ID><PRODUCTNAME>Ko\x9aile</PRODUCTNAME></SHOPITEM>\n<SHOPITEM><ITEM_ID>2</ITEM_ID></SHOPITEM>\n</SHOP>\n"
	for name, c := range map[string]struct {
		query, contentType, body string
		status                   int
		want                     []string
	}{
		"CSV":             {"", "text/csv", "id,title,image\n1,shirt,\n2,,\n3,shoe,pictures/3.jpg\n4,\"two\nlines\",\n", 200, []string{"2 1 Shirts", "3 422", "4 422", "5 4 Shirts"}},
		"TSV":             {"?title=name", "text/tab-separated-values", "id\tname\n1\t5\" shirt\n", 200, []string{"2 1 Shirts"}},
		"NDJSON":          {"", "", `{"id":"1","title":"shirt"}` + "\n{]\n" + `{"id":"3","title":"shoe"}`, 200, []string{"1 1 Shirts", "2 422", "3 3 Shirts"}},
		"Heureka in gzip": {"", "application/xml", gzipped(heureka), 200, []string{"3 1 Shirts", "4 422"}},
		"no title":        {"", "text/csv", "a,b\n1,2\n", 400, nil},
		"unknown format":  {"?format=xls", "", "a", 400, nil},
		"empty":           {"", "", "", 400, nil},
		"a media type":    {"", "?", "id,title\n", 415, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, twoLegs)
			client, url := served(t, w, true)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/feeds"+c.query, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.contentType != "" {
				req.Header.Set("Content-Type", c.contentType)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != c.status {
				t.Fatalf("%d %s %v", res.StatusCode, body, err)
			}
			if c.status != 200 {
				return
			}
			var got []string
			for l := range bytes.Lines(body) {
				got = append(got, told(t, l))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q\n%s", got, c.want, body)
			}
		})
	}
}

// A stream whose products wait is not read on, and ends when its caller goes.
func TestStreamHoldsBackAndEnds(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, twoLegs)
			var asked atomic.Int64
			full := make(chan struct{})
			w.title.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
				if asked.Add(1) == ahead {
					close(full)
				}
				<-r.Context().Done()
				return true
			}
			client, url := served(t, w, h2)
			ctx, cancel := context.WithCancel(t.Context())
			endless := &endlessLines{}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/category/predict", endless)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-ndjson")
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if res, err := client.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			}()
			<-full
			if n := asked.Load(); n > ahead+2 {
				t.Errorf("%d products are on their way", n)
			}
			cancel()
			<-ended
			w.streams <- struct{}{} // one is free
			for range cap(w.streams) - 1 {
				w.streams <- struct{}{} // and all are, once the handler has returned
			}
			if n := len(w.slots) + len(w.bulk); n != 0 {
				t.Errorf("%d slots are still taken", n)
			}
		})
	}
}

// endlessLines is a body without end.
type endlessLines struct{ rest []byte }

func (e *endlessLines) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = []byte(`{"title":"shirt"}` + "\n")
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}
