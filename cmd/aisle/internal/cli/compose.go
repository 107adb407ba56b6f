package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/composition"
)

func (a *app) compose() *cobra.Command {
	cmd := &cobra.Command{Use: "compose", Short: "Work on a composition: which classifiers are asked, and how their answers become one"}
	cmd.AddCommand(a.composeFit(), a.composeValidate(), &cobra.Command{
		Use:               "schema",
		Short:             "Print the JSON Schema of a composition file",
		Example:           `  aisle compose schema > composition.schema.json   # for an editor: # yaml-language-server: $schema=composition.schema.json`,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(composition.Schema())
			return err
		},
	})
	return cmd
}

func (a *app) composeValidate() *cobra.Command {
	var services bool
	var format string
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Say all that is wrong with a composition file",
		Long: `Check a composition file and the files beside it that it names: fields, gates
and rules (CEL, its types and its cost), legs that wait for each other, the
taxonomy, the prior. All that is wrong is listed with its line and column, and
the exit code is then 1. docs/composition.md says what a file holds.

With --services also whether the services that the legs name are there: at the
engine of this machine, or in a cluster (--context).`,
		Example: `  aisle compose validate manifests/base/composition.yaml
  aisle --context prod -n aisle compose validate --services composition.yaml
  aisle compose validate composition.yaml -o json | jq .problems`,
		Args: exactly(1, "a composition file"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault // files
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			v := compositionView{File: args[0]}
			c, err := composition.Load(args[0])
			if err != nil && !errors.As(err, &v.Problems) {
				return err
			}
			if c != nil {
				v.describe(c)
			}
			if services && c != nil {
				if err := a.checkServices(cmd.Context(), &v, c); err != nil {
					return err
				}
			}
			if v.Valid = len(v.Problems) == 0; format != "table" {
				err = writeAs(a.out, format, v)
			} else {
				err = a.showValidation(v)
			}
			if err == nil && !v.Valid {
				err = &exit{Failed, nil}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&services, "services", false, "also look whether the services that the legs name are there")
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

// showValidation prints a line for each problem, as compilers do.
func (a *app) showValidation(v compositionView) error {
	for _, p := range v.Problems {
		at, what := v.File, p.Text
		if p.Line > 0 {
			at += fmt.Sprintf(":%d", p.Line)
		}
		if p.Column > 0 {
			at += fmt.Sprintf(":%d", p.Column)
		}
		if p.Field != "" {
			what = p.Field + ": " + what
		}
		a.out.Printf("%s: %s\n", at, what)
	}
	if v.Valid {
		a.out.Printf("%s: valid: %s, legs %s, reducer %s, %s\n", v.File, v.Name, strings.Join(v.Legs, ", "), v.Reducer, v.Digest)
	}
	return nil
}

// checkServices adds the problem of each service that is not there.
func (a *app) checkServices(ctx context.Context, v *compositionView, c *composition.Composition) error {
	p, err := a.place()
	if err != nil {
		return err
	}
	all, _, err := objects.List[*servingv1.Service](ctx, p.Objects(), objects.Service, a.named(p), "")
	if err != nil {
		return err
	}
	for _, text := range absentServices(c, a.named(p), servicesOf(all), []string{a.named(p)}) {
		v.Problems = append(v.Problems, &composition.Problem{Text: text})
	}
	return nil
}

func servicesOf(all []*servingv1.Service) []string {
	var names []string
	for _, s := range all {
		names = append(names, s.Namespace+"/"+s.Name)
	}
	return names
}

// absentServices says which services that legs name are not among those there,
// as far as their namespace was listed. namespace is that of legs that name none.
func absentServices(c *composition.Composition, namespace string, there, listed []string) []string {
	var out []string
	for _, l := range c.Legs {
		in := l.Namespace
		if in == "" {
			in = namespace
		}
		for _, service := range l.Services() {
			if slices.Contains(listed, in) && !slices.Contains(there, in+"/"+service) {
				out = append(out, fmt.Sprintf("leg %s names the service %s/%s, which is not there", l.Name, in, service))
			}
		}
	}
	return out
}
