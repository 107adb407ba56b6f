package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What is applied, watched and deleted over the engine's protocol is what runs,
// and what the folder of `aisle up` says comes back with it alone.
func TestApplyWatchDelete(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster's API server is Kubernetes' own")
	e := newEngine(t, "", servicesDir)
	c := call(t, e)
	path, err := resource("Service", "default", "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.server+path+"?watch=1&fieldSelector=metadata.name%3Dapplied", nil)
	if err != nil {
		t.Fatal(err)
	}
	watch := *e.http
	watch.Timeout = 0
	resp, err := watch.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	seen := make(chan string, 100)
	go func() {
		defer close(seen)
		for dec := json.NewDecoder(resp.Body); ; {
			var ev struct {
				Type   string
				Object serviceObject
			}
			if dec.Decode(&ev) != nil {
				return
			}
			seen <- ev.Type + " " + ev.Object.Status.LatestReadyRevisionName
		}
	}()
	next := func(want string) {
		t.Helper()
		for got := range seen {
			if got == want {
				return
			}
		}
		t.Fatalf("the watch ended before %q", want)
	}
	if err := e.changed(t.Context(), "applied", nil, nil); err != nil {
		t.Fatal(err)
	}
	next("ADDED ")
	next("MODIFIED applied-00001")
	c.get(t, "applied", "/env")

	// A killed engine has it again, and a changed object of the folder too.
	e.kill(t)
	again := newEngine(t, e.version.DataDir, servicesDir)
	c = call(t, again)
	c.get(t, "applied", "/env")
	if err := again.remove(t.Context(), "Service", "applied", ""); err != nil {
		t.Fatal(err)
	}
	c.do(t.Context(), http.MethodGet, "applied", "/env", "").want(t, http.StatusMisdirectedRequest)
	await(t, "its pods to go", func() string {
		if own := pods(t, again, "applied"); len(own) > 0 {
			return own[0].Phase
		}
		return ""
	})
	revisions, err := resource("Revision", "default", "applied-00001")
	if err == nil {
		err = again.ask(t.Context(), http.MethodGet, revisions, "", nil, nil)
	}
	if !errors.Is(err, errNotFound) {
		t.Errorf("its revision: %v", err)
	}
	if err := again.stop(patience); err != nil {
		t.Error(err)
	}
}

// What is wrong with an object is a 422 that names the field, and nothing
// changes.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	e := engineOnly(t, shared, "a cluster's API server is Kubernetes' own")
	bad := map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": map[string]any{"name": "bad"},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"image": e.image, "comand": []any{"x"}}}}}},
	}
	err := e.apply(t.Context(), []map[string]any{bad})
	if err == nil || !strings.Contains(err.Error(), "422") || !strings.Contains(err.Error(), `"field":"spec.template.spec.containers[0].comand"`) {
		t.Errorf("a misspelt field: %v", err)
	}
	path, err := resource("Service", "default", "bad")
	if err == nil {
		err = e.ask(t.Context(), http.MethodGet, path, "", nil, nil)
	}
	if !errors.Is(err, errNotFound) {
		t.Errorf("it is there: %v", err)
	}
}

