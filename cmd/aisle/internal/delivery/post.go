package delivery

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
)

// maxAnswer bounds what is read of one answer.
const maxAnswer = 4 << 20

// Poster posts product events to one composer. It is safe for concurrent use.
type Poster struct {
	To       *url.URL
	Gateway  string        // that [NewClient] dials, or empty
	Help     string        // what to do where it is not reachable
	Source   string        // the events' source
	Broker   bool          // To is a broker: an event is sent when that says 202, and 500 may pass too
	Attempts int           // at most, for what may pass: 429, 502, 503, 504, a broken connection; 0: until Timeout
	Timeout  time.Duration // of one product, all attempts together
	Client   *http.Client  // of [NewClient]
	// Distributions asks the composer for all that each leg predicts.
	Distributions bool
}

// ErrUnreachable is in the chain of an error that means that no composer
// answers at the address.
var ErrUnreachable = errors.New("not reachable")

// fatal is an error that the next product would meet as well.
type fatal struct{ err error }

func (f *fatal) Error() string { return f.err.Error() }
func (f *fatal) Unwrap() error { return f.err }

// NewClient returns a client that keeps conns connections. Hosts named
// localhost, or below it, are dialled as loopback (RFC 6761, section 6.3),
// since resolvers may not know them, and never through a proxy. With a gateway
// (host:port) that is dialled, whatever the host, as one asks an ingress.
func NewClient(conns int, gateway string) *http.Client {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: func(r *http.Request) (*url.URL, error) {
				if gateway != "" || isLocal(r.URL.Hostname()) {
					return nil, nil
				}
				return http.ProxyFromEnvironment(r)
			},
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, Loopback(cmp.Or(gateway, addr)))
			},
			MaxConnsPerHost:     conns,
			MaxIdleConnsPerHost: conns,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
			WriteBufferSize:     64 << 10, // a product with a photo in one write
			ReadBufferSize:      16 << 10,
		},
		// The answer to an event is an event; following would post to elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func isLocal(host string) bool {
	host = strings.TrimSuffix(host, ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// Loopback returns host:port with a host below .localhost replaced by
// 127.0.0.1.
func Loopback(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !isLocal(host) {
		return addr
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// Check connects once, so that a long run does not begin with nobody there. A
// host that is perhaps behind a proxy must have a name at least.
func (p *Poster) Check(ctx context.Context) error {
	port := p.To.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[p.To.Scheme]
		if port == "" {
			port = "80"
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if p.Gateway == "" && !isLocal(p.To.Hostname()) && !net.ParseIP(p.To.Hostname()).IsLoopback() {
		if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: p.To}); proxy != nil || err != nil {
			return err
		}
		if _, err := net.DefaultResolver.LookupHost(ctx, p.To.Hostname()); err != nil {
			return p.unreachable(err)
		}
		return nil // the first product will tell
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", Loopback(cmp.Or(p.Gateway, net.JoinHostPort(p.To.Hostname(), port))))
	if err != nil {
		return p.unreachable(err)
	}
	return conn.Close()
}

func (p *Poster) unreachable(err error) error {
	at := p.To.String()
	if p.Gateway != "" {
		at += " at " + p.Gateway
	}
	why := err.Error()
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "nothing listens there"
	case errors.As(err, new(*net.DNSError)):
		why = "its name is not known"
	}
	return fmt.Errorf("%s is %w: %s; %s", at, ErrUnreachable, why, p.Help)
}

// Post sends one product and waits for its category event. Id is the event's,
// subject the product's own (it may be empty), body the product's JSON.
func (p *Poster) Post(ctx context.Context, id, subject string, body []byte) Answer {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	ev := ce.New(ce.CloudEventsVersionV1)
	ev.SetType(event.TypeProduct)
	ev.SetSource(p.Source)
	ev.SetID(id)
	ev.SetDataSchema(event.SchemaProduct)
	ev.SetDataContentType(ce.ApplicationJSON)
	if strings.TrimSpace(subject) != "" {
		ev.SetSubject(subject)
	}
	ev.DataEncoded = body
	header, body, err := event.Encode(ev, false)
	if err != nil {
		return Answer{Err: err}
	}
	to := *p
	if p.Distributions {
		u := *p.To
		q := u.Query()
		q.Set("predictions", "all")
		u.RawQuery, to.To = q.Encode(), &u
	}
	r := to.exchange(ctx, header, body)
	a := Answer{Err: r.err}
	if r.err == nil {
		a = p.answer(r)
	}
	if p.Distributions {
		for _, leg := range a.Result.Legs {
			if leg.Outcome == category.Answered && len(leg.Predictions) == 0 {
				a.Err = &fatal{fmt.Errorf("%s does not say what its legs predict: is it a composer of this version? (%w)", p.To, ErrUnreachable)}
			}
		}
	}
	a.Attempts = r.attempts
	return a
}

// PostEvent sends an event of any type to a broker, and returns once that has
// taken it.
func (p *Poster) PostEvent(ctx context.Context, ev ce.Event) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	header, body, err := event.Encode(ev, false)
	if err != nil {
		return err
	}
	r := p.exchange(ctx, header, body)
	if r.err != nil {
		return r.err
	}
	return p.answer(r).Err
}

// Ask posts JSON to a path below the address and returns the JSON answer and
// its header. It tries again as Post does.
func (p *Poster) Ask(ctx context.Context, path string, body []byte) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	q := *p
	q.To = p.To.JoinPath(path)
	r := q.exchange(ctx, http.Header{"Content-Type": {"application/json"}}, body)
	if f, ok := errors.AsType[*fatal](r.err); ok {
		return nil, nil, f.err
	}
	return r.data, r.header, r.err
}

