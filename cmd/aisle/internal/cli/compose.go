package cli

import "github.com/spf13/cobra"

func (a *app) compose() *cobra.Command {
	cmd := &cobra.Command{Use: "compose", Short: "Work on a composition: which classifiers are asked, and how their answers become one"}
	cmd.AddCommand(a.composeFit())
	return cmd
}
