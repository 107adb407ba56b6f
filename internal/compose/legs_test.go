package compose

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// network is an in-memory network, so that real HTTP runs inside a synctest
// bubble. Its hosts are service names.
type network struct {
	t         *testing.T
	transport *http.Transport
	mu        sync.Mutex
	hosts     map[string]*listener // guarded by mu
	dials     map[string]int       // guarded by mu
}

type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func newNetwork(t *testing.T) *network {
	n := &network{t: t, hosts: map[string]*listener{}, dials: map[string]int{}}
	n.transport = NewTransport()
	n.transport.DialContext = n.dial
	t.Cleanup(n.transport.CloseIdleConnections)
	return n
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(addr)
	service, _, _ := strings.Cut(host, ".")
	n.mu.Lock()
	n.dials[service]++
	l := n.hosts[service]
	n.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *network) dialled(service string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[service]
}

// serve starts a service on the network; the test's end stops it.
func (n *network) serve(service string, h http.Handler) (stop func()) {
	l := &listener{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.t.Errorf("%s: %v", service, err)
		}
	}()
	n.mu.Lock()
	n.hosts[service] = l
	n.mu.Unlock()
	stop = sync.OnceFunc(func() {
		n.mu.Lock()
		if n.hosts[service] == l {
			delete(n.hosts, service)
		}
		n.mu.Unlock()
		_ = srv.Close()
		<-stopped
	})
	n.t.Cleanup(stop)
	return stop
}

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// classifier is a service that speaks the protocol of functions/classifier.
type classifier struct {
	name string
	says []prediction.Prediction
	// before, when set, may answer in the classifier's place: it returns true
	// when it did. Try counts from 1.
	before func(w http.ResponseWriter, r *http.Request, try int) bool

	mu    sync.Mutex
	reads []string // guarded by mu
	seen  []seen   // guarded by mu
}

type seen struct {
	contentType string
	body        []byte
	header      http.Header
	product     product.Product // when it came as JSON
	context     context.Context // of the request: it ends with it
}

func (c *classifier) requests() []seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen)
}

func (c *classifier) setReads(fields ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads = fields
}

// setBefore sets before, of a classifier that is being asked.
func (c *classifier) setBefore(before func(w http.ResponseWriter, r *http.Request, try int) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = before
}

func (c *classifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/classify" || r.URL.Query().Get("top") != "all" {
		problem.Write(w, problem.New(http.StatusNotFound, "no such path"))
		return
	}
	body, _ := io.ReadAll(r.Body)
	s := seen{contentType: r.Header.Get("Content-Type"), body: body, header: r.Header, context: r.Context()}
	c.mu.Lock()
	reads := c.reads
	c.seen = append(c.seen, s)
	try, before := len(c.seen), c.before
	c.mu.Unlock()
	w.Header().Set(prediction.HeaderReads, strings.Join(reads, ","))
	if before != nil && before(w, r, try) {
		return
	}
	if strings.HasPrefix(s.contentType, "image/") {
		if !slices.Contains(reads, "images") {
			problem.Write(w, problem.New(http.StatusUnsupportedMediaType, "this classifier reads no pictures"))
			return
		}
	} else {
		p, err := product.Decode(body)
		if err != nil {
			problem.Write(w, err)
			return
		}
		c.mu.Lock()
		c.seen[try-1].product = p
		c.mu.Unlock()
		if !p.Has(reads) {
			problem.Write(w, &problem.Error{Status: 422, Type: problem.TypeNothingToRead, Detail: "there is nothing to read"})
			return
		}
	}
	writeJSON(w, prediction.Result{
		Model:  prediction.Model{Name: c.name, Version: "1", Digest: "sha256:" + hex64},
		Device: "cpu", Predictions: c.says,
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	buf, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(buf)))
	_, _ = w.Write(buf)
}

func says(pairs ...any) []prediction.Prediction {
	var out []prediction.Prediction
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, prediction.Prediction{Label: pairs[i].(string), Probability: pairs[i+1].(float64)})
	}
	return out
}

const twoLegs = `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  deadline: 10s
  legs:
    - {name: title, service: title}
    - {name: photo, service: photo, weight: 0.8}
  reducer: {type: logpool, temperature: 1.0}
  taxonomy: taxonomy.csv
`

const smallTaxonomy = "id,parent,name\nwear,,Wear\nshirt,wear,Shirts\nshoe,wear,Shoes\n"

func parsed(t testing.TB, text string) *composition.Composition {
	t.Helper()
	c, err := composition.Parse([]byte(text), fstest.MapFS{"taxonomy.csv": {Data: []byte(smallTaxonomy)}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is a composer over an in-memory network with two classifiers.
type world struct {
	*network
	*Composer
	title, photo         *classifier
	stopTitle, stopPhoto func()
}

func newWorld(t *testing.T, text string) *world { return newWorldWith(t, text, nil) }

// newWorldWith is newWorld with metrics that are looked at.
func newWorldWith(t *testing.T, text string, set *metrics.Set) *world {
	w := &world{network: newNetwork(t),
		title: &classifier{name: "title", reads: []string{"title", "attributes.colour"}, says: says("Shirts", 0.9, "Shoes", 0.1)},
		photo: &classifier{name: "photo", reads: []string{"images"}, says: says("Shirts", 0.6, "Shoes", 0.4)},
	}
	w.stopTitle = w.serve("title", w.title)
	w.stopPhoto = w.serve("photo", w.photo)
	var err error
	w.Composer, err = New(Options{Composition: parsed(t, text), Transport: w.transport, Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// png is enough of a picture to be taken for one.
var png = append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 32)...)

func both() Product {
	return Product{Product: product.Product{ID: "p1", Title: "red shirt", Images: []product.Image{{Data: png}}}}
}

// exposed is what a scrape of metrics gives.
func exposed(set *metrics.Set) string {
	w := httptest.NewRecorder()
	set.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}