// reply is the answer to one request, all attempts together.
type reply struct {
	header   http.Header
	data     []byte
	accepted bool // 202 or 204: taken, and the answer need not hold an event
	err      error
	attempts int
}

// once makes one attempt. When again is true another may help; the service
// asked to wait as long as after says.
func (p *Poster) once(ctx context.Context, header http.Header, body []byte) (r reply, again bool, after time.Duration) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.To.String(), nil)
	if err != nil {
		return reply{err: &fatal{err}}, false, 0
	}
	// The caller uses body again, and the transport may still be reading it
	// when the answer is there: wait until it has closed it.
	var lent sync.WaitGroup
	defer lent.Wait()
	req.GetBody = func() (io.ReadCloser, error) { return lend(&lent, body), nil }
	req.Body, _ = req.GetBody()
	req.ContentLength = int64(len(body))
	req.Header = header
	resp, err := p.Client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return reply{err: p.ended(ctx)}, false, 0
		}
		return reply{err: p.transport(err)}, true, 0
	}
	defer resp.Body.Close()
	data, err := readAll(resp)
	if err != nil {
		if ctx.Err() != nil {
			return reply{err: p.ended(ctx)}, false, 0
		}
		return reply{err: fmt.Errorf("the answer broke off: %w", err)}, true, 0
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return reply{header: resp.Header, data: data}, false, 0
	case http.StatusAccepted, http.StatusNoContent:
		return reply{header: resp.Header, data: data, accepted: true}, false, 0
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return reply{err: refusal(resp, data)}, true, RetryAfter(resp.Header.Get("Retry-After"), time.Now())
	case http.StatusInternalServerError: // of the composer: a bug, which the same product meets again
		return reply{err: refusal(resp, data)}, p.Broker, 0
	case http.StatusMisdirectedRequest, http.StatusNotFound, http.StatusMethodNotAllowed:
		return reply{err: &fatal{fmt.Errorf("%s is %w: %w; %s", p.To, ErrUnreachable, refusal(resp, data), p.absent())}}, false, 0
	}
	return reply{err: refusal(resp, data)}, false, 0
}

