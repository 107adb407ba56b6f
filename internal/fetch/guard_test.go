package fetch

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"aisle.dev/aisle/internal/problem"
)

func newFetcher(t testing.TB, o Options) *Fetcher {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// refused wants err to be a 422 that says want.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	e, ok := errors.AsType[*problem.Error](err)
	if !ok || e.Status != http.StatusUnprocessableEntity || !strings.Contains(e.Detail, want) {
		t.Errorf("%v (%T); want a 422 that says %q", err, err, want)
	}
}

func TestURLs(t *testing.T) {
	for name, tt := range map[string]struct{ url, want string }{
		"no URL":               {"http://[::1", "is no URL"},
		"control characters":   {"http://example.com/\r\nHost: other", "is no URL"},
		"a backslash":          {`http://example.com\@127.0.0.1/`, "is no URL"},
		"a space in the host":  {"http://exa mple.com/", "is no URL"},
		"no scheme":            {"//example.com/a.jpg", "only http and https"},
		"a path":               {"/etc/passwd", "only http and https"},
		"file":                 {"file:///etc/passwd", `scheme is "file"`},
		"ftp":                  {"ftp://example.com/a.jpg", `scheme is "ftp"`},
		"gopher":               {"gopher://127.0.0.1:6379/_FLUSHALL", "only http and https"},
		"javascript":           {"javascript:alert(1)", "only http and https"},
		"no host":              {"http:///a.jpg", "has no host"},
		"opaque":               {"http:example.com", "has no host"},
		"a port alone":         {"http://:80/", "has no host"},
		"user":                 {"http://user@example.com/", "user name"},
		"user and password":    {"https://example.com:pw@127.0.0.1/", "user name"},
		"empty user":           {"http://@127.0.0.1/", "user name"},
		"another port":         {"http://example.com:8080/", "port is 8080"},
		"https's port by http": {"http://example.com:443/", "port is 443"},
		"http's port by https": {"https://example.com:80/", "port is 80"},
		"Redis":                {"http://example.com:6379/", "port is 6379"},
		"a port with zeros":    {"http://example.com:0080/", "port is 0080"},
		"too long":             {"http://example.com/" + strings.Repeat("a", maxURL), "at most 4096 are read"},
		"loopback":             {"http://127.0.0.1/", "loopback"},
		"loopback's network":   {"http://127.255.0.9/", "loopback"},
		"this host":            {"http://0.0.0.0/", "this host's own"},
		"this network":         {"http://0.1.2.3/", "this host's own"},
		"private 10":           {"http://10.0.0.1/", "private"},
		"private 172":          {"http://172.31.255.255/", "private"},
		"private 192":          {"http://192.168.1.1/", "private"},
		"shared":               {"http://100.64.0.1/", "shared"},
		"shared's end":         {"http://100.127.255.254/", "shared"},
		"metadata":             {"http://169.254.169.254/latest/meta-data/", "link-local"},
		"protocol assignments": {"http://192.0.0.170/", "reserved"},
		"documentation":        {"http://203.0.113.7/", "documentation"},
		"benchmarks":           {"http://198.19.0.1/", "benchmarks"},
		"multicast":            {"http://224.0.0.251/", "multicast"},
		"broadcast":            {"http://255.255.255.255/", "reserved"},
		"reserved":             {"http://250.1.2.3/", "reserved"},
		"6to4 relay":           {"http://192.88.99.1/", "6to4"},
		"IPv6 loopback":        {"http://[::1]/", "loopback"},
		"IPv6 unspecified":     {"http://[::]/", "this host's own"},
		"IPv4-mapped":          {"http://[::ffff:127.0.0.1]/", "loopback"},
		"IPv4-mapped in hex":   {"http://[::ffff:a9fe:a9fe]/", "link-local"},
		"IPv4-compatible":      {"http://[::127.0.0.1]/", "embedded IPv4"},
		"IPv4-translated":      {"http://[::ffff:0:127.0.0.1]/", "reserved"},
		"NAT64":                {"http://[64:ff9b::7f00:1]/", "NAT64"},
		"NAT64 of a public one": {
			"http://[64:ff9b::808:808]/", "NAT64"},
		"NAT64, local use":    {"http://[64:ff9b:1::a00:1]/", "NAT64"},
		"6to4":                {"http://[2002:7f00:1::]/", "6to4"},
		"Teredo":              {"http://[2001:0:53aa:64c:0:7f8b:80ff:fffe]/", "Teredo"},
		"ORCHID":              {"http://[2001:20::1]/", "reserved"},
		"IPv6 documentation":  {"http://[2001:db8::1]/", "documentation"},
		"IPv6 documentation,": {"http://[3fff::1]/", "documentation"},
		"unique local":        {"http://[fd00:ec2::254]/", "private"},
		"IPv6 link-local":     {"http://[fe80::1]/", "link-local"},
		"a zone":              {"http://[fe80::1%25lo]/", "zone"},
		"IPv6 multicast":      {"http://[ff02::1]/", "multicast"},
		"site-local":          {"http://[fec0::1]/", "reserved"},
		"segment routing":     {"http://[5f00::1]/", "reserved"},
		"discard":             {"http://[100::1]/", "reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newFetcher(t, Options{}).Get(t.Context(), tt.url)
			refused(t, err, tt.want)
		})
	}
}

