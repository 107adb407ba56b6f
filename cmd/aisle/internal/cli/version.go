package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/serve"
)

func (a *app) version() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of the engine or cluster",
		Example: `  aisle version
  aisle version -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Client string          `json:"client"`
				Engine *client.Version `json:"engine,omitempty"` // or cluster; absent: none runs
			}{Client: serve.Version()}
			place, err := a.place()
			if err != nil {
				return err
			}
			e, err := place.Version(cmd.Context())
			switch {
			case err == nil:
				v.Engine = &e
			case !errors.Is(err, client.ErrNotRunning) || a.onCluster():
				return err // who names a cluster wants to know of it
			}
			if format != "table" {
				return writeAs(a.out, format, v)
			}
			a.out.Printf("aisle  %s\n", v.Client)
			switch {
			case v.Engine == nil:
				a.out.Printf("engine not running\n")
			case a.onCluster():
				a.out.Printf("cluster Kubernetes %s with Knative Serving v1 at %s, context %s\n", screen.Clean(e.Version), screen.Clean(e.Address), screen.Clean(e.Context))
			default:
				a.out.Printf("engine %s (%s) at %s, process %d, data in %s\n", e.Version, e.Engine, e.Address, e.PID, e.DataDir)
			}
			return nil
		},
	}
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}