// lent is a request body that says when the transport is done with it.
type lent struct {
	bytes.Reader
	done func()
}

func lend(wg *sync.WaitGroup, body []byte) *lent {
	wg.Add(1)
	l := &lent{done: sync.OnceFunc(wg.Done)}
	l.Reset(body)
	return l
}

func (l *lent) Close() error {
	l.done()
	return nil
}

// transport describes a request without an answer; one that could not connect
// is fatal once its attempts are used up.
func (p *Poster) transport(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return &fatal{p.unreachable(err)}
	}
	return fmt.Errorf("the connection broke: %w", err)
}

func (p *Poster) ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", p.Timeout)
	}
	return ctx.Err()
}

func readAll(resp *http.Response) ([]byte, error) {
	if n := resp.ContentLength; n >= 0 && n <= maxAnswer {
		data := make([]byte, n)
		_, err := io.ReadFull(resp.Body, data)
		return data, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("it is larger than %d MiB", maxAnswer>>20)
	}
	return data, err
}

// absent says what to do where the address is served, and not by what it should be.
func (p *Poster) absent() string {
	if p.Broker {
		return "see which brokers there are, and their URLs, with: kubectl get brokers -A"
	}
	return "see which services run with: aisle get services"
}

func (p *Poster) answer(r reply) Answer {
	if p.Broker {
		if !r.accepted {
			return Answer{Err: &fatal{fmt.Errorf("%s answers events instead of taking them: is it a broker? The composer is given with --to (%w)", p.To, ErrUnreachable)}}
		}
		return Answer{Accepted: true}
	}
	ev, _, err := event.Decode(r.header, r.data)
	if err != nil && r.accepted {
		return Answer{Accepted: true}
	}
	if err != nil || ev.Type() != event.TypeCategory && ev.Type() != event.TypeReview {
		return Answer{Err: &fatal{fmt.Errorf("%s answers, but not with category events: is it the composer? (%w)", p.To, ErrUnreachable)}}
	}
	a := Answer{Event: ev, Wake: Wake(r.header)}
	if err := json.Unmarshal(ev.Data(), &a.Result); err != nil {
		a.Err = fmt.Errorf("the category event's data cannot be read: %w", err)
	} else if a.Result.Category == nil {
		a.Err = NoCategory(a.Result)
	}
	return a
}

// NoCategory says why a result has no category: each leg's reason.
func NoCategory(r category.Result) error {
	var why []string
	for _, leg := range r.Legs {
		if leg.Outcome != category.Answered {
			why = append(why, fmt.Sprintf("%s %s: %s", leg.Name, leg.Outcome, leg.Reason))
		}
	}
	return fmt.Errorf("no category: %s", strings.Join(why, "; "))
}

// refusal reads a problem+json, or makes do with the status.
func refusal(resp *http.Response, data []byte) error {
	var p struct{ Detail string }
	if mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); mt == problem.ContentType || mt == "application/json" {
		_ = json.Unmarshal(data, &p) // without a detail the status must do
	}
	if p.Detail == "" {
		return fmt.Errorf("HTTP %s", resp.Status)
	}
	return fmt.Errorf("HTTP %d: %s", resp.StatusCode, p.Detail)
}

// Wake reads what the answer's request waited for a pod to start, out of
// "Server-Timing: wake;dur=MS".
func Wake(h http.Header) time.Duration {
	for _, line := range h.Values("Server-Timing") {
		for metric := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(metric), ";")
			if name != "wake" {
				continue
			}
			for param := range strings.SplitSeq(params, ";") {
				if ms, ok := strings.CutPrefix(strings.TrimSpace(param), "dur="); ok {
					if d, err := time.ParseDuration(ms + "ms"); err == nil && d > 0 {
						return d
					}
				}
			}
		}
	}
	return 0
}
