// Package knativetest is an API server for tests, as much of one as a client
// sees: lists in pages, watches from a version or refused, server-side apply,
// create, merge patch and delete, pods' logs and their following, discovery, tokens, RBAC, and
// errors as Kubernetes' Status objects. Objects are JSON. It validates nothing
// by itself, keeps no fields' managers, and runs no controllers but the one that
// a test gives it.
package knativetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Object is one of Kubernetes' objects.
type Object = map[string]any

// Rule is one of a Role's.
type Rule struct {
	APIGroups, Resources, Verbs []string
}

// Server is an [http.Handler].
type Server struct {
	Token     string        // wanted of every request; empty: none
	Rules     []Rule        // what is allowed; nil: everything
	NoKnative bool          // Knative is not installed
	Without   []string      // groups that it does not have
	Stall     chan struct{} // when not nil, no request is answered before it is closed
	PageSize  int           // at most, of a list; 0: as asked
	MaxWatch  int           // events of one watch before the server ends it; 0: no limit
	Expire    int           // so many watches are refused as too old, by turns with HTTP 410 and in the stream

	Managed   map[string]string     // by name: the manager whose fields an apply that is not forced conflicts with
	Invalid   map[string]string     // by name: why an apply is refused
	Reconcile func(o Object) Object // what a controller makes of an applied object; nil: nothing

	mu      sync.Mutex // guards what follows
	version int
	objects map[string]Object // by group/resource/namespace/name
	history []change
	changed chan struct{}       // closed and replaced at every change
	logs    map[string][]string // by namespace/pod/container, previous ones with a "!" behind
	ended   map[string]bool     // logs that are complete
	used    map[string]bool     // "verb group/resource"
	asked   map[string]int      // requests by path
	watches int                 // that were asked for
}

type change struct {
	version   int
	kind, key string // ADDED, MODIFIED, DELETED
	object    Object
}

// resources that are served, with their kinds.
var resources = map[string]string{
	"/services": "Service", "serving.knative.dev/services": "Service", "serving.knative.dev/revisions": "Revision",
	"autoscaling.internal.knative.dev/podautoscalers": "PodAutoscaler", "/pods": "Pod", "/events": "Event",
	"/configmaps": "ConfigMap", "/secrets": "Secret", "networking.k8s.io/networkpolicies": "NetworkPolicy", "/namespaces": "Namespace",
	"eventing.knative.dev/brokers": "Broker", "eventing.knative.dev/triggers": "Trigger", "sources.knative.dev/pingsources": "PingSource", "aisle.dev/imagemaps": "ImageMap", "scaling.aisle.dev/scalingschedules": "ScalingSchedule",
}

// Put adds or replaces an object: resource is GROUP/PLURAL.
func (s *Server) Put(resource string, o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(resource, o, "ADDED")
}

// Delete removes an object.
func (s *Server) Delete(resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := resource + "/" + namespace + "/" + name
	s.set(resource, s.objects[key], "DELETED")
	delete(s.objects, key)
}

// REQUIRES: s.mu is held.
func (s *Server) set(resource string, o Object, kind string) {
	if resources[resource] == "" {
		panic("knativetest: no resource " + resource)
	}
	if s.objects == nil {
		s.objects = map[string]Object{}
	}
	s.version++
	// What watchers have been given stays as it was.
	o, meta := maps.Clone(o), maps.Clone(o["metadata"].(Object))
	o["metadata"] = meta
	meta["resourceVersion"] = strconv.Itoa(s.version)
	namespace, _ := meta["namespace"].(string) // a Namespace has none
	key := fmt.Sprintf("%s/%s/%v", resource, namespace, meta["name"])
	if kind == "ADDED" && s.objects[key] != nil {
		kind = "MODIFIED"
	}
	s.objects[key] = o
	s.history = append(s.history, change{s.version, kind, key, o})
	s.tell()
}

// REQUIRES: s.mu is held.
func (s *Server) tell() {
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
}

// Log writes lines to a container's log. A name with "!" behind is that of its
// previous life.
func (s *Server) Log(namespace, pod, container string, text ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs == nil {
		s.logs = map[string][]string{}
	}
	key := namespace + "/" + pod + "/" + container
	s.logs[key] = append(s.logs[key], text...)
	s.tell()
}

