// Classifier serves one model package over HTTP and CloudEvents. See
// internal/classify.
//
// Environment: PORT (8080), MODEL (the package's folder, or a bare .onnx file;
// required), MODEL_DIGEST (the package must have it; any), DEVICE (cpu, cuda or
// auto; cpu), CUDA_DEVICE (the GPU's number; 0), CUDA_MEMORY (bytes of it at
// most; all), CACHE_DIR (where graphs that are optimised for this processor are
// kept, a folder as trusted as the model; none), ONNXRUNTIME_LIB (the runtime's
// library; beside the executable), QUEUE (requests inside at once; 64), MAX_BODY
// (bytes; 16 MiB), TIMEOUT (of one request; 20s), FETCH (on or off: pictures by
// URL; on), FETCH_ALLOW (hosts, HOST:PORT and networks, separated by commas, that
// are no public addresses and may be fetched from; none), LOG_LEVEL (info),
// OpenTelemetry's OTEL_EXPORTER_OTLP_ENDPOINT and its like (none: no traces),
// AISLE_LAUNCHED (when it was executed, in Unix nanoseconds; as the kernel says).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"aisle.dev/aisle/internal/classify"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/servable"
	"aisle.dev/aisle/internal/serve"
	"aisle.dev/aisle/internal/spans"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "classifier:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string, stderr io.Writer) error {
	phases := begin(getenv("AISLE_LAUNCHED"))
	cfg, err := configure(getenv)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: cfg.level}))

	// The runtime takes longest to load: it does so while the package is read
	// and the port opened. A second Init waits for the first, and gives its
	// error.
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { _ = onnx.Init(cfg.library); phases.mark(&phases.runtime) })

	pkg, err := servable.Load(cfg.model)
	if err != nil {
		return err
	}
	if cfg.digest != "" {
		if err := pkg.Check(cfg.digest); err != nil {
			return err
		}
	}
	phases.mark(&phases.model)
	set, health := metrics.New(), new(serve.Health)
	phases.observe(set)
	traces, err := spans.New(getenv, pkg.Spec.Name, log)
	if err != nil {
		return err
	}
	var fetch func(context.Context, string) ([]byte, error)
	if cfg.fetch {
		f, err := pictures(cfg.fetchAllow, set)
		if err != nil {
			return err
		}
		defer f.Close()
		fetch = f.Get
	}
	c, err := classify.New(classify.Options{
		Package: pkg, Queue: cfg.queue, MaxBody: cfg.maxBody, Timeout: cfg.timeout,
		Workers: workers(pkg.Spec.Threads),
		Health:  health, Logger: log, Metrics: set, Spans: traces, Fetch: fetch,
		Started: phases.started,
		OnReady: func(device string) { phases.log(log, pkg, device) },
	})
	if err != nil {
		return err
	}

	// Two lifetimes: the server's ends with ctx, or when there is nothing to
	// serve; the classifier's when the server has drained.
	serving, stopServing := context.WithCancel(ctx)
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	tasks.Go(func() { traces.Run(working) })
	var worked error
	listening := func(a net.Addr) { // known when "ready" is logged
		phases.listening(a)
		tasks.Go(func() {
			defer stopServing()
			worked = work(working, c, cfg, pkg, phases, log)
		})
	}
	err = serve.Run(serving, serve.Options{
		Host: cfg.host, Port: cfg.port, Handler: c.Handler(), Health: health, Metrics: set, Logger: log,
		Grace: cfg.timeout + 5*time.Second, Listening: listening,
	})
	stopWorking()
	tasks.Wait()
	return errors.Join(err, worked)
}

// work loads the graph and runs the classifier on it.
func work(ctx context.Context, c *classify.Classifier, cfg config, pkg *model.Package, phases *phases, log *slog.Logger) error {
	if err := onnx.Init(cfg.library); err != nil {
		return err
	}
	s, err := onnx.Open(pkg.Graph, onnx.Options{
		Inputs: pkg.Spec.InputNames(), Outputs: pkg.Spec.OutputNames(),
		Device: cfg.device, GPU: cfg.gpu, Threads: pkg.Spec.Threads,
		CacheDir: cfg.cache, Digest: pkg.Spec.Model.SHA256,
	})
	if err != nil {
		return err
	}
	if why := s.Fallback(); why != nil {
		log.Info("no GPU is used: the CPU takes its place", "reason", why.Error())
	}
	phases.mark(&phases.session)
	return errors.Join(c.Run(ctx, s), s.Close())
}

// workers run batches, each with so many threads of the runtime, as many at
// once as there is processor time for: GOMAXPROCS follows the cgroup's limit.
func workers(threads int) int {
	return max(1, runtime.GOMAXPROCS(0)/max(1, threads))
}
