package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/problem"
)

// SocketName is the engine's socket within its data directory.
const SocketName = "engine.sock"

// maxAnswer bounds a JSON answer of the engine. It is far above what the
// largest sensible machine lists.
const maxAnswer = 16 << 20

// Engine is the [Client] of the engine on this machine, or of one that serves
// its admin API over TCP.
type Engine struct {
	Namespace string // that lists and names of services are of; empty: all

	at      string // what people call it: its data directory, or its URL
	base    string // URL that paths are added to
	remote  bool
	http    *http.Client
	objects func() *objects.Client // made when it is first asked for
}

var (
	_ Client    = (*Engine)(nil)
	_ Describer = (*Engine)(nil)
)

// NewEngine returns the client of the engine whose data directory is dataDir.
// It does not connect: each call fails with a sentence that says what to do
// while no engine runs there.
func NewEngine(dataDir string) *Engine {
	socket := filepath.Join(dataDir, SocketName)
	e := &Engine{
		at: dataDir, base: "http://engine",
		http: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				d := net.Dialer{Timeout: 5 * time.Second}
				return d.DialContext(ctx, "unix", socket)
			},
			DisableKeepAlives:  true, // the command line asks once
			DisableCompression: true,
		}},
	}
	e.objects = sync.OnceValue(e.openObjects)
	return e
}

// NewRemoteEngine returns the client of an engine that serves its admin API at
// a URL (aisle up --admin-addr), asked with a token.
func NewRemoteEngine(base *url.URL, token string) *Engine {
	at := strings.TrimSuffix(base.String(), "/")
	e := &Engine{at: at, base: at, remote: true, http: &http.Client{Transport: bearer(token)}}
	e.objects = sync.OnceValue(e.openObjects)
	return e
}

// bearer asks with a token.
type bearer string

// RoundTrip implements [http.RoundTripper].
func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(req)
}

// Services lists the services, by namespace and name.
func (e *Engine) Services(ctx context.Context) ([]Service, error) {
	var list []Service
	err := e.get(ctx, "/v1/services", &list)
	return slices.DeleteFunc(list, func(x Service) bool { return e.elsewhere(x.Namespace) }), err
}

// Revisions lists the revisions, by namespace and name.
func (e *Engine) Revisions(ctx context.Context) ([]Revision, error) {
	var list []Revision
	err := e.get(ctx, "/v1/revisions", &list)
	return slices.DeleteFunc(list, func(x Revision) bool { return e.elsewhere(x.Namespace) }), err
}

// Pods lists the pods, by namespace and name.
func (e *Engine) Pods(ctx context.Context) ([]Pod, error) {
	var list []Pod
	err := e.get(ctx, "/v1/pods", &list)
	return slices.DeleteFunc(list, func(x Pod) bool { return e.elsewhere(x.Namespace) }), err
}

func (e *Engine) elsewhere(namespace string) bool {
	return e.Namespace != "" && namespace != e.Namespace
}

// Version says what is running.
func (e *Engine) Version(ctx context.Context) (Version, error) {
	var v Version
	return v, e.get(ctx, "/v1/version", &v)
}

// Logs implements [Client]: of pods that have ended too. A follow that ends
// because ctx did returns nil. When a line was written the engine does not
// know, and a process that ends is another pod's in its place.
func (e *Engine) Logs(ctx context.Context, w io.Writer, q LogQuery) error {
	for name, asked := range map[string]bool{"since when": q.Since > 0, "when lines were written": q.Timestamps} {
		if asked {
			return problem.New(http.StatusBadRequest, "the engine does not know %s: pods write their logs as they like; leave --since and --timestamps away, or use --tail", name)
		}
	}
	if q.Previous {
		return problem.New(http.StatusBadRequest, "no pod of the engine has a process before its own: a new process is a new pod, and the logs of a service or a revision have those of ended pods too")
	}
	name := q.Name
	if e.Namespace != "" && !strings.Contains(name, "/") {
		var all []Service
		if err := e.get(ctx, "/v1/services", &all); err != nil {
			return err
		}
		// Revisions and pods have numbers in their names: those are nobody else's.
		if slices.ContainsFunc(all, func(s Service) bool { return s.Name == name }) {
			name = e.Namespace + "/" + name
		}
	}
	params := url.Values{"follow": {strconv.FormatBool(q.Follow)}}
	if q.Kind != "" {
		params.Set("kind", q.Kind)
	}
	if q.Tail >= 0 {
		params.Set("tailLines", strconv.Itoa(q.Tail))
	}
	resp, err := e.do(ctx, http.MethodGet, "/v1/logs/"+url.PathEscape(name)+"?"+params.Encode(), nil, nil)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.Copy(w, resp.Body)
	}
	if q.Follow && ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the engine at %s ended; start it again with: aisle up (%w)", e.at, ErrNotRunning)
	}
	return err
}

func (e *Engine) get(ctx context.Context, path string, into any) error {
	return e.ask(ctx, http.MethodGet, path, into)
}

// ask reads the engine's JSON into a value.
func (e *Engine) ask(ctx context.Context, method, path string, into any) error {
	resp, err := e.do(ctx, method, path, nil, nil)
	if err != nil {
		return err
	}
	return read(resp, path, into)
}

// read reads an answer to its end.
func read(resp *http.Response, path string, into any) error {
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("read the engine's answer to %s: %w", path, err)
	}
	return nil
}

// do asks the engine; an answer other than 2xx is returned as the error that
// its problem+json describes.
func (e *Engine) do(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask the engine: %w", err)
	}
	maps.Copy(req.Header, header)
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, e.explain(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	var refusal struct{ Detail string }
	if mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); mt == problem.ContentType {
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&refusal) // an unreadable one is reported by its status
	}
	if refusal.Detail == "" {
		refusal.Detail = fmt.Sprintf("the engine answered %s with %s", path, resp.Status)
	}
	return nil, problem.New(resp.StatusCode, "%s", refusal.Detail)
}

// Objects are the engine's, in Kubernetes' protocol.
func (e *Engine) Objects() *objects.Client { return e.objects() }

func (e *Engine) openObjects() *objects.Client {
	c, err := objects.New(&objects.Config{Host: e.base, QPS: -1}, e.http, engineTimeout, func(err error, doing string, _ objects.Kind) error {
		if apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return e.explain(err)
	})
	if err != nil {
		panic(err) // the configuration is a constant
	}
	return c
}

// engineTimeout bounds a request for objects: nothing is asked over a network.
const engineTimeout = 15 * time.Second

// explain turns a failed connection into what the user can do about it.
func (e *Engine) explain(err error) error {
	switch {
	case errors.Is(err, objects.ErrSlow):
		return fmt.Errorf("the engine at %s did not answer within %v; see its own output", e.at, engineTimeout)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("ask the engine at %s: %w", e.at, err)
	case e.remote:
		return fmt.Errorf("the engine at %s cannot be reached: %w; it serves there where it was started with --admin-addr (%w)", e.at, err, ErrNotRunning)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no engine is running at %s; start one with: aisle up (%w)", e.at, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the engine at %s belongs to another user; only its owner may ask it", e.at)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("the data directory %s has a name too long for a unix socket; choose a shorter --data-dir", e.at)
	}
	return fmt.Errorf("ask the engine at %s: %w", e.at, err)
}

// ErrNotRunning is in the chain of an error that means that no engine serves
// the data directory.
var ErrNotRunning = errors.New("not running")
