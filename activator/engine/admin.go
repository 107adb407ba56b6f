package engine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/hand"
	"aisle.dev/aisle/activator/engine/kube"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/problem"
)

// admin answers the command line, over the unix socket, and who has a token.
func (e *Engine) admin() *http.ServeMux {
	mux := http.NewServeMux()
	list := func(path string, what func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(what()) // the caller has gone; there is nobody left to tell
		})
	}
	list("/v1/version", func() any { return e.version })
	list("/v1/services", func() any { return e.control.serviceViews() })
	list("/v1/revisions", func() any { return e.control.revisionViews() })
	list("/v1/pods", func() any {
		all := []client.Pod{}
		for _, r := range e.control.running() {
			all = append(all, r.podViews()...)
		}
		slices.SortStableFunc(all, func(a, b client.Pod) int {
			return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
		})
		return all
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.opts.Registry, promhttp.HandlerOpts{}))
	logs := problem.Handler(e.logs, func(_ *http.Request, err error) { e.log.Error("logs not answered", "err", err) })
	mux.Handle("GET /v1/logs/{name...}", logs)
	mux.Handle("GET /v1/usage", problem.Handler(e.usageDays, func(_ *http.Request, err error) { e.log.Error("usage not answered", "err", err) }))
	mux.HandleFunc("/v1/events/", e.events.admin)
	mux.Handle(access.ScalePath, hand.Handler(e.control, e.log))
	mux.Handle("GET /v1/audit", problem.Handler(e.changes, func(_ *http.Request, err error) { e.log.Error("the audit log is not answered", "err", err) }))
	kubernetes := &kube.Server{Store: e.control.store, Backend: e.control, Log: func(w http.ResponseWriter, req *http.Request, namespace, pod string) {
		req.SetPathValue("name", namespace+"/"+pod)
		logs.ServeHTTP(w, req)
	}}
	mux.Handle("/api/", kubernetes)
	mux.Handle("/apis/", kubernetes)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, problem.New(http.StatusNotFound, "the engine does not answer %s %s; this command line may be of another version", r.Method, r.URL.Path))
	})
	return mux
}

// followEvery is how often a followed log is looked at.
const followEvery = 200 * time.Millisecond

// logs streams the logs that a name means: a service's ("title" or
// "default/title"), a revision's, or one pod's, ended ones included; kind says
// which of these. Logs of more than one pod are told apart by tail's headers. Of
// each, tailLines are told at first. Following one pod ends when that has gone.
func (e *Engine) logs(w http.ResponseWriter, req *http.Request) error {
	name, follow := req.PathValue("name"), req.FormValue("follow") == "true"
	tail := -1
	if n := req.FormValue("tailLines"); n != "" {
		var err error
		if tail, err = strconv.Atoi(n); err != nil || tail < 0 {
			return problem.New(http.StatusBadRequest, "tailLines=%.40s is not a number of lines", n)
		}
	}
	namespace, match, gone := e.logsOf(req.FormValue("kind"), name)
	if match == nil {
		var known []string
		for _, s := range list[*servingv1.Service](e.control.store, objects.Services) {
			known = append(known, s.Namespace+"/"+s.Name)
		}
		what := cmp.Or(req.FormValue("kind"), "service, revision or pod")
		return problem.New(http.StatusNotFound, "there is no %s %q; the services are: %s", what, name, strings.Join(known, ", "))
	}
	out := &logCopier{w: w, dir: e.machine.LogDir(namespace), match: match, offset: map[string]int64{}, tail: tail}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := out.all(); err != nil || !follow {
		return out.quiet(err)
	}
	flush := http.NewResponseController(w)
	look := time.NewTicker(followEvery)
	defer look.Stop()
	for {
		if err := flush.Flush(); err != nil {
			return nil // the caller has gone
		}
		select {
		case <-req.Context().Done():
			return nil
		case <-e.stopping:
			return nil
		case <-look.C:
		}
		ended := gone()
		if err := out.more(); err != nil || ended {
			return out.quiet(err)
		}
	}
}

