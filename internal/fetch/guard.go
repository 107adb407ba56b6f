package fetch

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"aisle.dev/aisle/internal/problem"
)

// allowList is what may be reached though it is not public, or not at its
// scheme's own port.
type allowList struct {
	networks []netip.Prefix
	hosts    map[string]bool // "name" or "name:port", in lower case
}

func parseAllow(entries []string) (allowList, error) {
	a := allowList{hosts: map[string]bool{}}
	for _, e := range entries {
		if p, err := netip.ParsePrefix(e); err == nil {
			a.networks = append(a.networks, p.Masked())
			continue
		}
		host, port, err := net.SplitHostPort(e)
		if err != nil {
			host, port = strings.Trim(e, "[]"), ""
		}
		if _, addrErr := netip.ParseAddr(host); addrErr != nil && !isHostName(host) {
			return a, fmt.Errorf("allowed host %q: want a host name, an address, HOST:PORT, or a network such as 10.0.0.0/8", e)
		}
		if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
			return a, fmt.Errorf("allowed host %q: port %q: want 1 to 65535", e, port)
		}
		a.hosts[key(host, port)] = true
	}
	return a, nil
}

// key is how a host is found in allowList.hosts.
func key(host, port string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Unmap().String()
	}
	if port == "" {
		return host
	}
	return net.JoinHostPort(host, port)
}

func isHostName(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// host reports whether the host is allowed by its name, at its port if that
// is said.
func (a allowList) host(host, port string) bool {
	return a.hosts[key(host, "")] || a.hosts[key(host, port)]
}

func (a allowList) network(addr netip.Addr) bool {
	return slices.ContainsFunc(a.networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// parse checks what can be seen of a URL before anything is dialled.
func (f *Fetcher) parse(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, problem.New(http.StatusUnprocessableEntity, "the URL is %d bytes long; at most %d are read", len(raw), maxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, problem.New(http.StatusUnprocessableEntity, "%.100q is no URL", raw)
	}
	if err := f.check(u); err != nil {
		return nil, err
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

var ownPort = map[string]string{"http": "80", "https": "443"}

func (f *Fetcher) check(u *url.URL) error {
	own, ok := ownPort[u.Scheme]
	host, port := u.Hostname(), u.Port()
	switch {
	case !ok:
		return problem.New(http.StatusUnprocessableEntity, "the URL's scheme is %.20q; only http and https are fetched", u.Scheme)
	case u.User != nil:
		return problem.New(http.StatusUnprocessableEntity, "the URL has a user name in it, which is not fetched")
	case host == "" || u.Opaque != "":
		return problem.New(http.StatusUnprocessableEntity, "the URL has no host")
	case strings.Contains(host, "%"):
		return problem.New(http.StatusUnprocessableEntity, "the URL's host has a zone, which is not fetched")
	case port != "" && port != own && !f.allow.hosts[key(host, port)]:
		return problem.New(http.StatusUnprocessableEntity, "the URL's port is %.10s; %s is fetched at port %s alone", port, u.Scheme, own)
	}
	if addr, err := netip.ParseAddr(host); err == nil && !f.allow.host(host, port) {
		return f.allow.guard(addr) // what dialling would say, sooner
	}
	return nil
}

// redirect checks where a redirect leads, and how many there were.
func (f *Fetcher) redirect(req *http.Request, via []*http.Request) error {
	if len(via) > f.options.Redirects {
		return problem.New(http.StatusUnprocessableEntity, "%.100q redirects more than %d times", via[0].URL.Host, f.options.Redirects)
	}
	req.Header.Del("Referer")
	return f.check(req.URL)
}

// dial refuses by the address that the name has now: what was looked up
// before may be answered otherwise the second time.
func (f *Fetcher) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	d := f.dialer
	named := f.allow.host(host, port)
	d.Control = func(_, dialled string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(dialled)
		if err != nil {
			return err
		}
		if named && !never(to.Addr().Unmap()) {
			return nil
		}
		return f.allow.guard(to.Addr())
	}
	return d.DialContext(ctx, network, address)
}

// never reports addresses that are no host's.
func never(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// special is a network that is not the public internet's.
type special struct {
	network netip.Prefix
	what    string
}

// specials are all of them
// (https://www.iana.org/assignments/iana-ipv4-special-registry, and -ipv6-).
var specials = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "this host's own"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by a provider"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation's"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay's"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarks'"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation's"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation's"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::/128"), "this host's own"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::/96"), "embedded IPv4"},
	{nat64, "embedded IPv4 (NAT64)"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "embedded IPv4 (NAT64)"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("2001::/32"), "embedded IPv4 (Teredo)"},
	{netip.MustParsePrefix("2001::/23"), "reserved"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation's"},
	{netip.MustParsePrefix("2002::/16"), "embedded IPv4 (6to4)"},
	{netip.MustParsePrefix("3fff::/20"), "documentation's"},
}

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	global = netip.MustParsePrefix("2000::/3") // all of IPv6's public unicast
)

// guard refuses an address that is neither public nor in an allowed network.
func (a allowList) guard(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if a.network(addr) && !never(addr) {
		if nat64.Contains(addr) { // whoever allows the translator does not allow what is behind it
			b := addr.As16()
			return a.guard(netip.AddrFrom4([4]byte(b[12:])))
		}
		return nil
	}
	what := ""
	if i := slices.IndexFunc(specials, func(s special) bool { return s.network.Contains(addr) }); i >= 0 {
		what = specials[i].what
	} else if addr.Is6() && !global.Contains(addr) {
		what = "reserved"
	}
	if what == "" {
		return nil
	}
	return problem.New(http.StatusUnprocessableEntity, "the URL leads to an address that is %s, which is not fetched unless FETCH_ALLOW names it", what)
}

// Inline gives what a data: URL holds (RFC 2397), whatever type it claims; ok
// is false for any other URL. Its errors are *problem.Error with status 422.
func Inline(raw string) (data []byte, ok bool, err error) {
	if len(raw) < 5 || !strings.EqualFold(raw[:5], "data:") {
		return nil, false, nil
	}
	head, body, found := strings.Cut(raw[5:], ",")
	if !found {
		return nil, true, problem.New(http.StatusUnprocessableEntity, "the data: URL has no comma, behind which its data would be")
	}
	text, err := url.PathUnescape(body)
	if err != nil {
		return nil, true, problem.New(http.StatusUnprocessableEntity, "the data: URL has a broken percent sign")
	}
	if !strings.HasSuffix(strings.ToLower(strings.TrimSpace(head)), ";base64") {
		return []byte(text), true, nil
	}
	enc := base64.StdEncoding
	if !strings.HasSuffix(text, "=") {
		enc = base64.RawStdEncoding
	}
	if data, err = enc.DecodeString(text); err != nil {
		return nil, true, problem.New(http.StatusUnprocessableEntity, "the data: URL is not base64")
	}
	return data, true, nil
}
