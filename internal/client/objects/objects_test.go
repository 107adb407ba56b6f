package objects_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"aisle.dev/aisle/internal/client/knative/knativetest"
	"aisle.dev/aisle/internal/client/objects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, h http.Handler) *objects.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := objects.New(&objects.Config{Host: srv.URL, QPS: -1}, &http.Client{Transport: &http.Transport{}}, 10*time.Second,
		func(err error, doing string, _ objects.Kind) error { return fmt.Errorf("%s: %w", doing, err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func object(k objects.Kind, namespace, name string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetGroupVersionKind(k.GroupVersion().WithKind(k.Name))
	o.SetNamespace(namespace)
	o.SetName(name)
	if spec != nil {
		o.Object["spec"] = spec
	}
	return o
}

func TestNamed(t *testing.T) {
	for name, want := range map[string]objects.Kind{
		"svc": objects.Service, "Services": objects.Service, "service": objects.Service, "ksvc": objects.Service, "service.serving.knative.dev": objects.Service,
		"services.v1.serving.knative.dev": objects.Service, "rev": objects.Revision, "po": objects.Pod, "cm": objects.ConfigMap, "trigger": objects.Trigger, "imagemaps": objects.ImageMap,
	} {
		if got, ok := objects.Named(name); !ok || got.Full() != want.Full() {
			t.Errorf("%s is %q", name, got.Full())
		}
	}
	for _, name := range []string{"", "nodes", "service.apps", "svc.serving.knative.dev"} {
		if got, ok := objects.Named(name); ok {
			t.Errorf("%q is %q", name, got.Full())
		}
	}
}

func TestApply(t *testing.T) {
	s := &knativetest.Server{
		Managed: map[string]string{"shared": "kubectl"}, Invalid: map[string]string{"wrong": "no such field"},
		Reconcile: func(o knativetest.Object) knativetest.Object {
			o["status"] = knativetest.Object{"seen": true}
			return o
		},
	}
	c := serve(t, s)
	apply := func(name string, how objects.Applying, image string) (objects.Outcome, error) {
		o := object(objects.Service, "aisle", name, map[string]any{"image": image})
		// What a server writes is not sent back to it: an object may be edited and applied.
		o.SetResourceVersion("7")
		o.Object["status"] = map[string]any{"stale": true}
		got, outcome, err := c.Apply(t.Context(), objects.Service, o, how)
		if err == nil {
			if _, stale, _ := unstructured.NestedBool(got.Object, "status", "stale"); stale {
				t.Errorf("%s was applied with its status", name)
			}
		}
		return outcome, err
	}
	for _, step := range []struct {
		name, image string
		how         objects.Applying
		want        objects.Outcome
		err         func(error) bool
	}{
		{name: "title", image: "a", how: objects.Applying{DryRun: true}, want: objects.Created},
		{name: "title", image: "a", want: objects.Created},
		{name: "title", image: "a", want: objects.Unchanged},
		{name: "title", image: "b", how: objects.Applying{DryRun: true}, want: objects.Configured},
		{name: "title", image: "b", want: objects.Configured},
		{name: "wrong", err: apierrors.IsInvalid},
		{name: "shared", err: apierrors.IsConflict},
		{name: "shared", how: objects.Applying{Force: true}, want: objects.Created},
		{name: "../pods", err: func(err error) bool { return err != nil }},
	} {
		got, err := apply(step.name, step.how, step.image)
		if got != step.want || step.err == nil && err != nil || step.err != nil && !step.err(err) {
			t.Errorf("%+v: %s, %v", step, got, err)
		}
	}
	for _, dry := range []bool{true, false} {
		if err := c.Delete(t.Context(), objects.Service, "aisle", "title", dry); err != nil {
			t.Error(err)
		}
	}
	if err := c.Delete(t.Context(), objects.Service, "aisle", "title", false); !apierrors.IsNotFound(err) || objects.NoKind(err) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := objects.Get[metav1.PartialObjectMetadata](t.Context(), c, objects.Service, "aisle", "title"); !apierrors.IsNotFound(err) {
		t.Errorf("a deleted one: %v", err)
	}
}

func TestFind(t *testing.T) {
	c := serve(t, new(knativetest.Server))
	for _, test := range []struct {
		version, kind, want string
		everywhere          bool
	}{
		{"serving.knative.dev/v1", "Service", "services", false},
		{"networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", false},
		{"v1", "Namespace", "namespaces", true},
	} {
		k, err := c.Find(t.Context(), test.version, test.kind)
		if err != nil || k.Plural != test.want || k.Everywhere != test.everywhere {
			t.Errorf("%s: %+v, %v", test.kind, k, err)
		}
	}
	for _, version := range []string{"apps/v1", "networking.k8s.io/v1", "a/b/c"} {
		if k, err := c.Find(t.Context(), version, "Deployment"); err == nil {
			t.Errorf("a Deployment of %s is %+v", version, k)
		}
	}
	if _, err := c.Find(t.Context(), "apps/v1", "Deployment"); !errors.Is(err, objects.ErrNoKind) {
		t.Error(err)
	}
}

// A kind that the server does not know is told from an object that is not there.
func TestNoKind(t *testing.T) {
	c := serve(t, &knativetest.Server{NoKnative: true})
	if _, _, err := objects.List[metav1.PartialObjectMetadata](t.Context(), c, objects.Trigger, "", ""); !objects.NoKind(err) {
		t.Error(err)
	}
	if _, _, err := c.Apply(t.Context(), objects.Trigger, object(objects.Trigger, "aisle", "x", nil), objects.Applying{}); !objects.NoKind(err) {
		t.Error(err)
	}
}

// A list is bounded by its objects and by its bytes, over all of its pages.
func TestListBounds(t *testing.T) {
	for name, page := range map[string]string{
		"objects": `{"metadata":{"continue":"x"},"items":[` + strings.Repeat(`{},`, 499) + `{}]}`,
		"bytes":   `{"metadata":{"continue":"x"},"items":[{"x":"` + strings.Repeat("x", 20<<20) + `"}]}`,
	} {
		pages := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			pages++
			_, _ = io.WriteString(w, page) // the client may have had enough
		}))
		_, _, err := objects.List[struct{}](t.Context(), c, objects.Pod, "", "")
		if err == nil || !strings.Contains(err.Error(), "choose a namespace") || pages > 30 {
			t.Errorf("%s: %v after %d pages", name, err, pages)
		}
	}
}

