// Package kube answers Kubernetes' REST protocol for the engine's objects:
// list, get, watch, server-side apply and delete, with labels and a name
// selected, and refusals as Kubernetes' Status objects. So one client serves
// for a cluster and for the engine.
//
// It is as much of the protocol as that client speaks, and means the same by
// it, but for one thing: an apply replaces the whole of what its object says,
// whoever applied it before (there is one manager of fields).
//
// It authenticates nobody: who may open the engine's socket may do everything.
package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/internal/manifest"
)

// Backend changes objects. An error may be a [*manifest.Invalid] or have
// [ErrInUse] or [ErrStale] in its chain.
type Backend interface {
	// Apply takes an object as it is written, by whom, if it is [Fresh]; dry
	// leaves everything as it is.
	Apply(by access.Caller, raw *unstructured.Unstructured, dry bool) (made manifest.Object, created bool, warnings []string, err error)
	// Delete gives what was there, nil if nothing was.
	Delete(by access.Caller, key objects.Key) (manifest.Object, error)
}

// ErrInUse is why an object may not be deleted now.
var ErrInUse = errors.New("it is needed")

// ErrStale is why an object that was written from an old one is not taken.
var ErrStale = errors.New("the object has been modified; please apply your changes to the latest version and try again")

// Fresh is nil unless an object names the version that it was written from and
// that is not the one that is there, nil for none.
func Fresh(raw *unstructured.Unstructured, there manifest.Object) error {
	from := raw.GetResourceVersion()
	if from == "" || there != nil && there.GetResourceVersion() == from {
		return nil
	}
	return fmt.Errorf("%s %s/%s: metadata.resourceVersion %.40q: %w", raw.GetKind(), raw.GetNamespace(), raw.GetName(), from, ErrStale)
}

// Server is the [http.Handler].
type Server struct {
	Store   *objects.Store
	Backend Backend
	// Log answers for GET .../pods/NAME/log.
	Log func(w http.ResponseWriter, req *http.Request, namespace, pod string)

	watches atomic.Int64 // that are under way
}

// query is what a path asks for.
type query struct {
	resource             objects.Resource
	namespace, name, sub string
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	if kinds := discover(path); kinds != nil && req.Method == http.MethodGet {
		reply(w, http.StatusOK, kinds)
		return
	}
	q, ok := parse(path)
	if !ok {
		refuse(w, &metav1.Status{Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: "the server could not find the requested resource"})
		return
	}
	switch {
	case q.sub != "" && req.Method == http.MethodGet:
		if s.Store.Get(q.key()) == nil {
			refuse(w, q.missing())
			return
		}
		s.Log(w, req, q.namespace, q.name)
	case req.Method == http.MethodGet && q.name != "":
		s.get(w, q)
	case req.Method == http.MethodGet && isTrue(req.FormValue("watch")):
		s.watch(w, req, q)
	case req.Method == http.MethodGet:
		s.list(w, req, q)
	case req.Method == http.MethodPatch && q.name != "" && !q.resource.Made && q.sub == "":
		s.apply(w, req, q)
	case req.Method == http.MethodDelete && q.name != "" && !q.resource.Live && q.sub == "":
		s.delete(w, req, q)
	default:
		refuse(w, &metav1.Status{
			Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed,
			Message: fmt.Sprintf("%s is not allowed on %s here", req.Method, q.resource.GroupResource()), Details: q.details(),
		})
	}
}

func isTrue(s string) bool { return s == "true" || s == "1" }

func parse(path []string) (query, bool) {
	var q query
	group := ""
	switch {
	case len(path) >= 2 && path[0] == "api":
		path = path[1:]
	case len(path) >= 3 && path[0] == "apis":
		group, path = path[1], path[2:]
	default:
		return q, false
	}
	version := path[0]
	path = path[1:]
	if len(path) > 2 && path[0] == "namespaces" {
		q.namespace, path = path[1], path[2:]
	}
	if len(path) == 0 || len(path) > 3 || len(path) > 1 && q.namespace == "" {
		return q, false
	}
	i := slices.IndexFunc(objects.All, func(r objects.Resource) bool {
		return r.Group == group && r.Version == version && r.Resource == path[0]
	})
	if i < 0 {
		return q, false
	}
	q.resource = objects.All[i]
	path = append(path, "", "")
	q.name, q.sub = path[1], path[2]
	return q, q.sub == "" || q.sub == "log" && q.resource.Kind == objects.Pods.Kind
}

