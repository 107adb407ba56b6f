package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/plan"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
)

func (a *app) scheduleLint() *cobra.Command {
	var s sources
	var strict bool
	var limits plan.Limits
	var format string
	cmd := &cobra.Command{
		Use:   "lint",
		Short: "Say what is wrong with schedules, and what cannot be meant",
		Long: `Check the schedules in files, or at the place. What cannot be used is an error.
What can be used and cannot be meant is a warning: a window that never begins or
can never be met, a floor that is cut to a cap, a window that changes nothing
because others ask for as much, a schedule that has expired, a service that is
not there (where it is known which there are).

It ends with exit code 1 where there are errors; with --strict also where there
are warnings.`,
		Example: `  aisle schedule lint
  aisle schedule lint -f schedules.yaml -f title.yaml --strict
  aisle schedule lint -k manifests/overlays/local --gpus 4 -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := a.find(cmd.Context(), &s)
			if err != nil {
				return err
			}
			all := append(found.refused, plan.Lint(found.services, limits, found.knows, time.Now())...)
			if format == "table" {
				a.showFindings(a.out, all)
				if len(all) == 0 {
					a.out.Printf("nothing is wrong with %s\n", plural(found.count(), "schedule"))
				}
			} else if err := writeAs(a.out, format, map[string]any{"findings": append([]plan.Finding{}, all...)}); err != nil {
				return err
			}
			switch {
			case len(found.refused) > 0:
				return errors.New("there are schedules that cannot be used")
			case strict && len(all) > 0:
				return fmt.Errorf("%s, and --strict wants none", plural(len(all), "warning"))
			}
			return nil
		},
	}
	s.fileFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&strict, "strict", false, "fail where there are warnings, too")
	f.IntVar(&limits.GPUs, "gpus", 0, "how many GPUs there are; 0: not known")
	f.BoolVarP(&a.at.all, "all-namespaces", "A", false, "of all namespaces")
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

// showFindings writes a line for each.
func (a *app) showFindings(to screen.Screen, all []plan.Finding) {
	for _, f := range all {
		level, colour := "warning", screen.Yellow
		if f.Error {
			level, colour = "error", screen.Red
		}
		where := "schedule/" + f.Schedule
		if f.Namespace != "" && f.Namespace != "default" {
			where = f.Namespace + "/" + where
		}
		if f.Where != "" {
			where += ": " + f.Where
		}
		to.Printf("%s  %s: %s\n", to.Paint(colour, level), screen.Clean(where), screen.Clean(f.Message))
	}
}

// count is how many schedules can be used.
func (f found) count() int {
	n := 0
	for _, s := range f.services {
		n += len(s.Schedules)
	}
	return n
}
