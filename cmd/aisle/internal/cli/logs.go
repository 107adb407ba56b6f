package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
)

func (a *app) logs() *cobra.Command {
	q := client.LogsOf("")
	cmd := &cobra.Command{
		Use:   "logs NAME | service/NAME | revision/NAME | pod/NAME",
		Short: "Show what the pods of a service wrote",
		Long: `Show what the pods of a service, or of a revision, or one pod wrote. The engine
keeps logs of pods that have ended; a cluster has those of the pods that are
there, and the last 5,000 lines of each are shown. With --follow new pods are
followed too; of one pod alone it ends when that has gone.

--since, --previous and --timestamps are a cluster's: the engine does not know
when a line was written, and a process that ends is another pod's there.`,
		Example: `  aisle logs title
  aisle logs composer --follow --tail 20
  aisle logs pod/title-00001-bcdfg
  aisle --context prod -n aisle logs revision/title-00002 --since 10m --timestamps
  aisle --context prod -n aisle logs title --previous`,
		Args: exactly(1, "the name of a service, a revision or a pod (see: aisle get services)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			if kind, name, ok := strings.Cut(args[0], "/"); ok {
				switch k, known := objects.Named(kind); {
				case !known: // a namespace
				case name == "":
					return usagef("%q names no %s", args[0], k.Singular())
				case k.Singular() != client.KindService && k.Singular() != client.KindRevision && k.Singular() != client.KindPod:
					return usagef("a %s has no log; use service/NAME, revision/NAME or pod/NAME", k.Singular())
				default:
					q.Kind, q.Name = k.Singular(), name
				}
			}
			switch {
			case q.Tail < -1:
				return usagef("--tail %d: use a number of lines, or -1", q.Tail)
			case q.Since < 0:
				return usagef("--since %v: use a duration such as 10m", q.Since)
			case q.Previous && q.Follow:
				return usagef("nothing is added to what a previous process wrote; leave --follow away")
			}
			place, err := a.place()
			if err != nil {
				return err
			}
			return place.Logs(cmd.Context(), a.out.Text(), q)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			kind, _, ok := strings.Cut(toComplete, "/")
			k, known := objects.Named(kind)
			if !ok || !known {
				return a.serviceNames(cmd)
			}
			var names []string
			for _, name := range a.names(cmd, k) {
				names = append(names, kind+"/"+name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on until Ctrl-C")
	f.IntVar(&q.Tail, "tail", -1, "at most so many lines of each pod, the last ones (-1: all that is kept)")
	f.DurationVar(&q.Since, "since", time.Duration(0), "not older than this, such as 10m")
	f.BoolVarP(&q.Previous, "previous", "p", false, "of the process before the one that runs")
	f.BoolVar(&q.Timestamps, "timestamps", false, "with the time of each line")
	return cmd
}