// discover gives the kinds of a group's version, if that is what is asked for.
func discover(path []string) *metav1.APIResourceList {
	at := strings.TrimPrefix(strings.Join(path, "/"), "api")
	at = strings.TrimPrefix(strings.TrimPrefix(at, "s"), "/")
	list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: at}
	for _, r := range objects.All {
		if r.GroupVersion().String() != at {
			continue
		}
		verbs := metav1.Verbs{"get", "list", "watch"}
		if !r.Made {
			verbs = append(verbs, "patch")
		}
		if !r.Live {
			verbs = append(verbs, "delete")
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: r.Resource, SingularName: strings.ToLower(r.Kind), Kind: r.Kind, Namespaced: true, Verbs: verbs,
		})
	}
	if list.APIResources == nil {
		return nil
	}
	return list
}

func (q query) key() objects.Key { return q.resource.Key(q.namespace, q.name) }

func (q query) details() *metav1.StatusDetails {
	return &metav1.StatusDetails{Name: q.name, Group: q.resource.Group, Kind: q.resource.Resource}
}

func (q query) missing() *metav1.Status {
	return &metav1.Status{
		Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: fmt.Sprintf("%s %q not found", q.resource.GroupResource(), q.name), Details: q.details(),
	}
}

func (s *Server) get(w http.ResponseWriter, q query) {
	o := s.Store.Get(q.key())
	if o == nil {
		refuse(w, q.missing())
		return
	}
	reply(w, http.StatusOK, o)
}

// chosen is which objects of a list or a watch are asked for.
func chosen(req *http.Request) (func(manifest.Object) bool, error) {
	byLabel, err := labels.Parse(req.FormValue("labelSelector"))
	if err != nil {
		return nil, fmt.Errorf("labelSelector: %w", err)
	}
	byField, err := fields.ParseSelector(req.FormValue("fieldSelector"))
	if err != nil {
		return nil, fmt.Errorf("fieldSelector: %w", err)
	}
	for _, r := range byField.Requirements() {
		if r.Field != "metadata.name" && r.Field != "metadata.namespace" {
			return nil, fmt.Errorf("fieldSelector: %s is not supported; metadata.name and metadata.namespace are", r.Field)
		}
	}
	return func(o manifest.Object) bool {
		return byLabel.Matches(labels.Set(o.GetLabels())) &&
			byField.Matches(fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()})
	}, nil
}

func (s *Server) list(w http.ResponseWriter, req *http.Request, q query) {
	mine, err := chosen(req)
	if err != nil {
		refuse(w, badRequest(err))
		return
	}
	all, version := s.Store.List(q.resource, q.namespace)
	all = slices.DeleteFunc(all, func(o manifest.Object) bool { return !mine(o) })
	if all == nil {
		all = []manifest.Object{}
	}
	reply(w, http.StatusOK, map[string]any{
		"kind": q.resource.Kind + "List", "apiVersion": q.resource.GroupVersion().String(),
		"metadata": metav1.ListMeta{ResourceVersion: strconv.FormatInt(version, 10)}, "items": all,
	})
}

func badRequest(err error) *metav1.Status {
	return &metav1.Status{Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: err.Error()}
}

const applyPatch = "application/apply-patch+yaml"

