package acceptance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"aisle.dev/aisle/internal/scaling"
)

// On a cluster the controller sets bounds on the live Revision, with no new one;
// a new one gets them, and the old one has what it had; past its end a schedule
// leaves nothing behind.
func TestBoundsOnRevisions(t *testing.T) {
	t.Parallel()
	k := clusterOnly(t, shared, "the engine has bounds beside its revisions, not in them")
	const name = "bounded"
	deploy := func(greeting string) {
		t.Helper()
		if err := k.changed(t.Context(), name, map[string]string{"GREETING": greeting}, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for kind, what := range map[string]string{"ScalingSchedule": scaling.HandName(name), "Service": name} {
			if err := k.remove(context.Background(), kind, what, ""); err != nil && !errors.Is(err, errNotFound) {
				t.Error(err)
			}
		}
	})
	deploy("one")
	k.awaitRevision(t, name, name+"-00001")
	k.bound(t, name, time.Hour)
	k.awaitAnnotations(t, name+"-00001", "2", "3")
	awaitReady(t, k, name, 2)
	if r := revision(t, k, name); r.Name != name+"-00001" {
		t.Errorf("a new revision came: %s", r.Name)
	}
	deploy("two")
	k.awaitAnnotations(t, name+"-00002", "2", "3")
	k.awaitAnnotations(t, name+"-00001", "", "")
	awaitReady(t, k, name, 2)
	k.bound(t, name, 2*time.Second)
	k.awaitAnnotations(t, name+"-00002", "", "")
	awaitNoPods(t, k, name)
	var s scaling.ScalingSchedule
	await(t, "the schedule to say that it has expired", func() string {
		path, err := resource("ScalingSchedule", k.namespace, scaling.HandName(name))
		if err == nil {
			err = k.ask(t.Context(), http.MethodGet, path, "", nil, &s)
		}
		if err != nil {
			return err.Error()
		}
		for _, c := range s.Status.Conditions {
			if c.Type == scaling.Expired && c.Status == "True" {
				return ""
			}
		}
		return fmt.Sprintf("%+v", s.Status)
	})
}

// bound sets a floor of 2 and a cap of 3 on a service for a while.
func (c *cluster) bound(t *testing.T, service string, during time.Duration) {
	t.Helper()
	err := c.apply(t.Context(), []map[string]any{{
		"apiVersion": scaling.GroupVersion.String(), "kind": scaling.Kind, "metadata": map[string]any{"name": scaling.HandName(service)},
		"spec": map[string]any{
			"service": service, "until": time.Now().Add(during).UTC().Format(time.RFC3339),
			"windows": []any{map[string]any{"floor": 2, "cap": 3}},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) awaitRevision(t *testing.T, service, name string) {
	t.Helper()
	await(t, service+" to be ready", func() string {
		if s := c.service(t, service); s.Status.LatestReadyRevisionName != name {
			return fmt.Sprintf("%+v", s.Status)
		}
		return ""
	})
}

// awaitAnnotations waits until a Revision has these bounds; empty: none.
func (c *cluster) awaitAnnotations(t *testing.T, name, floor, limit string) {
	t.Helper()
	await(t, fmt.Sprintf("bounds %q and %q on %s", floor, limit, name), func() string {
		var r struct {
			Metadata struct{ Annotations map[string]string }
		}
		path, err := resource("Revision", c.namespace, name)
		if err == nil {
			err = c.ask(t.Context(), http.MethodGet, path, "", nil, &r)
		}
		if err != nil {
			return err.Error()
		}
		if a := r.Metadata.Annotations; a["autoscaling.knative.dev/min-scale"] != floor || a["autoscaling.knative.dev/max-scale"] != limit {
			return fmt.Sprint(a)
		}
		return ""
	})
}
