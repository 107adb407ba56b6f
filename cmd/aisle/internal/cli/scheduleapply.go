package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/cmd/aisle/internal/plan"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client/objects"
)

func (a *app) scheduleApply() *cobra.Command {
	var s sources
	var force bool
	cmd := &cobra.Command{
		Use:   "apply -k DIR | -f FILE",
		Short: "Apply the schedules of files, and say what that changes",
		Long: `Apply the ScalingSchedules of files, as aisle apply does; what else is in them is
left out. First it says, for each service, what holds before and after: now, and
over the next seven days. Warnings are those of aisle schedule lint.`,
		Example: `  aisle schedule apply -f schedules.yaml --dry-run=server
  aisle --context prod -n aisle schedule apply -k manifests/overlays/gke`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !s.given() {
				return usagef("say what to apply: -k DIR or -f FILE")
			}
			if err := s.check(); err != nil {
				return err
			}
			read, err := s.read(a.In)
			if err != nil {
				return err
			}
			read = slices.DeleteFunc(read, func(o *unstructured.Unstructured) bool { return !is(o, objects.Schedule) })
			if len(read) == 0 {
				return usagef("there is no ScalingSchedule in it; apply other objects with: aisle apply")
			}
			if err := a.understood(read).err(); err != nil {
				return err
			}
			p, err := a.place()
			if err != nil {
				return err
			}
			some, err := a.known(cmd.Context(), p, read)
			if err != nil {
				return err
			}
			there, err := servicesAndSchedules(cmd.Context(), p, a.listed(p))
			if err != nil {
				return err
			}
			a.foretell(there, some, time.Now())
			_, err = a.applyAll(cmd.Context(), p, some, objects.Applying{DryRun: s.dryRun == "server", Force: force}, s.dry())
			return err
		},
	}
	s.flags(cmd)
	cmd.Flags().BoolVar(&force, "force-conflicts", false, "take over what another manager, such as kubectl, has set")
	return cmd
}

// foretell says what applying schedules changes for their services.
func (a *app) foretell(there []*unstructured.Unstructured, some []object, now time.Time) {
	with := slices.Clone(there)
	for _, o := range some {
		with = slices.DeleteFunc(with, func(old *unstructured.Unstructured) bool {
			return is(old, objects.Schedule) && old.GetName() == o.GetName() && old.GetNamespace() == o.GetNamespace()
		})
		with = append(with, o.Unstructured)
	}
	before, after := a.understood(there), a.understood(with)
	for _, s := range after.services {
		i := slices.IndexFunc(before.services, func(b plan.Service) bool { return b.Namespace == s.Namespace && b.Name == s.Name })
		was := plan.Service{Namespace: s.Namespace, Name: s.Name}
		if i >= 0 {
			was = before.services[i]
		}
		// A schedule may have gone to another service.
		if !slices.ContainsFunc(some, func(o object) bool {
			return o.GetNamespace() == s.Namespace && (bounds(s, o.GetName()) || bounds(was, o.GetName()))
		}) {
			continue
		}
		from := now.In(time.Local)
		old, made := plan.Make([]plan.Service{was}, from, from.AddDate(0, 0, 7)).Services[0], plan.Make([]plan.Service{s}, from, from.AddDate(0, 0, 7)).Services[0]
		a.out.Printf("service %s\n", screen.Clean(made.FullName()))
		a.out.Printf("  now            %s → %s\n", inWords(old.Spans[0]), inWords(made.Spans[0]))
		if len(made.Spans) > 1 {
			next := made.Spans[1]
			a.out.Printf("  from %s  %s (%s)\n", moment(next.From), inWords(next), screen.Clean(plan.Reasons(next)))
		}
		a.out.Printf("  next 7 days    floors hold %.1f → %.1f %s\n", old.Hours.Floor, made.Hours.Floor, made.Hours.Unit)
	}
	warnings := plan.Lint(after.services, plan.Limits{}, true, now)
	a.showFindings(a.err, slices.DeleteFunc(warnings, func(f plan.Finding) bool {
		return !slices.ContainsFunc(some, func(o object) bool { return o.GetName() == f.Schedule && o.GetNamespace() == f.Namespace })
	}))
}

// bounds says whether a schedule of that name is one of the service's.
func bounds(s plan.Service, name string) bool {
	return slices.ContainsFunc(s.Schedules, func(c *schedule.Schedule) bool { return c.Name() == name })
}

// inWords is what holds in a span.
func inWords(s schedule.Span) string {
	text := fmt.Sprintf("floor %d", s.Floor)
	if s.Closed {
		text = "closed"
		if s.Floor > 0 {
			text += fmt.Sprintf(", %d early", s.Floor)
		}
	}
	if s.Cap > 0 {
		text += fmt.Sprintf(", cap %d", s.Cap)
	}
	return text
}
