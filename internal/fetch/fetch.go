// Package fetch gets what a stranger's URL names: the one way in which Aisle
// follows URLs out of products.
//
// Guarantees. The address that is dialled decides, whatever name, redirect or
// notation led to it: addresses that are not the public internet's (private,
// loopback, link-local, shared, multicast, reserved, IPv6 that embeds IPv4,
// ...) are refused unless [Options.Allow] names their host or network. Only
// http and https, at their own ports unless allowed with another; no user
// names in URLs; proxy variables are not read; no cookies, no compression.
// Bytes, time, redirects, and what is under way at once are bounded. What is
// asked for twice at the same time is fetched once; what the server lets be
// kept is kept, in bounds, and asked about by its ETag once it is old.
//
// Every error of [Fetcher.Get] is a *problem.Error: 422 where the URL or what
// it names is at fault, 503 with Retry-After where another attempt may do
// better; or it is the caller's own context's.
//
// Non-goals: fetching what the operator names (Knative's addresses, model
// packages), any method but GET, robots.txt.
package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"aisle.dev/aisle/internal/problem"
)

// Defaults of [Options].
const (
	DefaultMaxBytes  = 10 << 20
	DefaultTimeout   = 5 * time.Second
	DefaultRedirects = 3
)

// Bounds of one Fetcher.
const (
	maxURL     = 4 << 10
	maxFlights = 64       // URLs that are being fetched
	maxHeld    = 64 << 20 // bytes of answers that are being read
	maxWait    = time.Minute
	retryAfter = 2 * time.Second // where the server says nothing
)

// Options of [New].
type Options struct {
	Allow     []string      // host names, addresses and networks (CIDR) that may be private; HOST:PORT also allows the port
	MaxBytes  int64         // of one answer; 0 means DefaultMaxBytes
	Timeout   time.Duration // of one URL, redirects included; 0 means DefaultTimeout
	Redirects int           // 0 means DefaultRedirects
	Types     []string      // beginnings of the media types that are taken, such as "image/"; none: any

	// Observe is told how each call of Get ended: "fetched", "cached",
	// "unchanged", "refused" (422), "failed" (503) or "gone" (the caller).
	Observe func(outcome string, took time.Duration)
}

// Fetcher fetches. Its methods may be called concurrently.
type Fetcher struct {
	options Options
	allow   allowList
	client  http.Client
	dialer  net.Dialer

	flights singleflight.Group
	running chan struct{} // a token for each flight
	held    *semaphore.Weighted
	cache   cache

	ctx    context.Context // of all flights; ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // of Gets' flights
}