// EndLog ends a container's log: who follows it has it all.
func (s *Server) EndLog(namespace, pod, container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = map[string]bool{}
	}
	s.ended[namespace+"/"+pod+"/"+container] = true
	s.tell()
}

// Used lists what was asked for, as "verb group/resource".
func (s *Server) Used() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.used))
}

// Asked is how often a path was asked for.
func (s *Server) Asked(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

// ServeHTTP answers as an API server does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Stall != nil {
		select {
		case <-s.Stall:
		case <-r.Context().Done():
			return
		}
	}
	if s.Token != "" && r.Header.Get("Authorization") != "Bearer "+s.Token {
		status(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized", nil)
		return
	}
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/version":
		reply(w, Object{"major": "1", "minor": "35", "gitVersion": "v1.35.4"})
		return
	case len(path) == 2 && path[0] == "api" || len(path) == 3 && path[0] == "apis":
		s.discover(w, path)
		return
	}
	q, ok := parse(path)
	if !ok || !s.has(q.resource) {
		http.Error(w, "404 page not found", http.StatusNotFound) // as a real one, which has no Status for it
		return
	}
	switch {
	case r.Method == http.MethodPatch && q.name != "":
		q.verb = "patch"
	case r.Method == http.MethodDelete && q.name != "":
		q.verb = "delete"
	case r.Method == http.MethodPost && q.name == "":
		q.verb = "create"
	case r.Method != http.MethodGet:
		status(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the server does not allow this method on the requested resource", Object{})
		return
	case q.name != "":
		q.verb = "get"
	case r.FormValue("watch") == "true" || r.FormValue("watch") == "1":
		q.verb = "watch"
	}
	if !s.allowed(r.URL.Path, q) {
		s.forbid(w, q)
		return
	}
	switch {
	case q.sub == "log":
		s.log(w, r, q)
	case q.sub != "":
		status(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource", Object{})
	case q.verb == "get":
		s.get(w, q)
	case q.verb == "create":
		s.create(w, r, q)
	case q.verb == "patch" && r.Header.Get("Content-Type") == "application/merge-patch+json":
		s.merge(w, r, q)
	case q.verb == "patch":
		s.apply(w, r, q)
	case q.verb == "delete":
		s.remove(w, r, q)
	case q.verb == "watch":
		s.watch(w, r, q)
	default:
		s.list(w, r, q)
	}
}

func (s *Server) forbid(w http.ResponseWriter, q query) {
	group, plural, _ := strings.Cut(q.resource, "/")
	status(w, http.StatusForbidden, "Forbidden", fmt.Sprintf("%s.%s is forbidden: User \"tester\" cannot %s resource %q in API group %q in the namespace %q", plural, group, q.verb, plural, group, q.namespace), Object{"kind": plural})
}

// has is whether a resource is served. Of Kubernetes' own Services nobody asks.
func (s *Server) has(resource string) bool {
	group, _, _ := strings.Cut(resource, "/")
	return resources[resource] != "" && resource != "/services" && !slices.Contains(s.Without, group) && !(s.NoKnative && strings.HasSuffix(group, "knative.dev"))
}

// query is what a path asks for.
type query struct{ resource, version, namespace, name, sub, verb string }

func parse(path []string) (query, bool) {
	q := query{verb: "list"}
	switch {
	case len(path) >= 2 && path[0] == "api":
		q.version, path = path[1], path[2:]
	case len(path) >= 3 && path[0] == "apis":
		q.resource, q.version, path = path[1], path[1]+"/"+path[2], path[3:]
	default:
		return q, false
	}
	if len(path) > 2 && path[0] == "namespaces" {
		q.namespace, path = path[1], path[2:]
	}
	if len(path) == 0 || len(path) > 3 {
		return q, false
	}
	path = append(path, "", "")
	q.resource, q.name, q.sub = q.resource+"/"+path[0], path[1], path[2]
	return q, true
}

func (s *Server) allowed(path string, q query) bool {
	group, plural, _ := strings.Cut(q.resource, "/")
	if q.sub != "" {
		plural += "/" + q.sub
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used == nil {
		s.used, s.asked = map[string]bool{}, map[string]int{}
	}
	s.used[q.verb+" "+group+"/"+plural] = true
	s.asked[path]++
	return s.Rules == nil || slices.ContainsFunc(s.Rules, func(r Rule) bool {
		return slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, plural) && slices.Contains(r.Verbs, q.verb)
	})
}

func (s *Server) get(w http.ResponseWriter, q query) {
	s.mu.Lock()
	o := s.objects[q.resource+"/"+q.namespace+"/"+q.name]
	s.mu.Unlock()
	if o == nil {
		s.missing(w, q)
		return
	}
	reply(w, o)
}

func (s *Server) missing(w http.ResponseWriter, q query) {
	group, plural, _ := strings.Cut(q.resource, "/")
	status(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s.%s %q not found", plural, group, q.name), Object{"name": q.name, "group": group, "kind": plural})
}

// mine is whether a list or a watch is of an object.
func (q query) mine(key string, o Object, selector string) bool {
	if !strings.HasPrefix(key, q.resource+"/") {
		return false
	}
	meta := o["metadata"].(Object)
	labels, _ := meta["labels"].(Object)
	for _, want := range strings.FieldsFunc(selector, func(r rune) bool { return r == ',' }) {
		name, value, exact := strings.Cut(want, "=")
		if have, ok := labels[name]; !ok || exact && have != value {
			return false
		}
	}
	return q.namespace == "" || meta["namespace"] == q.namespace
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, q query) {
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	if s.PageSize > 0 {
		limit = min(cmp.Or(limit, s.PageSize), s.PageSize)
	}
	after := r.FormValue("continue")
	s.mu.Lock()
	items, last, next := []Object{}, "", ""
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if key <= after || !q.mine(key, s.objects[key], r.FormValue("labelSelector")) {
			continue
		}
		if limit > 0 && len(items) == limit {
			next = last
			break
		}
		// As a real one: items of a list do not say what they are.
		o := maps.Clone(s.objects[key])
		delete(o, "kind")
		delete(o, "apiVersion")
		items, last = append(items, o), key
	}
	meta := Object{"resourceVersion": strconv.Itoa(s.version)}
	s.mu.Unlock()
	if next != "" {
		meta["continue"] = next
	}
	reply(w, Object{"kind": resources[q.resource] + "List", "apiVersion": q.version, "metadata": meta, "items": items})
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request, q query) {
	from, err := strconv.Atoi(r.FormValue("resourceVersion"))
	if err != nil {
		status(w, http.StatusBadRequest, "BadRequest", "resourceVersion: "+err.Error(), nil)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	enc, flush, sent := json.NewEncoder(w), http.NewResponseController(w), 0
	s.mu.Lock()
	s.watches++
	n := s.watches
	s.mu.Unlock()
	if n <= s.Expire {
		const old = "too old resource version"
		if n%2 == 1 {
			status(w, http.StatusGone, "Expired", old, nil)
		} else {
			_ = enc.Encode(Object{"type": "ERROR", "object": failure(http.StatusGone, "Expired", old, nil)}) // the client has gone
		}
		return
	}
	for {
		s.mu.Lock()
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed, news := s.changed, s.history[min(len(s.history), from):]
		s.mu.Unlock()
		for _, c := range news {
			from = c.version
			if !q.mine(c.key, c.object, r.FormValue("labelSelector")) {
				continue
			}
			o := maps.Clone(c.object)
			o["kind"], o["apiVersion"] = resources[q.resource], q.version
			if enc.Encode(Object{"type": c.kind, "object": o}) != nil {
				return
			}
			if sent++; sent == s.MaxWatch {
				return
			}
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

// status answers with a Status object, as Kubernetes does.
func status(w http.ResponseWriter, code int, reason, message string, details Object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(failure(code, reason, message, details)) // likewise
}

func failure(code int, reason, message string, details Object) Object {
	s := Object{"kind": "Status", "apiVersion": "v1", "metadata": Object{}, "status": "Failure", "message": message, "reason": reason, "code": code}
	if details != nil {
		s["details"] = details
	}
	return s
}
