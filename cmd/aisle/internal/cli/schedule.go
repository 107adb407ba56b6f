package cli

import (
	"cmp"
	"context"
	gojson "encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/pkg/kmap"
	"knative.dev/serving/pkg/apis/autoscaling"
	"sigs.k8s.io/json"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/cmd/aisle/internal/plan"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/scaling"
)

func (a *app) schedule() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schedule",
		Short: "Floors and caps by the clock: plan, check, list and apply ScalingSchedules",
		Long: `ScalingSchedules bound a service's pods by the clock: windows with a floor, a
cap or closed, in a time zone, with exceptions and an end. Where several hold,
the highest floor and the lowest cap do. With readyBy floors hold early by the
lead time, so that pods are ready when a window begins.`,
		Example: `  aisle schedule plan -f schedules.yaml              # this week, as a chart or a table
  aisle schedule plan -o svg > plan.svg              # of what runs, as a picture
  aisle schedule lint -k manifests/overlays/local --strict
  aisle schedule list
  aisle schedule apply -f schedules.yaml --dry-run=server`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.schedulePlan(), a.scheduleLint(), a.scheduleList(), a.scheduleApply())
	return cmd
}

func (a *app) scheduleList() *cobra.Command {
	var g getting
	cmd := &cobra.Command{
		Use:   "list [NAME...]",
		Short: "List the schedules of a place, as aisle get schedules does",
		Example: `  aisle schedule list
  aisle --context prod schedule list -A -o wide`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.place()
			if err != nil {
				return err
			}
			for _, name := range args {
				g.names = append(g.names, refOf(objects.Schedule, name))
			}
			return a.list(cmd.Context(), p, objects.Schedule, g)
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.names(cmd, objects.Schedule), cobra.ShellCompDirectiveNoFileComp
		},
	}
	output(cmd, &g.format, "table", "wide", "json", "yaml", "name")
	cmd.Flags().BoolVarP(&a.at.all, "all-namespaces", "A", false, "of all namespaces")
	return cmd
}

// found is services and schedules as they were found in files or at a place.
type found struct {
	services []plan.Service
	refused  []plan.Finding // schedules that cannot be used
	knows    bool           // what Services there are
}

// err is the schedules that cannot be used as one error.
func (f found) err() error {
	var all []error
	for _, r := range f.refused {
		where := ""
		if r.Where != "" {
			where = r.Where + ": "
		}
		all = append(all, fmt.Errorf("schedule %s: %s%s", r.Schedule, where, r.Message))
	}
	return errors.Join(all...)
}

// find reads schedules and services from files, or else from a place.
func (a *app) find(ctx context.Context, s *sources) (found, error) {
	if err := s.check(); err != nil {
		return found{}, err
	}
	if s.given() {
		all, err := s.read(a.In)
		if err != nil {
			return found{}, err
		}
		return a.understood(all), nil
	}
	p, err := a.place()
	if err != nil {
		return found{}, err
	}
	all, err := servicesAndSchedules(ctx, p, a.listed(p))
	if err != nil {
		return found{}, err
	}
	f := a.understood(all)
	f.knows = true
	return f, nil
}

// servicesAndSchedules are those of a place.
func servicesAndSchedules(ctx context.Context, p place, namespace string) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, k := range []objects.Kind{objects.Service, objects.Schedule} {
		some, err := p.Objects().Untyped(ctx, k, namespace, "")
		if err != nil {
			return nil, err
		}
		for i := range some {
			all = append(all, &some[i])
		}
	}
	return all, nil
}