func TestPublicAddresses(t *testing.T) {
	for _, a := range []string{"8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.0", "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888", "::ffff:8.8.8.8"} {
		if err := (allowList{}).guard(netip.MustParseAddr(a)); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func TestAllowedNetworks(t *testing.T) {
	allow, err := parseAllow([]string{"10.1.0.0/16", "64:ff9b::/96", "0.0.0.0/0", "ff00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.1.2.3":            "",
		"127.0.0.1":           "", // in 0.0.0.0/0
		"::ffff:10.1.2.3":     "",
		"64:ff9b::8.8.8.8":    "",
		"64:ff9b::a01:203":    "",
		"0.0.0.0":             "this host's own",
		"255.255.255.255":     "reserved",
		"224.0.0.1":           "multicast",
		"ff02::1":             "multicast",
		"fd00::1":             "private",
		"64:ff9b:1::10.1.2.3": "NAT64",
	} {
		err := allow.guard(netip.MustParseAddr(addr))
		if want == "" && err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		if want != "" {
			refused(t, err, want)
		}
	}
	behind, err := parseAllow([]string{"64:ff9b::/96"})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, behind.guard(netip.MustParseAddr("64:ff9b::127.0.0.1")), "loopback")
}

func TestAllowSyntax(t *testing.T) {
	for _, ok := range []string{"images.shop.example", "MinIO.default.svc:9000", "10.0.0.0/8", "fd00::/8", "10.0.0.1", "[fd00::1]:8080", "fd00::1", "[fd00::1]"} {
		if _, err := New(Options{Allow: []string{ok}}); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "*.example", "http://example.com", "10.0.0.0/99", "host:port", "host:0", "host:65536", "a b", "user@host", ":80"} {
		if _, err := New(Options{Allow: []string{bad}}); err == nil || !strings.Contains(err.Error(), "allowed host") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// resolver answers each name with the addresses of the map, and all others
// with no such name.
func resolver(t *testing.T, names map[string][]string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			for {
				size := make([]byte, 2)
				if _, err := io.ReadFull(there, size); err != nil {
					return
				}
				msg := make([]byte, binary.BigEndian.Uint16(size))
				if _, err := io.ReadFull(there, msg); err != nil {
					return
				}
				out := resolve(t, msg, names)
				if _, err := there.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
					return
				}
			}
		}()
		return here, nil
	}}
}

