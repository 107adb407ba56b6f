package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"aisle.dev/aisle/activator/engine/hand"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/scaling"
)

// clusterScaler sets bounds in a cluster, where Aisle's controller puts them on
// the service's revisions. Who may, and who did, is the API server's to say.
type clusterScaler struct {
	*knative.Cluster
	by string
}

func (c clusterScaler) named(name string) (namespace, service string) {
	if namespace, service, ok := strings.Cut(name, "/"); ok {
		return namespace, service
	}
	return c.Namespace(), name
}

// state is what bounds a service, as far as its objects say.
func (c clusterScaler) state(ctx context.Context, namespace, service string) (hand.State, error) {
	s := hand.State{Now: time.Now()}
	raw, err := objects.Get[json.RawMessage](ctx, c.Objects(), objects.Service, namespace, service)
	if err != nil {
		return s, err
	}
	ks, err := objects.Decode(objects.Service, *raw)
	if err != nil {
		return s, err
	}
	s.Base = ownBounds(ks)
	all, _, err := objects.List[*scaling.ScalingSchedule](ctx, c.Objects(), objects.Schedule, namespace, "")
	if err != nil {
		return s, err
	}
	for _, o := range all {
		if o.Spec.Service != service || o.DeletionTimestamp != nil { // its bounds are being taken back
			continue
		}
		s.Schedules = append(s.Schedules, o)
		if l := o.Status.Lead; l != nil {
			s.Lead = max(s.Lead, l.Time.Duration)
		}
	}
	return s, nil
}

// Scale implements [scaler].
func (c clusterScaler) Scale(ctx context.Context, name string) (client.Scale, error) {
	namespace, service := c.named(name)
	s, err := c.state(ctx, namespace, service)
	if err != nil {
		return client.Scale{}, err
	}
	return hand.View(namespace, service, s), nil
}

// SetScale implements [scaler].
func (c clusterScaler) SetScale(ctx context.Context, name string, wanted scaling.ByHand, dry bool) (client.Scale, error) {
	namespace, service := c.named(name)
	s, err := c.state(ctx, namespace, service)
	if err != nil {
		return client.Scale{}, err
	}
	set, err := wanted.Schedule(namespace, service, c.by, s.Now)
	if err != nil {
		return client.Scale{}, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(set)
	if err != nil {
		return client.Scale{}, fmt.Errorf("scale %s: %w", service, err)
	}
	// Forced: what is set takes the place of what anybody has set by hand.
	made, _, err := c.Objects().Apply(ctx, objects.Schedule, &unstructured.Unstructured{Object: content}, objects.Applying{DryRun: dry, Force: true})
	if err != nil {
		return client.Scale{}, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(made.Object, set); err != nil {
		return client.Scale{}, fmt.Errorf("scale %s: %w", service, err)
	}
	v := hand.Told(namespace, service, s.With(service, set))
	v.DryRun = dry
	return v, nil
}

// ResetScale implements [scaler].
func (c clusterScaler) ResetScale(ctx context.Context, name string, dry bool) (client.Scale, error) {
	namespace, service := c.named(name)
	s, err := c.state(ctx, namespace, service)
	if err != nil {
		return client.Scale{}, err
	}
	nothing := problem.New(http.StatusNotFound, "nothing is set by hand for %s", service)
	if !slices.ContainsFunc(s.Schedules, func(o *scaling.ScalingSchedule) bool { return o.Name == scaling.HandName(service) }) {
		return client.Scale{}, nothing
	}
	err = c.Objects().Delete(ctx, objects.Schedule, namespace, scaling.HandName(service), dry)
	if apierrors.IsNotFound(err) && !objects.NoKind(err) {
		return client.Scale{}, nothing
	}
	if err != nil {
		return client.Scale{}, err
	}
	v := hand.Told(namespace, service, s.With(service, nil))
	v.DryRun = dry
	return v, nil
}
