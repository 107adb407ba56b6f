package compose

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultLegURL is where a leg is in a cluster.
const DefaultLegURL = "http://{service}.{namespace}.svc.cluster.local"

// address fills in a template such as [DefaultLegURL] for one service of a
// leg, and gives the URL that it is asked at.
func address(template, leg, service, namespace string) (string, error) {
	s := strings.NewReplacer("{service}", service, "{namespace}", namespace, "{name}", leg).Replace(template)
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("LEG_URL %q gives no URL for leg %s: %w", template, leg, err)
	}
	switch {
	case strings.ContainsAny(s, "{}"):
		return "", fmt.Errorf("LEG_URL %q: only {service}, {namespace} and {name} are filled in", template)
	case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return "", fmt.Errorf("LEG_URL %q: want http://HOST or https://HOST, such as %s", template, DefaultLegURL)
	}
	// All labels, not the best few: the reducer needs what a leg thinks of
	// the labels that other legs prefer.
	return u.JoinPath("v1", "classify").String() + "?top=all", nil
}

// NewTransport returns the transport that all legs share. Idle connections
// are kept per leg, enough that a burst does not dial anew; HTTP/1.1, since
// one connection per request in flight spreads over pods.
//
// A host name under .localhost is dialled as loopback and never resolved:
// RFC 6761 says that it is, and resolvers may not know the name.
func NewTransport() *http.Transport {
	d := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(addr)
			if err != nil || !isLocalhost(host) {
				return d.DialContext(ctx, network, addr)
			}
			conn, err := d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
			if err != nil && ctx.Err() == nil {
				if six, err6 := d.DialContext(ctx, network, net.JoinHostPort("::1", port)); err6 == nil {
					return six, nil
				}
			}
			return conn, err
		},
		Protocols:              p,
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,     // between neighbours the bytes are cheaper than the time
		WriteBufferSize:        32 << 10, // a picture in one or two writes
		ReadBufferSize:         16 << 10,
		TLSHandshakeTimeout:    5 * time.Second,
	}
}

func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