// A watch that is refused as too old, at once or in its stream, or that the
// server ends, is begun anew, and nothing is missed or told twice.
func TestFollow(t *testing.T) {
	for name, s := range map[string]*knativetest.Server{"steady": {}, "expired": {Expire: 2}, "ended": {MaxWatch: 1}} {
		t.Run(name, func(t *testing.T) {
			put := func(name, image string) {
				s.Put("/pods", knativetest.Object{"metadata": knativetest.Object{"name": name, "namespace": "aisle"}, "image": image})
			}
			put("a", "1")
			c := serve(t, s)
			var got []string
			done := errors.New("done")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			listed := 0
			err := objects.Follow(ctx, c, objects.Pod, "aisle", "", func(how watch.EventType, o *struct {
				Metadata metav1.ObjectMeta
				Image    string
			}) error {
				if how == watch.Bookmark {
					if listed++; listed == 1 {
						put("a", "2")
						put("b", "1")
						s.Delete("/pods", "aisle", "b")
						put("c", "1")
						s.Delete("/pods", "aisle", "a")
					}
					return nil
				}
				got = append(got, fmt.Sprint(how, " ", o.Metadata.Name, o.Image))
				if slices.Contains(got, "DELETED a2") && slices.Contains(got, "ADDED c1") || slices.Contains(got, "DELETED a1") {
					return done
				}
				return nil
			})
			if !errors.Is(err, done) {
				t.Fatal(err)
			}
			want := []string{"ADDED a1", "MODIFIED a2", "ADDED b1", "DELETED b1", "ADDED c1", "DELETED a2"}
			if name != "steady" { // what came and went between two lists has not been
				want = []string{"ADDED a1", "ADDED c1", "DELETED a1"}
			}
			if name == "ended" {
				want = []string{"ADDED a1", "MODIFIED a2", "ADDED c1", "DELETED a2"}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What is wrong with a watch and will not mend by itself ends it.
func TestFollowEnds(t *testing.T) {
	none := func(watch.EventType, *struct{}) error { return nil }
	answer := func(watched string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("watch") == "" {
				_, _ = io.WriteString(w, `{"items":[]}`)
				return
			}
			_, _ = io.WriteString(w, watched)
		})
	}
	for watched, want := range map[string]string{
		`{"type":"ERROR","object":{"kind":"Status","code":500,"message":"broken"}}`:            "broken",
		`{"type":"ADDED","object":{"metadata":{"name":"` + strings.Repeat("x", 9<<20) + `"}}}`: "more than 8 MB",
		`{"type":"ADDED","object":{"metadata":{"name":7}}}`:                                    "read a watched object",
	} {
		if err := objects.Follow(t.Context(), serve(t, answer(watched)), objects.Pod, "", "", none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q in it", watched, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := objects.Follow(ctx, serve(t, new(knativetest.Server)), objects.Pod, "", "", func(watch.EventType, *struct{}) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("of an ended context: %v", err)
	}
}
