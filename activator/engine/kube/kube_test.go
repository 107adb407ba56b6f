package kube

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/internal/manifest"
)

// keeper is a backend that keeps ConfigMaps as they come.
type keeper struct {
	store  *objects.Store
	broken error
}

func (k *keeper) Apply(_ access.Caller, raw *unstructured.Unstructured, dry bool) (manifest.Object, bool, []string, error) {
	if k.broken != nil {
		return nil, false, nil, k.broken
	}
	set, err := manifest.Check([]*unstructured.Unstructured{raw}, nil)
	if err != nil {
		return nil, false, nil, err
	}
	o := set.Objects()[0]
	old := k.store.Get(objects.KeyOf(o))
	created := old == nil
	if err := Fresh(raw, old); err != nil {
		return nil, false, nil, err
	}
	if !dry {
		k.store.Show(k.store.Put(o))
	}
	return o, created, []string{`spec.x: "ignored"`}, nil
}

func (k *keeper) Delete(_ access.Caller, key objects.Key) (manifest.Object, error) {
	if k.broken != nil {
		return nil, k.broken
	}
	o := k.store.Get(key)
	if o != nil {
		k.store.Show(objects.Change{Key: key})
	}
	return o, nil
}

func server(t *testing.T) (*httptest.Server, *keeper) {
	t.Helper()
	store, _, err := objects.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{store: store}
	front := httptest.NewServer(&Server{Store: store, Backend: k, Log: func(w http.ResponseWriter, _ *http.Request, namespace, pod string) {
		fmt.Fprintf(w, "log of %s/%s", namespace, pod)
	}})
	t.Cleanup(front.Close)
	return front, k
}

func ask(t *testing.T, front *httptest.Server, method, path, body string) (*http.Response, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, front.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", applyPatch)
	}
	resp, err := front.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatalf("%s %s: %s: %v", method, path, resp.Status, err)
	}
	return resp, got
}

const maps = "/api/v1/namespaces/default/configmaps"

