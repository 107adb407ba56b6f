// Command ingress is the test cluster's gateway: a controller of Knative's
// Ingress objects and the proxy that they describe, in one process.
//
// It routes a host, path and headers to the objects' weighted splits, straight
// to the addresses of ready endpoints, and reports the objects ready once its
// table holds them. Non-goals: TLS, more than one instance, production; there,
// it is Kourier, Istio or Contour.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	netclient "knative.dev/networking/pkg/client/clientset/versioned"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, slog.New(slog.NewTextHandler(os.Stdout, nil)), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ingress:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger, args []string) error {
	flags := flag.NewFlagSet("ingress", flag.ContinueOnError)
	class := flags.String("class", "aisle.ingress.networking.knative.dev", "class of the Ingress objects that are routed here")
	internal := flags.String("internal-name", "gateway.knative-ingress.svc.cluster.local", "name under which pods reach this gateway")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 200, 400
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	knative, err := netclient.NewForConfig(config)
	if err != nil {
		return err
	}
	c := newController(log, kube, knative, *class, *internal)
	if err := c.start(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.run(ctx) })
	for address, external := range map[string]bool{":8080": true, ":8081": false} {
		srv := &http.Server{Addr: address, Handler: newProxy(log, c.endpoints, c.table.Load, external), Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second}
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
		group.Go(func() error {
			if err := srv.ListenAndServe(); err != http.ErrServerClosed {
				return err
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return srv.Shutdown(drain)
		})
	}
	return group.Wait()
}