// New returns a Fetcher. Whoever makes it closes it.
func New(o Options) (*Fetcher, error) {
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.Redirects = cmp.Or(o.Redirects, DefaultRedirects)
	if o.MaxBytes < 0 || o.MaxBytes > maxHeld || o.Timeout < 0 || o.Redirects < 0 {
		return nil, fmt.Errorf("fetch: %d bytes, %s, %d redirects: want none below 0, and at most %d bytes", o.MaxBytes, o.Timeout, o.Redirects, maxHeld)
	}
	allow, err := parseAllow(o.Allow)
	if err != nil {
		return nil, err
	}
	f := &Fetcher{options: o, allow: allow, running: make(chan struct{}, maxFlights), held: semaphore.NewWeighted(maxHeld)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.client = http.Client{
		CheckRedirect: f.redirect,
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would dial for us, unguarded
			DialContext:            f.dial,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			DisableCompression:     true,
			MaxIdleConns:           16,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
	return f, nil
}

// Close ends what is under way, and waits for it.
func (f *Fetcher) Close() {
	f.cancel()
	f.wg.Wait()
	f.client.CloseIdleConnections()
}

// Get returns what the URL names. Others may have been given the same bytes:
// they must not be changed.
func (f *Fetcher) Get(ctx context.Context, rawURL string) ([]byte, error) {
	start := time.Now()
	data, outcome, err := f.get(ctx, rawURL)
	if f.options.Observe != nil {
		f.options.Observe(cmp.Or(outcome, outcomeOf(err)), time.Since(start))
	}
	return data, err
}

func outcomeOf(err error) string {
	e, ok := errors.AsType[*problem.Error](err)
	switch {
	case !ok:
		return "gone"
	case e.Status == http.StatusServiceUnavailable:
		return "failed"
	}
	return "refused"
}

// answer is what a flight brings.
type answer struct {
	data    []byte
	outcome string
}

func (f *Fetcher) get(ctx context.Context, rawURL string) ([]byte, string, error) {
	u, err := f.parse(rawURL)
	if err != nil {
		return nil, "", err
	}
	key := u.String()
	kept, fresh := f.cache.get(key, time.Now())
	if fresh {
		return kept.data, "cached", nil
	}
	// A flight is nobody's own: a caller that goes away leaves it to the
	// others, and to the cache.
	f.wg.Add(1)
	landed := f.flights.DoChan(key, func() (any, error) {
		select {
		case f.running <- struct{}{}:
			defer func() { <-f.running }()
		default:
			return nil, later(retryAfter, "too many URLs are being fetched; try again, or send the bytes inline")
		}
		ctx, cancel := context.WithTimeout(f.ctx, f.options.Timeout)
		defer cancel()
		data, outcome, err := f.fetch(ctx, u, kept)
		return answer{data, outcome}, err
	})
	done := make(chan singleflight.Result, 1)
	go func() {
		defer f.wg.Done()
		done <- <-landed
	}()
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, "", r.Err
		}
		a := r.Val.(answer)
		return a.data, a.outcome, nil
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
}

// fetch asks the server; kept, if there is any, is what it gave before.
func (f *Fetcher) fetch(ctx context.Context, u *url.URL, kept *entry) ([]byte, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", problem.New(http.StatusUnprocessableEntity, "the URL cannot be fetched: %v", err)
	}
	req.Header.Set("User-Agent", "aisle")
	req.Header.Set("Accept-Encoding", "identity")
	if kept != nil && kept.etag != "" {
		req.Header.Set("If-None-Match", kept.etag)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, "", f.explain(u, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && kept != nil {
		f.cache.put(u.String(), kept.data, cmp.Or(resp.Header.Get("ETag"), kept.etag), resp.Header, time.Now())
		return kept.data, "unchanged", nil
	}
	if err := f.accept(u, resp); err != nil {
		return nil, "", err
	}
	data, err := f.read(u, resp)
	if err != nil {
		return nil, "", err
	}
	f.cache.put(u.String(), data, resp.Header.Get("ETag"), resp.Header, time.Now())
	return data, "fetched", nil
}

// accept refuses an answer by its head.
func (f *Fetcher) accept(u *url.URL, resp *http.Response) error {
	switch s := resp.StatusCode; {
	case s == http.StatusOK:
	case s == http.StatusRequestTimeout, s == http.StatusTooEarly, s == http.StatusTooManyRequests, s >= 500:
		wait := retryAfter
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
			wait = min(time.Duration(min(n, int(maxWait/time.Second)))*time.Second, maxWait)
		}
		return later(wait, "%s answered %d; try again", u.Host, s)
	default:
		return problem.New(http.StatusUnprocessableEntity, "%s answered %d for %.200q", u.Host, s, u.Path)
	}
	if resp.ContentLength > f.options.MaxBytes {
		return f.tooLarge(u)
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return problem.New(http.StatusUnprocessableEntity, "%s sends Content-Encoding %.40q, which was not asked for", u.Host, enc)
	}
	if len(f.options.Types) == 0 || resp.Header.Get("Content-Type") == "" {
		return nil
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil && kind == "" || kind == "application/octet-stream" || kind == "binary/octet-stream" {
		return nil // the server does not say what it is
	}
	if !slices.ContainsFunc(f.options.Types, func(t string) bool { return strings.HasPrefix(kind, t) }) {
		return problem.New(http.StatusUnprocessableEntity, "%s gives a %.60q for %.200q; want %s", u.Host, kind, u.Path, strings.Join(f.options.Types, " or "))
	}
	return nil
}

func (f *Fetcher) tooLarge(u *url.URL) error {
	return problem.New(http.StatusUnprocessableEntity, "what %s gives for %.200q is larger than %d bytes", u.Host, u.Path, f.options.MaxBytes)
}

// read takes the body into memory that grows with what comes, not with what
// was promised.
func (f *Fetcher) read(u *url.URL, resp *http.Response) ([]byte, error) {
	var taken int64
	defer func() { f.held.Release(taken) }()
	var data []byte
	for {
		if len(data) == cap(data) {
			grown := min(max(2*int64(cap(data)), 64<<10), f.options.MaxBytes+1)
			if !f.held.TryAcquire(grown - int64(cap(data))) {
				return nil, later(retryAfter, "too much is being fetched; try again, or send the bytes inline")
			}
			taken += grown - int64(cap(data))
			data = append(make([]byte, 0, grown), data...)
		}
		n, err := resp.Body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if int64(len(data)) > f.options.MaxBytes {
			return nil, f.tooLarge(u)
		}
		switch {
		case err == io.EOF && len(data) == 0:
			return nil, problem.New(http.StatusUnprocessableEntity, "%s gives nothing for %.200q", u.Host, u.Path)
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, f.explain(u, err)
		}
	}
}

// explain makes a *problem.Error of what Do or Read said. The text of foreign
// errors stays here: it would tell a stranger of our network.
func (f *Fetcher) explain(u *url.URL, err error) error {
	if e, ok := errors.AsType[*problem.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return problem.New(http.StatusUnprocessableEntity, "the URL's host %.100q is not known", u.Host)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return problem.New(http.StatusUnprocessableEntity, "the certificate of %.100q cannot be verified", u.Host)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return later(retryAfter, "%.100q has not answered within %s; try again, or send the bytes inline", u.Host, f.options.Timeout)
	}
	return later(retryAfter, "%.100q gives no answer; try again, or send the bytes inline", u.Host)
}

// later is a refusal of the moment.
func later(after time.Duration, format string, args ...any) error {
	e := problem.New(http.StatusServiceUnavailable, format, args...)
	e.RetryAfter = after
	return e
}
