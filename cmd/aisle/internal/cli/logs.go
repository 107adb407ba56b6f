package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) logs() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs SERVICE|POD",
		Short: "Show what the pods of a service wrote",
		Long: `Show what the pods of a service, or of a revision, or one pod wrote. The engine
keeps logs of pods that have ended; a cluster has those of the pods that are
there, and the last 5,000 lines of each are shown. With --follow new pods are
followed too.`,
		Example: `  aisle logs title
  aisle logs composer --follow
  aisle --context prod -n aisle logs title-00002`,
		Args: exactly(1, "the name of a service or a pod (see: aisle get services)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			place, err := a.place()
			if err != nil {
				return err
			}
			return place.Logs(cmd.Context(), a.out.Text(), args[0], follow)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.serviceNames(cmd)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until Ctrl-C")
	return cmd
}
