// Command activator is Aisle's controller for clusters (the image
// aisle-controller): it makes ScalingSchedules hold for Knative Services. See
// activator/controller for what it promises, manifests/controller for how it is
// installed. On one machine the engine does this itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the image has no zones of its own

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"aisle.dev/aisle/activator/controller"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

// run returns when ctx is done and what it began has ended.
func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	var o controller.Options
	var level slog.Level
	flags := flag.NewFlagSet("controller", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.Metrics, "metrics", ":8080", "`address` of /metrics; 0: none")
	flags.StringVar(&o.Probes, "probes", ":8081", "`address` of /healthz and /readyz; 0: none")
	flags.StringVar(&o.LeaderNamespace, "leader-namespace", getenv("POD_NAMESPACE"), "`namespace` in which replicas agree on who acts; empty: there is one")
	flags.TextVar(&level, "log", slog.LevelInfo, "the least `level` of what is logged: DEBUG, INFO, WARN, ERROR")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	o.Log = slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level}))
	// The libraries' loggers are theirs for the whole process.
	log.SetLogger(logr.FromSlogHandler(o.Log.Handler()))
	klog.SetSlogLogger(o.Log)
	o.Registry = metrics.Registry
	cluster, err := config.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster (in it, or by KUBECONFIG): %w", err)
	}
	c, err := controller.New(cluster, o)
	if err != nil {
		return err
	}
	return c.Start(ctx)
}
