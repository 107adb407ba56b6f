package knative

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative/knativetest"
	"aisle.dev/aisle/internal/client/objects"
)

// The Roles in docs allow what a client asks for, and nothing besides: the
// first all that reads, the second all that changes.
func TestRole(t *testing.T) {
	text, err := os.ReadFile("../../../docs/cli-role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var roles []struct{ Rules []knativetest.Rule }
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var role struct{ Rules []knativetest.Rule }
		if err := yaml.Unmarshal([]byte(doc), &role); err != nil || len(role.Rules) == 0 {
			t.Fatalf("%v: %+v", err, role)
		}
		roles = append(roles, role)
	}
	if len(roles) != 2 {
		t.Fatalf("%d roles, want one that reads and one that changes", len(roles))
	}
	reads := &knativetest.Server{Rules: roles[0].Rules}
	reads.Sample("http://composer.test")
	readAll(t, serve(t, reads, ""), reads)
	changes := &knativetest.Server{Rules: slices.Concat(roles[0].Rules, roles[1].Rules)}
	changes.Sample("http://composer.test")
	changeAll(t, serve(t, changes, "").Objects())
	for i, used := range [][]string{reads.Used(), slices.DeleteFunc(changes.Used(), func(u string) bool { return slices.Contains(reads.Used(), u) })} {
		for _, a := range allowed(roles[i].Rules) {
			if !slices.Contains(used, a) {
				t.Errorf("role %d of docs/cli-role.yaml allows %q, which nothing asks for", i+1, a)
			}
		}
	}
}

func allowed(rules []knativetest.Rule) []string {
	var all []string
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					all = append(all, verb+" "+group+"/"+resource)
				}
			}
		}
	}
	return all
}

// readAll asks for all that get, describe, logs and requests ask for.
func readAll(t *testing.T, c *Cluster, s *knativetest.Server) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, services := c.Services(ctx)
	_, revisions := c.Revisions(ctx)
	_, pods := c.Pods(ctx)
	_, events := c.Events(ctx)
	_, url := c.URL(ctx, "composer")
	_, version := c.Version(ctx)
	_, describe := c.Describe(ctx, client.KindService, "title")
	watching := make(chan error, 1)
	go func() {
		watching <- c.Logs(ctx, writer(func([]byte) error { return nil }), followed("title"))
	}()
	for tick := time.NewTicker(time.Millisecond); !slices.Contains(s.Used(), "watch /pods"); {
		select {
		case err := <-watching:
			t.Fatal("the follow ended: ", err)
		case <-tick.C:
		}
	}
	cancel()
	if err := errors.Join(services, revisions, pods, events, url, version, describe, <-watching); err != nil {
		t.Error(err)
	}
	for _, k := range []objects.Kind{objects.Service, objects.Revision, objects.Pod, objects.Broker, objects.Trigger, objects.PingSource, objects.Schedule, objects.ConfigMap} {
		if _, err := c.Objects().Untyped(t.Context(), k, "aisle", ""); err != nil {
			t.Error(err)
		}
		if _, err := objects.Get[struct{}](t.Context(), c.Objects(), k, "aisle", "absent"); !apierrors.IsNotFound(err) {
			t.Error(err)
		}
		watchOne(t, c.Objects(), s, k)
	}
}

// watchOne follows a kind until something of it has come by a watch.
func watchOne(t *testing.T, c *objects.Client, s *knativetest.Server, k objects.Kind) {
	done := errors.New("done")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	listed := false
	err := objects.Follow(ctx, c, k, "aisle", "", func(how watch.EventType, _ *struct{}) error {
		switch {
		case how == watch.Bookmark:
			listed = true
			s.Put(k.Group+"/"+k.Plural, knativetest.Object{"metadata": knativetest.Object{"name": "watched", "namespace": "aisle"}})
		case listed:
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Errorf("watch %s: %v", k.Plural, err)
	}
}

// changeAll asks for all that apply and delete ask for.
func changeAll(t *testing.T, c *objects.Client) {
	for _, k := range []objects.Kind{objects.Service, objects.ConfigMap, objects.Secret, objects.Broker, objects.Trigger, objects.PingSource, objects.Schedule} {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		o.SetGroupVersionKind(k.GroupVersion().WithKind(k.Name))
		o.SetNamespace("aisle")
		o.SetName("new")
		if _, _, err := c.Apply(t.Context(), k, o, objects.Applying{}); err != nil {
			t.Error(err)
		}
		if err := c.Delete(t.Context(), k, "aisle", "new", false); err != nil {
			t.Error(err)
		}
	}
}