func (s *Server) apply(w http.ResponseWriter, req *http.Request, q query) {
	if ct := req.Header.Get("Content-Type"); ct != applyPatch {
		refuse(w, &metav1.Status{Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
			Message: fmt.Sprintf("the body of the request was in an unknown format: %q; %s is supported", ct, applyPatch)})
		return
	}
	dry, err := isDry(req.URL.Query()["dryRun"])
	if err != nil {
		refuse(w, badRequest(err))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, objects.MaxBytes))
	if err != nil {
		refuse(w, &metav1.Status{Code: http.StatusRequestEntityTooLarge, Reason: metav1.StatusReasonRequestEntityTooLarge, Message: err.Error()})
		return
	}
	all, err := manifest.Read("the request", bytes.NewReader(body))
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("the request has %d objects; want one", len(all))
	}
	if err != nil {
		refuse(w, badRequest(err))
		return
	}
	o := all[0]
	if o.GetAPIVersion() != q.resource.GroupVersion().String() || o.GetKind() != q.resource.Kind || o.GetName() != q.name || o.GetNamespace() != "" && o.GetNamespace() != q.namespace {
		refuse(w, badRequest(fmt.Errorf("the object is %s %s %s/%s; the request is for %s", o.GetAPIVersion(), o.GetKind(), o.GetNamespace(), o.GetName(), q.key())))
		return
	}
	o.SetNamespace(q.namespace)
	made, created, warnings, err := s.Backend.Apply(access.Of(req), o, dry)
	if err != nil {
		refuse(w, q.status(err))
		return
	}
	for _, text := range warnings {
		w.Header().Add("Warning", "299 - "+strconv.Quote(text)) // RFC 7234, as Kubernetes warns
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	reply(w, code, made)
}

// isDry is whether a change is only to be tried. What it does not know it
// refuses: that must not be taken for a wish to change something.
func isDry(directives []string) (bool, error) {
	for _, d := range directives {
		if d != metav1.DryRunAll {
			return false, fmt.Errorf("dryRun: %q is not supported; %q is", d, metav1.DryRunAll)
		}
	}
	return len(directives) > 0, nil
}

// maxOptions bounds what a request to delete says besides.
const maxOptions = 64 << 10

// isDryDelete is isDry of a request to delete, whose options may be in its body.
// Of these, what would keep the object from being deleted is refused, and how
// its dependents go is the engine's.
func isDryDelete(w http.ResponseWriter, req *http.Request) (bool, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxOptions))
	if err != nil {
		return false, err
	}
	var options metav1.DeleteOptions
	if len(body) > 0 {
		if err := json.Unmarshal(body, &options); err != nil {
			return false, fmt.Errorf("the options: %w", err)
		}
	}
	if options.Preconditions != nil {
		return false, errors.New("preconditions are not supported")
	}
	return isDry(append(req.URL.Query()["dryRun"], options.DryRun...))
}

func (s *Server) delete(w http.ResponseWriter, req *http.Request, q query) {
	dry, err := isDryDelete(w, req)
	if err != nil {
		refuse(w, badRequest(err))
		return
	}
	if dry {
		s.get(w, q)
		return
	}
	gone, err := s.Backend.Delete(access.Of(req), q.key())
	switch {
	case err != nil:
		refuse(w, q.status(err))
	case gone == nil:
		refuse(w, q.missing())
	default:
		details := q.details()
		details.UID = gone.GetUID()
		reply(w, http.StatusOK, &metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Details: details,
		})
	}
}

// status is an error of the backend as Kubernetes would tell of it.
func (q query) status(err error) *metav1.Status {
	st := &metav1.Status{Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError, Message: err.Error(), Details: q.details()}
	if errors.Is(err, ErrInUse) || errors.Is(err, ErrStale) {
		st.Code, st.Reason = http.StatusConflict, metav1.StatusReasonConflict
	}
	if invalid, ok := errors.AsType[*manifest.Invalid](err); ok {
		st.Code, st.Reason = http.StatusUnprocessableEntity, metav1.StatusReasonInvalid
		var text []string
		for _, p := range invalid.Problems {
			st.Details.Causes = append(st.Details.Causes, metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Message: p.Reason, Field: p.Path})
			text = append(text, strings.TrimPrefix(p.Path+": "+p.Reason, ": "))
		}
		st.Message = fmt.Sprintf("%s %q is invalid: %s", q.resource.Kind, q.name, strings.Join(text, "; "))
	}
	return st
}

func refuse(w http.ResponseWriter, s *metav1.Status) {
	s.TypeMeta, s.Status = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, string(metav1.StatusFailure)
	reply(w, int(s.Code), s)
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the caller has gone; there is nobody left to tell
}