func resolve(t *testing.T, query []byte, names map[string][]string) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		t.Error(err)
		return nil
	}
	q, err := p.Question()
	if err != nil {
		t.Error(err)
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
	addrs, ok := names[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, s := range addrs {
		a, head := netip.MustParseAddr(s), dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	out, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return out
}

// TestNames: what a name leads to decides, and not how the name looks.
func TestNames(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, "bytes")
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	names := resolver(t, map[string][]string{
		"loopback.example.com": {"127.0.0.1"},
		"inner.example.com":    {"10.0.0.7", "fd00::7"},
		"metadata.example.com": {"169.254.169.254"},
		"mapped.example.com":   {"::ffff:127.0.0.1"},
		"nat64.example.com":    {"64:ff9b::7f00:1"},
		"both.example.com":     {"::1", "127.0.0.1"},
		"nowhere.example.com":  {"0.0.0.0"},
		"many.example.com":     {"224.0.0.1"},
		"localhost":            {"127.0.0.1"},
		"0x7f.1":               {"127.0.0.1"},
		"allowed.example.com":  {"127.0.0.1"},
	})
	for name, tt := range map[string]struct {
		url   string
		allow []string
		want  string // empty: fetched
	}{
		"loopback":                {"http://loopback.example.com/", nil, "loopback"},
		"private":                 {"https://inner.example.com/", nil, "private"},
		"metadata":                {"http://metadata.example.com/", nil, "link-local"},
		"mapped":                  {"http://mapped.example.com/", nil, "loopback"},
		"NAT64":                   {"http://nat64.example.com/", nil, "NAT64"},
		"all of its addresses":    {"http://both.example.com/", nil, "loopback"},
		"unspecified":             {"http://nowhere.example.com/", nil, "this host's own"},
		"unspecified, allowed":    {"http://nowhere.example.com/", []string{"nowhere.example.com"}, "this host's own"},
		"multicast":               {"http://many.example.com/", nil, "multicast"},
		"decimal":                 {"http://2130706433/", nil, "is not known"},
		"hexadecimal":             {"http://0x7f.1/", nil, "loopback"},
		"the name of this host":   {"http://localhost/", nil, "loopback"},
		"with a dot at its end":   {"http://localhost./", nil, "loopback"},
		"in capitals":             {"http://LOOPBACK.EXAMPLE.COM/", nil, "loopback"},
		"full width":              {"http://１２７.０.０.１/", nil, "loopback"},
		"percent signs":           {"http://%31%32%37.0.0.1/", nil, "is no URL"},
		"not known":               {"http://absent.example.com/", nil, "is not known"},
		"allowed at another port": {"http://allowed.example.com:" + port + "/", []string{"allowed.example.com"}, "port is " + port},
		"allowed with its port":   {"http://allowed.example.com:" + port + "/", []string{"Allowed.example.com:" + port}, ""},
		"in capitals and allowed": {"http://ALLOWED.example.com.:" + port + "/", []string{"allowed.example.com:" + port}, ""},
		"another name for it":     {"http://loopback.example.com:" + port + "/", []string{"allowed.example.com:" + port}, "port is " + port},
	} {
		t.Run(name, func(t *testing.T) {
			asked.Store(0)
			f := newFetcher(t, Options{Allow: tt.allow})
			f.dialer.Resolver = names
			data, err := f.Get(t.Context(), tt.url)
			if tt.want != "" {
				refused(t, err, tt.want)
				if asked.Load() != 0 {
					t.Error("and yet the server was asked")
				}
				return
			}
			if err != nil || string(data) != "bytes" {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch to := r.URL.Query().Get("to"); {
		case to == "again":
			http.Redirect(w, r, "/?to=again", http.StatusFound)
		case to != "":
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		default:
			if r.Header.Get("Referer") != "" {
				t.Error("a Referer was sent")
			}
			_, _ = io.WriteString(w, "bytes")
		}
	}))
	defer inner.Close()
	host := inner.Listener.Addr().String()
	f := newFetcher(t, Options{Allow: []string{host}})
	for name, tt := range map[string]struct{ to, want string }{
		"to itself":         {"/", ""},
		"to a private one":  {"http://10.0.0.1/", "private"},
		"to metadata":       {"http://169.254.169.254/", "link-local"},
		"to its other port": {"http://127.0.0.1:1/", "port is 1"},
		"to its own port":   {"http://127.0.0.1/", "loopback"},
		"to a file":         {"file:///etc/passwd", "only http and https"},
		"with a user":       {"http://a:b@" + host + "/", "user name"},
		"in a circle":       {"again", "redirects more than 3 times"},
		"to no URL":         {"http://[::1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := f.Get(t.Context(), inner.URL+"/?to="+strings.NewReplacer("&", "%26", ":", "%3a", "@", "%40").Replace(tt.to))
			switch {
			case name == "to no URL":
				if e, ok := errors.AsType[*problem.Error](err); !ok || e.Status != http.StatusUnprocessableEntity && e.Status != http.StatusServiceUnavailable {
					t.Errorf("%q, %v", data, err)
				}
			case tt.want != "":
				refused(t, err, tt.want)
			case err != nil || string(data) != "bytes":
				t.Errorf("%q, %v", data, err)
			}
		})
	}
}

func TestProxyVariablesAreNotRead(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	f := newFetcher(t, Options{})
	f.dialer.Resolver = resolver(t, map[string][]string{"inner.example.com": {"10.0.0.7"}})
	_, err := f.Get(t.Context(), "http://inner.example.com/")
	refused(t, err, "private")
}

// FuzzURL wants every URL that is let through to be one that may be dialled,
// as far as can be seen.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"http://example.com/a.jpg", "https://[2606:4700::1]:443/", "http://user@host/", "http://127.1/", "HTTP://EXAMPLE.COM:80", "http://[::ffff:1.2.3.4%25eth0]/", "http://1.2.3.4#@10.0.0.1/"} {
		f.Add(s)
	}
	fetcher := newFetcher(f, Options{})
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := fetcher.parse(raw)
		if err != nil {
			refused(t, err, "")
			return
		}
		if own := ownPort[u.Scheme]; own == "" || u.User != nil || u.Hostname() == "" || u.Port() != "" && u.Port() != own {
			t.Fatalf("%q was let through as %q", raw, u)
		}
		addr, err := netip.ParseAddr(u.Hostname())
		if err == nil && (addr.IsPrivate() || addr.IsLoopback() || !addr.IsGlobalUnicast() || addr.Zone() != "") {
			t.Fatalf("%q leads to %s", raw, addr)
		}
		again, err := fetcher.parse(u.String()) // what is asked for is what was checked
		if err != nil || again.Host != u.Host {
			t.Fatalf("%q becomes %q, which becomes %q, %v", raw, u, again, err)
		}
	})
}