func configMap(name, label string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"labels":{"l":%q}}}`, name, label)
}

func TestObjects(t *testing.T) {
	front, _ := server(t)
	for i, want := range []int{http.StatusCreated, http.StatusOK} {
		resp, _ := ask(t, front, http.MethodPatch, maps+"/a?fieldManager=x&force=true", configMap("a", "one"))
		if resp.StatusCode != want || resp.Header.Get("Warning") != `299 - "spec.x: \"ignored\""` {
			t.Errorf("apply %d: %s, %q", i, resp.Status, resp.Header.Get("Warning"))
		}
	}
	if resp, _ := ask(t, front, http.MethodPatch, maps+"/dry?dryRun=All", configMap("dry", "one")); resp.StatusCode != http.StatusCreated {
		t.Errorf("dry run: %s", resp.Status)
	}
	ask(t, front, http.MethodPatch, maps+"/b", configMap("b", "two"))
	names := func(path string) string {
		t.Helper()
		resp, got := ask(t, front, http.MethodGet, path, "")
		var names []string
		for _, i := range got["items"].([]any) {
			names = append(names, i.(map[string]any)["metadata"].(map[string]any)["name"].(string))
		}
		if resp.StatusCode != http.StatusOK || got["kind"] != "ConfigMapList" {
			t.Errorf("%s: %s %v", path, resp.Status, got["kind"])
		}
		return strings.Join(names, " ")
	}
	for path, want := range map[string]string{
		maps: "a b", "/api/v1/configmaps": "a b", "/api/v1/namespaces/other/configmaps": "",
		maps + "?labelSelector=l%3Dtwo": "b", maps + "?fieldSelector=metadata.name%3Da": "a",
	} {
		if got := names(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if resp, _ := ask(t, front, http.MethodDelete, maps+"/a?dryRun=All", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("dry delete: %s", resp.Status)
	}
	if resp, _ := ask(t, front, http.MethodDelete, maps+"/a", `{"kind":"DeleteOptions","apiVersion":"v1","dryRun":["All"]}`); resp.StatusCode != http.StatusOK {
		t.Errorf("dry delete, as client-go says it: %s", resp.Status)
	}
	if got := names(maps); got != "a b" {
		t.Errorf("after two dry runs of deleting a: %q", got)
	}
	if resp, got := ask(t, front, http.MethodDelete, maps+"/a", `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}`); resp.StatusCode != http.StatusOK || got["status"] != "Success" {
		t.Errorf("delete: %s %v", resp.Status, got)
	}
	if got := names(maps); got != "b" {
		t.Errorf("after the end of a: %q", got)
	}
	resp, got := ask(t, front, http.MethodGet, "/apis/serving.knative.dev/v1", "")
	if resp.StatusCode != http.StatusOK || got["groupVersion"] != "serving.knative.dev/v1" || len(got["resources"].([]any)) != 2 {
		t.Errorf("discovery: %s %v", resp.Status, got)
	}
}

// Refusals are Kubernetes' Status objects, with the reason that clients branch on.
// A change that names the version that it was made from is taken from the
// newest alone.
func TestStale(t *testing.T) {
	front, _ := server(t)
	_, made := ask(t, front, http.MethodPatch, maps+"/a", configMap("a", "one"))
	from := fmt.Sprintf(`"metadata":{"resourceVersion":%q,`, made["metadata"].(map[string]any)["resourceVersion"])
	again := func(name string) string { return strings.Replace(configMap(name, "two"), `"metadata":{`, from, 1) }
	for i, want := range []int{http.StatusOK, http.StatusConflict} {
		if resp, got := ask(t, front, http.MethodPatch, maps+"/a", again("a")); resp.StatusCode != want || i == 1 && (got["reason"] != "Conflict" || !strings.Contains(fmt.Sprint(got["message"]), "latest version")) {
			t.Errorf("change %d: %s %v", i, resp.Status, got)
		}
	}
	if resp, got := ask(t, front, http.MethodPatch, maps+"/gone", again("gone")); resp.StatusCode != http.StatusConflict {
		t.Errorf("of one that is gone: %s %v", resp.Status, got)
	}
}

func TestRefusals(t *testing.T) {
	front, k := server(t)
	ask(t, front, http.MethodPatch, maps+"/a", configMap("a", "one"))
	for _, tt := range []struct {
		name, method, path, body string
		broken                   error
		code                     int
		reason, says             string
	}{
		{"no object", http.MethodGet, maps + "/x", "", nil, 404, "NotFound", `configmaps "x" not found`},
		{"no kind", http.MethodGet, "/apis/example.com/v1/things", "", nil, 404, "NotFound", "requested resource"},
		{"no path", http.MethodGet, "/api/v1/namespaces/default/configmaps/a/b/c", "", nil, 404, "NotFound", ""},
		{"no log of it", http.MethodGet, "/api/v1/namespaces/default/pods/x/log", "", nil, 404, "NotFound", `pods "x"`},
		{"no end of it", http.MethodDelete, maps + "/x", "", nil, 404, "NotFound", ""},
		{"made by the engine", http.MethodPatch, "/apis/serving.knative.dev/v1/namespaces/default/revisions/a", "{}", nil, 405, "MethodNotAllowed", "PATCH"},
		{"a pod's end", http.MethodDelete, "/api/v1/namespaces/default/pods/a", "", nil, 405, "MethodNotAllowed", ""},
		{"create", http.MethodPost, maps, configMap("x", ""), nil, 405, "MethodNotAllowed", ""},
		{"another name", http.MethodPatch, maps + "/x", configMap("y", ""), nil, 400, "BadRequest", "the request is for"},
		{"another kind", http.MethodPatch, maps + "/x", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`, nil, 400, "BadRequest", ""},
		{"no YAML", http.MethodPatch, maps + "/x", "{", nil, 400, "BadRequest", ""},
		{"two objects", http.MethodPatch, maps + "/x", "kind: A\n---\nkind: B\n", nil, 400, "BadRequest", "2 objects"},
		{"a misspelt field", http.MethodPatch, maps + "/x", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"dta":{}}`, nil, 422, "Invalid", "dta"},
		{"in use", http.MethodDelete, maps + "/a", "", fmt.Errorf("a: %w", ErrInUse), 409, "Conflict", "needed"},
		{"a full disk", http.MethodPatch, maps + "/a", configMap("a", ""), errors.New("no space left"), 500, "InternalError", "no space left"},
		{"a selector of nothing", http.MethodGet, maps + "?fieldSelector=spec.x%3Dy", "", nil, 400, "BadRequest", "metadata.name"},
		{"a bad label", http.MethodGet, maps + "?labelSelector=%3D%3D", "", nil, 400, "BadRequest", "labelSelector"},
		{"a strange dry run", http.MethodPatch, maps + "/a?dryRun=true", configMap("a", "two"), nil, 400, "BadRequest", "dryRun"},
		{"a strange dry end", http.MethodDelete, maps + "/a", `{"dryRun":["Some"]}`, nil, 400, "BadRequest", "dryRun"},
		{"a conditional end", http.MethodDelete, maps + "/a", `{"preconditions":{"uid":"x"}}`, nil, 400, "BadRequest", "preconditions"},
		{"bad options", http.MethodDelete, maps + "/a", "{", nil, 400, "BadRequest", "options"},
		{"a watch of long ago", http.MethodGet, maps + "?watch=1&resourceVersion=1", "", nil, 410, "Expired", ""},
		{"a watch of no version", http.MethodGet, maps + "?watch=1&resourceVersion=x", "", nil, 400, "BadRequest", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k.broken = tt.broken
			resp, got := ask(t, front, tt.method, tt.path, tt.body)
			if resp.StatusCode != tt.code || got["kind"] != "Status" || got["status"] != "Failure" || got["reason"] != tt.reason || !strings.Contains(fmt.Sprint(got["message"]), tt.says) {
				t.Errorf("%s: %v", resp.Status, got)
			}
			if tt.code == 422 {
				cause := got["details"].(map[string]any)["causes"].([]any)[0].(map[string]any)
				if cause["field"] != "dta" {
					t.Errorf("cause %v", cause)
				}
			}
		})
	}
}

// A watch tells what is there, then what changes, of what was chosen alone; one
// that missed too much is told so.
func TestWatch(t *testing.T) {
	front, k := server(t)
	ask(t, front, http.MethodPatch, maps+"/a", configMap("a", "one"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, front.URL+maps+"?watch=1&labelSelector=l%3Done", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := front.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func() string {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("the watch ended", lines.Err())
		}
		var e struct {
			Type   string
			Object metav1.PartialObjectMetadata
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return e.Type + " " + e.Object.Kind + " " + e.Object.Name
	}
	got := []string{next()}
	ask(t, front, http.MethodPatch, maps+"/other", configMap("other", "two"))
	ask(t, front, http.MethodPatch, maps+"/b", configMap("b", "one"))
	ask(t, front, http.MethodPatch, maps+"/b", configMap("b", "one"))
	ask(t, front, http.MethodDelete, maps+"/a", "")
	ask(t, front, http.MethodPatch, maps+"/b", configMap("b", "two")) // it leaves what was chosen, and comes again
	ask(t, front, http.MethodDelete, maps+"/other", "")
	ask(t, front, http.MethodPatch, maps+"/b", configMap("b", "one"))
	got = append(got, next(), next(), next(), next(), next())
	if d := cmp.Diff([]string{"ADDED ConfigMap a", "ADDED ConfigMap b", "MODIFIED ConfigMap b", "DELETED ConfigMap a", "DELETED ConfigMap b", "ADDED ConfigMap b"}, got); d != "" {
		t.Error(d)
	}
	cancel()

	_, listed := ask(t, front, http.MethodGet, maps, "")
	version := listed["metadata"].(map[string]any)["resourceVersion"]
	for i := range objects.MaxHistory + 1 {
		o := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x", Generation: int64(i)}}
		k.store.Show(k.store.Put(o))
	}
	if resp, _ := ask(t, front, http.MethodGet, fmt.Sprintf("%s?watch=1&resourceVersion=%v", maps, version), ""); resp.StatusCode != http.StatusGone {
		t.Errorf("%s", resp.Status)
	}
}

// Whatever path is asked for, the answer is JSON with a status that fits.
func FuzzPath(f *testing.F) {
	for _, p := range []string{"/api/v1/pods", maps + "/a", "/apis/serving.knative.dev/v1/namespaces/x/services/y/log", "/apis", "//", "/api/v1/namespaces//configmaps/"} {
		f.Add(p)
	}
	store, _, err := objects.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{Store: store, Backend: &keeper{store: store}}
	f.Fuzz(func(t *testing.T, path string) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.URL.Path = path
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		if !json.Valid(w.Body.Bytes()) || w.Code != http.StatusOK && w.Code != http.StatusNotFound {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	})
}

func TestWatchesAreBounded(t *testing.T) {
	front, _ := server(t)
	front.Config.Handler.(*Server).watches.Store(maxWatches)
	if resp, got := ask(t, front, http.MethodGet, maps+"?watch=1", ""); resp.StatusCode != http.StatusTooManyRequests || got["reason"] != "TooManyRequests" {
		t.Errorf("%s: %v", resp.Status, got)
	}
}
