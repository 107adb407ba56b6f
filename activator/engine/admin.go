package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/problem"
)

// admin answers the command line, over the unix socket.
func (e *Engine) admin() http.Handler {
	mux := http.NewServeMux()
	list := func(path string, what func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(what()) // the caller has gone; there is nobody left to tell
		})
	}
	list("/v1/version", func() any { return e.version })
	list("/v1/services", func() any {
		all := []client.Service{}
		for _, r := range e.revs {
			all = append(all, r.serviceView(e.version.Address))
		}
		return all
	})
	list("/v1/revisions", func() any {
		all := []client.Revision{}
		for _, r := range e.revs {
			all = append(all, r.view())
		}
		return all
	})
	list("/v1/pods", func() any {
		all := []client.Pod{}
		for _, r := range e.revs {
			all = append(all, r.podViews()...)
		}
		slices.SortStableFunc(all, func(a, b client.Pod) int {
			return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
		})
		return all
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.opts.Registry, promhttp.HandlerOpts{}))
	mux.Handle("GET /v1/logs/{name...}", problem.Handler(e.logs, func(_ *http.Request, err error) {
		e.log.Error("logs not answered", "err", err)
	}))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, problem.New(http.StatusNotFound, "the engine does not answer %s %s; this command line may be of another version", r.Method, r.URL.Path))
	})
	return mux
}

// serviceView is the revision's service for those who ask.
func (r *revision) serviceView(address string) client.Service {
	_, port, _ := strings.Cut(address, ":")
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		port = address[i+1:]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.count()
	s := client.Service{
		Namespace: v.Namespace, Name: v.Service, LatestRevision: v.Name,
		URL:   "http://" + hostOf(r.service) + ":" + port,
		Ready: true, Pods: v.Ready,
	}
	if r.trouble != "" && v.Ready == 0 {
		s.Ready, s.Reason = false, r.trouble
		if r.failures > 1 {
			s.Reason = fmt.Sprintf("%d pods failed in a row, the last one: %s", r.failures, r.trouble)
		}
	}
	return s
}

// followEvery is how often a followed log is looked at.
const followEvery = 200 * time.Millisecond

// logs streams the logs that a name means: a service's ("title" or
// "default/title"), a revision's, or one pod's, ended ones included. Logs of
// more than one pod are told apart by tail's headers.
func (e *Engine) logs(w http.ResponseWriter, req *http.Request) error {
	name, follow := req.PathValue("name"), req.FormValue("follow") == "true"
	r, match := e.logsOf(name)
	if r == nil {
		var known []string
		for _, r := range e.revs {
			known = append(known, r.service)
		}
		return problem.New(http.StatusNotFound, "there is no service, revision or pod %q; the services are: %s", name, strings.Join(known, ", "))
	}
	out := &logCopier{w: w, dir: r.machine.LogDir(r.spec.Namespace), match: match, offset: map[string]int64{}}
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
		if err := out.more(); err != nil {
			return out.quiet(err)
		}
	}
}

// logsOf finds whose logs a name means.
func (e *Engine) logsOf(name string) (*revision, func(pod string) bool) {
	for _, r := range e.revs {
		if name == r.spec.Service || name == r.service || name == r.name {
			return r, func(pod string) bool { return isPodOf(pod, r.name) }
		}
		if isPodOf(name, r.name) {
			if _, err := os.Stat(filepath.Join(r.machine.LogDir(r.spec.Namespace), name+".log")); err == nil || r.has(name) {
				return r, func(pod string) bool { return pod == name }
			}
		}
	}
	return nil, nil
}

// logCopier copies logs, each from where it stopped before.
type logCopier struct {
	w      io.Writer
	dir    string
	match  func(pod string) bool
	offset map[string]int64 // by pod
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
		if err := c.copy(p, p+".log.1", 0, len(pods) > 1); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := c.copy(p, p+".log", 0, len(pods) > 1); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
