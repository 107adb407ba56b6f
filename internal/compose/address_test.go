package compose

import (
	"context"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/product"
)

func TestAddress(t *testing.T) {
	tests := []struct{ name, template, namespace, want string }{
		{"cluster", DefaultLegURL, "default", "http://photo-v2.default.svc.cluster.local/v1/classify?top=all"},
		{"local", "http://{service}.{namespace}.localhost:8080", "default", "http://photo-v2.default.localhost:8080/v1/classify?top=all"},
		{"another namespace", DefaultLegURL, "shop", "http://photo-v2.shop.svc.cluster.local/v1/classify?top=all"},
		{"gateway", "https://gateway/{name}/", "default", "https://gateway/photo/v1/classify?top=all"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := address(tt.template, "photo", "photo-v2", tt.namespace); err != nil || got != tt.want {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	for _, bad := range []string{"", "photo", "{service}", "ftp://{service}", "http://", "http://{svc}", "http://u:p@{service}", "http://{service}/?a=b", "http://{service}:port"} {
		if got, err := address(bad, "photo", "photo-v2", "default"); err == nil || !strings.Contains(err.Error(), "LEG_URL") {
			t.Errorf("%q: %s, %v", bad, got, err)
		}
	}
}

// Names under .localhost are loopback, whatever a resolver says.
func TestLocalhostIsDialledAsLoopback(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(&classifier{name: "title", reads: []string{"title"}, says: says("Shirts", 1.0)})
	srv.Listener = ln
	srv.Start()
	defer srv.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	tr := NewTransport()
	defer tr.CloseIdleConnections()
	c, err := New(Options{Composition: parsed(t, twoLegs), LegURL: "http://{service}.{namespace}.localhost:" + port, Transport: tr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	res, err := c.Compose(context.Background(), Product{Product: product.Product{Title: "x"}})
	if err != nil || res.Category.Label != "Shirts" {
		t.Errorf("%v %+v", err, res)
	}
	for host, want := range map[string]bool{"localhost": true, "a.b.localhost": true, "A.LOCALHOST.": true, "localhost.com": false, "xlocalhost": false} {
		if isLocalhost(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
}
