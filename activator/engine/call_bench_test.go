package engine

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aisle.dev/aisle/activator/engine/route"
	"aisle.dev/aisle/internal/manifest"
)

// BenchmarkCall compares a pod's answer with the same through the proxy.
func BenchmarkCall(b *testing.B) {
	pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(w, "answer")
	}))
	defer pod.Close()
	r := calling(b, &manifest.Template{Timeout: time.Minute})
	open(b, r, pod.Listener.Addr().String())
	routes := new(atomic.Pointer[table])
	routes.Store(&table{"one.default": {shares: []route.Share{{Revision: r.name, Percent: 100}}, revisions: []*revision{r}, door: new(atomic.Pointer[closure])}})
	p := &proxy{routes: routes, cross: http.NewCrossOriginProtection()}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Host = "one.default.localhost:8080"
		p.ServeHTTP(w, req)
	}))
	defer front.Close()
	for _, side := range []struct{ name, url string }{{"alone", pod.URL}, {"proxied", front.URL}} {
		b.Run(side.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := http.Post(side.url, "application/json", strings.NewReader(`{"title":"Men Blue Running Shoes"}`))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}