// logsOf finds whose logs a name means: all revisions' of a service, one
// revision's, or one pod's; kind says which, or is empty. match is nil if it
// means none; gone is whether nothing more will be written.
func (e *Engine) logsOf(kind, name string) (namespace string, match func(pod string) bool, gone func() bool) {
	may := func(k string) bool { return kind == "" || kind == k }
	never := func() bool { return false }
	for _, s := range list[*servingv1.Service](e.control.store, objects.Services) {
		if !may(client.KindService) || name != s.Name && name != s.Namespace+"/"+s.Name {
			continue
		}
		return s.Namespace, func(pod string) bool { // revisions come and go while a log is followed
			of, _ := revisionOf(pod)
			r, ok := e.control.store.Get(objects.Revisions.Key(s.Namespace, of)).(*servingv1.Revision)
			return ok && serviceOf(r).Name == s.Name
		}, never
	}
	if ns, rest, ok := strings.Cut(name, "/"); ok {
		namespace, name = ns, rest
	}
	for _, r := range list[*servingv1.Revision](e.control.store, objects.Revisions) {
		if namespace != "" && r.Namespace != namespace {
			continue
		}
		if may(client.KindRevision) && name == r.Name {
			return r.Namespace, func(pod string) bool { return isPodOf(pod, r.Name) }, never
		}
		if !may(client.KindPod) || !isPodOf(name, r.Name) {
			continue
		}
		gone := func() bool { return e.control.store.Get(objects.Pods.Key(r.Namespace, name)) == nil }
		_, err := os.Stat(filepath.Join(e.machine.LogDir(r.Namespace), name+".log"))
		if err == nil || !gone() {
			return r.Namespace, func(pod string) bool { return pod == name }, gone
		}
	}
	return "", nil, nil
}

// logCopier copies logs, each from where it stopped before.
type logCopier struct {
	w      io.Writer
	dir    string
	match  func(pod string) bool
	offset map[string]int64 // by pod
	tail   int              // lines of each log at first; -1: all
	last   string           // the pod whose text came last
	wrote  bool
}

// all copies every log from its beginning, its older part first.
func (c *logCopier) all() error {
	pods, err := pod.Logs(c.dir, c.match)
	if err != nil {
		return err
	}
	for _, p := range pods {
		var older, from int64
		if c.tail >= 0 {
			var lines int
			var err, olderErr error
			from, lines, err = lastLines(filepath.Join(c.dir, p+".log"), c.tail)
			older, _, olderErr = lastLines(filepath.Join(c.dir, p+".log.1"), c.tail-lines)
			if err := errors.Join(err, olderErr); err != nil {
				return err
			}
		}
		if err := c.copy(p, p+".log.1", older, len(pods) > 1); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := c.copy(p, p+".log", from, len(pods) > 1); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// more copies what has been written since.
func (c *logCopier) more() error {
	pods, err := pod.Logs(c.dir, c.match)
	if err != nil {
		return err
	}
	for _, p := range pods {
		info, err := os.Stat(filepath.Join(c.dir, p+".log"))
		if err != nil {
			continue // pruned meanwhile
		}
		from := c.offset[p]
		if info.Size() < from {
			from = 0 // trimmed meanwhile
		}
		if info.Size() == from {
			continue
		}
		if err := c.copy(p, p+".log", from, true); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (c *logCopier) copy(pod, file string, from int64, header bool) error {
	f, err := os.Open(filepath.Join(c.dir, file))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	if header && c.last != pod {
		if _, err := fmt.Fprintf(c.w, "==> %s <==\n", pod); err != nil {
			return err
		}
	}
	c.last, c.wrote = pod, true
	n, err := io.Copy(c.w, f)
	if file == pod+".log" {
		c.offset[pod] = from + n
	}
	return err
}

// quiet drops an error that comes too late to be told.
func (c *logCopier) quiet(err error) error {
	if c.wrote {
		return nil
	}
	return err
}
