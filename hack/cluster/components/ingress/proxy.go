package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"time"

	"knative.dev/networking/pkg/apis/networking/v1alpha1"
)

const (
	dialTimeout = 2 * time.Second
	tries       = 20 // of a request that no pod can have seen, tryPause apart
	tryPause    = 50 * time.Millisecond
)

// balance sends a request to one of its split's endpoints. One whose connection
// was refused is sent to another: endpoints come and go.
type balance struct {
	endpoints func(*v1alpha1.IngressBackendSplit) ([]string, bool)
	h1, h2    http.RoundTripper
}

type splitKey struct{}

func (b *balance) RoundTrip(r *http.Request) (*http.Response, error) {
	split := r.Context().Value(splitKey{}).(*v1alpha1.IngressBackendSplit)
	var last error
	for range tries {
		addresses, h2c := b.endpoints(split)
		if len(addresses) == 0 {
			last = fmt.Errorf("%s/%s has no ready endpoint", split.ServiceNamespace, split.ServiceName)
		} else {
			to := b.h1
			if h2c {
				to = b.h2
			}
			r.URL.Scheme, r.URL.Host = "http", addresses[rand.IntN(len(addresses))]
			answer, err := to.RoundTrip(r)
			if dial, ok := errors.AsType[*net.OpError](err); err == nil || !ok || dial.Op != "dial" {
				return answer, err
			}
			last = err
		}
		select {
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-time.After(tryPause):
		}
	}
	return nil, last
}

// newProxy serves what the table says; external is whether it may be asked by
// callers outside the cluster.
func newProxy(log *slog.Logger, endpoints func(*v1alpha1.IngressBackendSplit) ([]string, bool), current func() *table, external bool) http.Handler {
	dial := (&net.Dialer{Timeout: dialTimeout}).DialContext
	h1 := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 100, IdleConnTimeout: 30 * time.Second, DisableCompression: true}
	h2 := &http.Transport{DialContext: dial, Protocols: new(http.Protocols), DisableCompression: true}
	h2.Protocols.SetUnencryptedHTTP2(true)
	proxy := &httputil.ReverseProxy{
		Transport:     &balance{endpoints, h1, h2},
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Warn("not answered", "method", r.Method, "host", r.Host, "path", r.URL.Path, "error", err)
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := current().match(r, external)
		if path == nil || len(path.Splits) == 0 {
			http.Error(w, "no route for host "+r.Host, http.StatusNotFound)
			return
		}
		split := choose(path, rand.IntN(100))
		r = r.WithContext(context.WithValue(r.Context(), splitKey{}, split))
		for _, headers := range []map[string]string{path.AppendHeaders, split.AppendHeaders} {
			for name, value := range headers {
				r.Header.Set(name, value)
			}
		}
		if path.RewriteHost != "" {
			r.Header.Set("X-Forwarded-Host", r.Host)
			r.Host = path.RewriteHost
		}
		proxy.ServeHTTP(w, r)
	})
}