// A folder's change is followed at the next start; what somebody applied over
// it in between stays until the folder itself changes; what leaves the folder
// goes.
func TestFolderAgainstApplied(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster has no folder")
	dir := filepath.Join(newDataDir(t), "manifests")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	service := func(name, value string) string {
		return "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {template: {spec: {containers: [{image: \"ko://aisle.dev/aisle/test/acceptance/fixture\", env: [{name: VERSION, value: \"" + value + "\"}]}]}}}\n"
	}
	write := func(objects ...string) {
		t.Helper()
		for name, text := range map[string]string{"kustomization.yaml": "resources: [services.yaml]\n", "services.yaml": strings.Join(objects, "---\n")} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	dataDir := newDataDir(t)
	start := func(latest string) *engineProcess {
		t.Helper()
		e := newEngine(t, dataDir, dir)
		awaitObserved(t, e.objects(), "one", latest)
		return e
	}
	stop := func(e *engineProcess) {
		t.Helper()
		if err := e.stop(patience); err != nil {
			t.Fatal(err)
		}
	}
	write(service("one", "1"), service("two", "1"))
	e := start("one-00001")
	if err := e.changed(t.Context(), "one", map[string]string{"VERSION": "by hand"}, nil); err != nil {
		t.Fatal(err)
	}
	awaitObserved(t, e.objects(), "one", "one-00002")
	stop(e)
	e = start("one-00002")
	stop(e)
	write(service("one", "3"))
	e = start("one-00003")
	if all, err := e.Services(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("services %v, %v; two has left the folder", all, err)
	}
	stop(e)
}

// A ConfigMap that has left the folder stays for as long as a revision needs
// it: requests may go back to that.
func TestOldConfigMapStaysForItsRevision(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster has no folder")
	dir := filepath.Join(newDataDir(t), "manifests")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(value string) {
		t.Helper()
		for name, text := range map[string]string{
			"kustomization.yaml": "resources: [service.yaml, words.yaml]\n",
			"words.yaml":         "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: words-" + value + "}\ndata: {word: " + value + "}\n",
			"service.yaml":       "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: one}\nspec: {template: {metadata: {annotations: {autoscaling.knative.dev/window: 6s}}, spec: {containers: [{image: \"ko://aisle.dev/aisle/test/acceptance/fixture\", envFrom: [{configMapRef: {name: words-" + value + "}}]}]}}}\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	dataDir := newDataDir(t)
	write("old")
	e := newEngine(t, dataDir, dir)
	awaitObserved(t, e.objects(), "one", "one-00001")
	if err := e.stop(patience); err != nil {
		t.Fatal(err)
	}
	write("new")
	e = newEngine(t, dataDir, dir)
	awaitObserved(t, e.objects(), "one", "one-00002")
	configMaps := func() int {
		t.Helper()
		path, err := resource("ConfigMap", "default", "")
		var all struct{ Items []object }
		if err == nil {
			err = e.ask(t.Context(), http.MethodGet, path, "", nil, &all)
		}
		if err != nil {
			t.Fatal(err)
		}
		return len(all.Items)
	}
	if n := configMaps(); n != 2 {
		t.Errorf("%d ConfigMaps, want the old and the new", n)
	}
	// Back to the old one: its pod starts with what it was made with.
	back := map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": map[string]any{"name": "one"},
	}
	path, err := resource("Service", "default", "one")
	if err == nil {
		var now map[string]any
		if err = e.ask(t.Context(), http.MethodGet, path, "", nil, &now); err == nil {
			spec := now["spec"].(map[string]any)
			spec["traffic"] = []any{share("one-00001", 100)}
			back["spec"] = spec
			err = e.apply(t.Context(), []map[string]any{back})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if a := call(t, e).get(t, "one", "/env"); !strings.Contains(a.body, "word=old") {
		t.Errorf("answered with %s", a.body)
	}
	if err := e.remove(t.Context(), "Revision", "one-00001", ""); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("a revision in use is removed: %v", err)
	}
	back["spec"].(map[string]any)["traffic"] = []any{map[string]any{"latestRevision": true, "percent": 100}}
	if err := e.apply(t.Context(), []map[string]any{back}); err != nil {
		t.Fatal(err)
	}
	await(t, "the old revision to be at rest, and to go", func() string {
		if err := e.remove(t.Context(), "Revision", "one-00001", ""); err != nil {
			return err.Error()
		}
		return ""
	})
	if n := configMaps(); n != 1 {
		t.Errorf("%d ConfigMaps after the old revision's end", n)
	}
	if err := e.stop(patience); err != nil {
		t.Error(err)
	}
}

// Old revisions go by the rules of config-gc, which is followed when it changes
// as all of Knative's settings are.
func TestOldRevisionsGo(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "Knative's own controller collects a cluster's")
	e := newEngine(t, "", servicesDir)
	if err := e.apply(t.Context(), []map[string]any{{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "config-gc", "namespace": "knative-serving"},
		"data": map[string]any{"min-non-active-revisions": "0", "max-non-active-revisions": "1", "retain-since-create-time": "disabled", "retain-since-last-active-time": "disabled"},
	}}); err != nil {
		t.Fatal(err)
	}
	const last = 4
	for version := 1; version <= last; version++ {
		if err := e.changed(t.Context(), "collected", map[string]string{"VERSION": strconv.Itoa(version)}, nil); err != nil {
			t.Fatal(err)
		}
		awaitObserved(t, e.objects(), "collected", fmt.Sprintf("collected-%05d", version))
	}
	await(t, "the latest revision and one before it to be left", func() string {
		all, err := e.Revisions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range all {
			if r.Service == "collected" {
				names = append(names, r.Name)
			}
		}
		return strings.TrimPrefix(strings.Join(names, " "), "collected-00003 collected-00004")
	})
	if err := e.stop(patience); err != nil {
		t.Error(err)
	}
}
