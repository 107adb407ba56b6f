package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) logs() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs SERVICE|POD",
		Short: "Show what the pods of a service wrote",
		Example: `  aisle logs title
  aisle logs composer --follow`,
		Args: exactly(1, "the name of a service or a pod (see: aisle get services)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			place, err := a.engine()
			if err != nil {
				return err
			}
			return place.Logs(cmd.Context(), a.out.Text(), args[0], follow)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if place, err := a.engine(); err == nil && len(args) == 0 {
				services, _ := place.Services(cmd.Context()) // without an engine there is nothing to complete
				var names []string
				for _, s := range services {
					names = append(names, s.Name)
				}
				return names, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until Ctrl-C")
	return cmd
}
