package knativetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"strings"

	"sigs.k8s.io/yaml"
)

// apply is server-side apply as a sole manager sees it: what an object says
// replaces what it said, except for its status.
func (s *Server) apply(w http.ResponseWriter, r *http.Request, q query) {
	group, plural, _ := strings.Cut(q.resource, "/")
	if kind := r.Header.Get("Content-Type"); kind != "application/apply-patch+yaml" {
		status(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType", "the body of the request was in an unknown format: "+kind, nil)
		return
	}
	if r.FormValue("fieldManager") == "" {
		status(w, http.StatusBadRequest, "BadRequest", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch", nil)
		return
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 3<<20))
	var o Object
	if err == nil {
		err = yaml.Unmarshal(text, &o)
	}
	meta, _ := o["metadata"].(Object)
	if err != nil || meta["name"] != q.name || meta["namespace"] != nil && meta["namespace"] != q.namespace {
		status(w, http.StatusBadRequest, "BadRequest", fmt.Sprintf("the object in the body is not %s/%s (%v)", q.namespace, q.name, err), nil)
		return
	}
	if why := s.Invalid[q.name]; why != "" {
		message := fmt.Sprintf("%s.%s %q is invalid: spec: %s", plural, group, q.name, why)
		status(w, http.StatusUnprocessableEntity, "Invalid", message, Object{"name": q.name, "group": group, "kind": o["kind"], "causes": []Object{{"reason": "FieldValueInvalid", "message": why, "field": "spec"}}})
		return
	}
	if other := s.Managed[q.name]; other != "" && r.FormValue("force") != "true" {
		status(w, http.StatusConflict, "Conflict", fmt.Sprintf("Apply failed with 1 conflict: conflict with %q: .spec", other), Object{"causes": []Object{{"reason": "FieldManagerConflict", "message": fmt.Sprintf("conflict with %q", other), "field": ".spec"}}})
		return
	}
	s.mu.Lock()
	before := s.objects[q.resource+"/"+q.namespace+"/"+q.name]
	s.mu.Unlock()
	if before == nil { // as a real one: who makes an object by applying it must be allowed both
		if q.verb = "create"; !s.allowed(r.URL.Path, q) {
			s.forbid(w, q)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	code := http.StatusOK
	generation := 1.0
	if before == nil {
		code = http.StatusCreated
	} else {
		old := before["metadata"].(Object)
		if n, ok := old["generation"].(float64); ok {
			generation = n
		}
		if !reflect.DeepEqual(before["spec"], o["spec"]) {
			generation++
		}
		for _, key := range []string{"creationTimestamp", "uid", "resourceVersion"} {
			if old[key] != nil {
				meta[key] = old[key]
			}
		}
		if before["status"] != nil {
			o["status"] = before["status"]
		}
	}
	meta["generation"] = generation
	if s.Reconcile != nil {
		o = s.Reconcile(o)
	}
	if r.FormValue("dryRun") == "" && !reflect.DeepEqual(before, o) {
		s.set(q.resource, o, "ADDED")
		o = s.objects[q.resource+"/"+q.namespace+"/"+q.name]
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	reply(w, o)
}

// create is of a new object.
func (s *Server) create(w http.ResponseWriter, r *http.Request, q query) {
	group, plural, _ := strings.Cut(q.resource, "/")
	var o Object
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 3<<20)).Decode(&o)
	meta, _ := o["metadata"].(Object)
	if err != nil || meta["name"] == nil || meta["namespace"] != q.namespace {
		status(w, http.StatusBadRequest, "BadRequest", fmt.Sprintf("the body is no object of %s (%v)", q.namespace, err), nil)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprintf("%s/%s/%v", q.resource, q.namespace, meta["name"])
	if s.objects[key] != nil {
		status(w, http.StatusConflict, "AlreadyExists", fmt.Sprintf("%s.%s %q already exists", plural, group, meta["name"]), Object{"name": meta["name"], "group": group, "kind": plural})
		return
	}
	meta["uid"], meta["generation"] = fmt.Sprint("uid-", s.version), 1.0
	if s.Reconcile != nil {
		o = s.Reconcile(o)
	}
	if r.FormValue("dryRun") == "" {
		s.set(q.resource, o, "ADDED")
		o = s.objects[key]
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	reply(w, o)
}

// merge is a JSON merge patch: of the spec by fields, of annotations.
func (s *Server) merge(w http.ResponseWriter, r *http.Request, q query) {
	var patch struct {
		Metadata precondition
		Spec     Object
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 3<<20)).Decode(&patch); err != nil {
		status(w, http.StatusBadRequest, "BadRequest", err.Error(), nil)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := q.resource + "/" + q.namespace + "/" + q.name
	before := s.objects[key]
	if before == nil {
		s.missing(w, q)
		return
	}
	if !patch.Metadata.met(before) {
		s.changedMeanwhile(w, q)
		return
	}
	o, meta, spec := maps.Clone(before), maps.Clone(before["metadata"].(Object)), Object{}
	if old, ok := before["spec"].(Object); ok {
		spec = maps.Clone(old)
	}
	for field, value := range patch.Spec {
		if spec[field] = value; value == nil {
			delete(spec, field)
		}
	}
	annotations := Object{}
	if old, ok := meta["annotations"].(Object); ok {
		annotations = maps.Clone(old)
	}
	for name, value := range patch.Metadata.Annotations {
		annotations[name] = value
	}
	meta["annotations"], o["metadata"], o["spec"] = annotations, meta, spec
	if generation, ok := meta["generation"].(float64); ok {
		meta["generation"] = generation + 1
	}
	if s.Reconcile != nil {
		o = s.Reconcile(o)
	}
	if r.FormValue("dryRun") == "" {
		s.set(q.resource, o, "ADDED")
		o = s.objects[key]
	}
	reply(w, o)
}

// precondition is what a change wants an object to be still.
type precondition struct {
	UID, ResourceVersion string
	Annotations          map[string]string
}

func (p precondition) met(o Object) bool {
	meta := o["metadata"].(Object)
	uid, _ := meta["uid"].(string)
	return (p.UID == "" || p.UID == uid) && (p.ResourceVersion == "" || p.ResourceVersion == meta["resourceVersion"])
}

func (s *Server) changedMeanwhile(w http.ResponseWriter, q query) {
	group, plural, _ := strings.Cut(q.resource, "/")
	status(w, http.StatusConflict, "Conflict", fmt.Sprintf("Operation cannot be fulfilled on %s.%s %q: the object has been modified; please apply your changes to the latest version and try again", plural, group, q.name), Object{"name": q.name, "group": group, "kind": plural})
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request, q query) {
	var options struct{ Preconditions precondition }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&options); err != nil && err != io.EOF {
		status(w, http.StatusBadRequest, "BadRequest", err.Error(), nil)
		return
	}
	s.mu.Lock()
	key := q.resource + "/" + q.namespace + "/" + q.name
	o := s.objects[key]
	if o != nil && !options.Preconditions.met(o) {
		s.mu.Unlock()
		s.changedMeanwhile(w, q)
		return
	}
	if o != nil && r.FormValue("dryRun") == "" {
		s.set(q.resource, o, "DELETED")
		delete(s.objects, key)
	}
	s.mu.Unlock()
	if o == nil {
		s.missing(w, q)
		return
	}
	reply(w, Object{"kind": "Status", "apiVersion": "v1", "metadata": Object{}, "status": "Success", "details": Object{"name": q.name}})
}

// discover tells the kinds of a group.
func (s *Server) discover(w http.ResponseWriter, path []string) {
	group, version := "", strings.Join(path[1:], "/")
	if path[0] == "apis" {
		group = path[1]
	}
	list := []Object{}
	for resource, kind := range maps.All(resources) {
		its, plural, _ := strings.Cut(resource, "/")
		if its == group && s.has(resource) {
			list = append(list, Object{"name": plural, "kind": kind, "namespaced": kind != "Namespace"})
		}
	}
	if len(list) == 0 {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	reply(w, Object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list})
}
