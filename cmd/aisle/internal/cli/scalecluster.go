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
func (c clusterScaler) SetScale(ctx context.Context, name string, wanted scaling.ByHand, how client.Changing) (client.Scale, error) {
	namespace, service := c.named(name)
	s, err := c.state(ctx, namespace, service)
	if err != nil {
		return client.Scale{}, err
	}
	before, err := written(s, service, how.Read)
	if err != nil {
		return client.Scale{}, err
	}
	set, err := wanted.Schedule(namespace, service, c.by, s.Now)
	if err != nil {
		return client.Scale{}, err
	}
	content, err := content(set)
	if err != nil {
		return client.Scale{}, err
	}
	made, err := c.Objects().Over(ctx, objects.Schedule, before, content, how.Dry)
	if err != nil {
		return client.Scale{}, changedMeanwhile(err, service)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(made.Object, set); err != nil {
		return client.Scale{}, fmt.Errorf("scale %s: %w", service, err)
	}
	v := hand.Told(namespace, service, s.With(service, set))
	v.DryRun = how.Dry
	return v, nil
}

// ResetScale implements [scaler].
func (c clusterScaler) ResetScale(ctx context.Context, name string, how client.Changing) (client.Scale, error) {
	namespace, service := c.named(name)
	s, err := c.state(ctx, namespace, service)
	if err != nil {
		return client.Scale{}, err
	}
	nothing := problem.New(http.StatusNotFound, "nothing is set by hand for %s", service)
	before, err := written(s, service, how.Read)
	if err != nil {
		return client.Scale{}, err
	}
	if before == nil {
		return client.Scale{}, nothing
	}
	err = c.Objects().DeleteRead(ctx, objects.Schedule, before, how.Dry)
	if apierrors.IsNotFound(err) && !objects.NoKind(err) {
		return client.Scale{}, nothing
	}
	if err != nil {
		return client.Scale{}, changedMeanwhile(err, service)
	}
	v := hand.Told(namespace, service, s.With(service, nil))
	v.DryRun = how.Dry
	return v, nil
}

// written is the schedule that bounds set by hand are written over; nil: there is
// none. It must be one of aisle's, and as it was when read was (nil: whatever it
// is).
func written(s hand.State, service string, read *client.Scale) (*unstructured.Unstructured, error) {
	i := slices.IndexFunc(s.Schedules, func(o *scaling.ScalingSchedule) bool { return o.Name == scaling.HandName(service) })
	if read != nil {
		was, is := "", ""
		if read.ByHand != nil {
			was = client.ETag(read.ByHand)
		}
		if i >= 0 && !s.Schedules[i].Expired(s.Now) {
			is = client.ETag(s.Schedules[i])
		}
		if was != is {
			return nil, fmt.Errorf("somebody has changed what is set by hand for %s meanwhile: look at it with aisle scale %s, and try again", service, service)
		}
	}
	if i < 0 {
		return nil, nil
	}
	if o := s.Schedules[i]; o.Annotations[scaling.AtAnnotation] == "" {
		return nil, fmt.Errorf("the schedule %s, which bounds set by hand are written to, was not written by aisle scale; give it another name, or delete it with: aisle delete scalingschedule %s", o.Name, o.Name)
	}
	return content(s.Schedules[i])
}

func content(o *scaling.ScalingSchedule) (*unstructured.Unstructured, error) {
	made, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("scale %s: %w", o.Spec.Service, err)
	}
	return &unstructured.Unstructured{Object: made}, nil
}

// changedMeanwhile says what to do about a conflict.
func changedMeanwhile(err error, service string) error {
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("there is a schedule %s already, which is another service's, is being deleted, or has just been written: look at it with aisle describe scalingschedule %[1]s, and try again (%w)", scaling.HandName(service), err)
	}
	if apierrors.IsConflict(err) {
		return fmt.Errorf("somebody has changed what is set by hand for %s meanwhile: look at it with aisle scale %s, and try again (%w)", service, service, err)
	}
	return err
}