// understood makes services with their schedules of objects.
func (a *app) understood(all []*unstructured.Unstructured) found {
	var f found
	of := func(o *unstructured.Unstructured, name string) *plan.Service {
		namespace := cmp.Or(o.GetNamespace(), a.at.namespace, "default")
		i := slices.IndexFunc(f.services, func(s plan.Service) bool { return s.Namespace == namespace && s.Name == name })
		if i < 0 {
			f.services = append(f.services, plan.Service{Namespace: namespace, Name: name, Lead: scaling.Lead{Source: "none"}})
			i = len(f.services) - 1
		}
		return &f.services[i]
	}
	for _, o := range all {
		if is(o, objects.Service) {
			f.knows = true
			s := of(o, o.GetName())
			s.There, s.Base, s.GPUs = true, ownBounds(o), gpusOf(o)
		}
		if !is(o, objects.Schedule) {
			continue
		}
		object, err := typed(o)
		if err == nil {
			var c *schedule.Schedule
			if c, err = schedule.Compile(o.GetName(), &object.Spec); err == nil {
				s := of(o, c.Service())
				s.Schedules = append(s.Schedules, c)
				if l := object.Status.Lead; l != nil && l.Source == "learned" && l.Sample > s.Lead.Sample {
					s.Lead = *l
				}
				continue
			}
		}
		refuse := func(where, why string) {
			f.refused = append(f.refused, plan.Finding{Namespace: o.GetNamespace(), Schedule: o.GetName(), Where: where, Error: true, Message: why})
		}
		if invalid, ok := errors.AsType[*schedule.Invalid](err); ok {
			for _, p := range invalid.Problems {
				refuse(p.Field, p.Reason)
			}
		} else {
			refuse("", err.Error())
		}
	}
	for i := range f.services {
		s := &f.services[i]
		_, s.Lead = schedule.Lead(s.Lead.Time.Duration, int(s.Lead.Sample), s.Schedules, time.Now())
	}
	slices.SortFunc(f.services, func(x, y plan.Service) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	return f
}

func is(o *unstructured.Unstructured, k objects.Kind) bool {
	return o.GetKind() == k.Name && o.GroupVersionKind().Group == k.Group
}

// typed reads a ScalingSchedule; a field that is not known is an error with its
// path.
func typed(o *unstructured.Unstructured) (*scaling.ScalingSchedule, error) {
	text, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	s := new(scaling.ScalingSchedule)
	strict, err := json.UnmarshalStrict(text, s)
	if wrong, ok := errors.AsType[*gojson.UnmarshalTypeError](err); ok { // its own words are of Go's types
		err = fmt.Errorf("%s: a %s cannot be what stands here; docs/scaling.md has examples", wrong.Field, wrong.Value)
	}
	return s, errors.Join(append(strict, err)...)
}

// ownBounds are a Service's min-scale and max-scale. What is no number is none:
// admission says so, not a plan.
func ownBounds(o *unstructured.Unstructured) schedule.Base {
	annotations, _, _ := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "annotations") // none has none
	read := func(keys kmap.KeyPriority) int {
		_, text, _ := keys.Get(annotations)
		n, _ := strconv.Atoi(text) // see above
		return max(n, 0)
	}
	return schedule.Base{Min: read(autoscaling.MinScaleAnnotation), Max: read(autoscaling.MaxScaleAnnotation)}
}

// gpusOf is how many GPUs one pod of a Service takes.
func gpusOf(o *unstructured.Unstructured) int {
	n := 0
	containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers") // none has none
	for _, c := range containers {
		m, _ := c.(map[string]any)
		limit, there, _ := unstructured.NestedFieldNoCopy(m, "resources", "limits", "nvidia.com/gpu")
		if !there {
			continue
		}
		if q, err := resource.ParseQuantity(fmt.Sprint(limit)); err == nil {
			n += int(q.Value())
		}
	}
	return n
}

// chosen leaves the services that have schedules, or the named ones of them.
func (f found) chosen(names []string) ([]plan.Service, error) {
	var all []plan.Service
	var there []string
	for _, s := range f.services {
		if len(s.Schedules) > 0 {
			there = append(there, s.Name)
			if len(names) == 0 || slices.Contains(names, s.Name) || slices.Contains(names, s.Namespace+"/"+s.Name) {
				all = append(all, s)
			}
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s plan.Service) bool { return s.Name == name || s.Namespace+"/"+s.Name == name }) {
			return nil, fmt.Errorf("no schedule is of service %s; there are schedules of: %v", screen.Clean(name), there)
		}
	}
	return all, nil
}
