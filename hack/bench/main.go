// Command bench measures the figures of the README's table. Each figure is a
// program with reproducible inputs (the samples, or real products where
// AISLE_DATA is), compares two things in one run, interleaved, and reports
// the median and the spread, since these machines are noisy.
//
// It is no test: it asserts nothing, and it exits 1 only if a measurement
// could not be taken. Load is bounded in count and time and goes to loopback.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// row is one line of the result.
type row struct {
	Figure string `json:"figure"`
	Result string `json:"result"`
	Goal   string `json:"goal,omitempty"`
}

// figure is one thing to measure.
type figure struct {
	name, about string
	run         func(context.Context, *bench) ([]row, error)
	when        when
}

// when says without which flags a figure is measured.
type when int

const (
	always    when = iota // where -only names no other
	inCluster             // by -cluster
	named                 // by -only alone: it installs what nothing else needs
)

var figures = []figure{
	{"cold", "cold start, everything at zero, request to answer: title, photo, composed", coldStart, always},
	{"overhead", "warm, sequential: the engine's proxy over the pod alone", overhead, always},
	{"throughput", "aisle send --wait against an in-process loop of the same work", throughput, always},
	{"compose", "the composer against trivial legs: its own cost for a product, and products/s", composeCost, always},
	{"idle", "engine with everything at zero: memory and CPU", idle, always},
	{"many", "engines with 2, 100 and 1,000 services at zero: start, memory, CPU, and a wake", many, always},
	{"ingress", "events of 1 KB that the broker accepts: rate and latency", ingress, always},
	{"broker-hop", "what the broker adds between an event and its reply event", brokerHop, always},
	{"bound", "a floor is set by hand: until its pod's process is started", bound, always},
	{"schedules", "what it costs that one of 10,000 schedules changes", oneChange, always},
	{"feed", "the reader of Heureka's XML: MB/s against encoding/xml, and memory over 5 GB", readFeed, always},
	{"openings", "simulated openings by schedule: ready in time, and how long before", openings, always},
	{"first", "make run ONCE=1, caches warm: seconds to the first category", first, always},
	{"controller", "the cluster's controller with 1 and 1,000 schedules, API server without pods: memory, CPU", controllerMemory, always},
	{"exec-ready", "a classifier alone, exec to ready: title and photo, each phase, memory", execReady, always},
	{"photo-closed", "the photo classifier under 32 clients against an in-process loop", photoClosed, always},
	{"batching", "what batches gain when served, against what they gain in a process", batching, always},
	{"classifier-overhead", "the title classifier at 200 requests/s over the call in process", classifierOverhead, always},
	{"fastapi", "the classifiers against FastAPI + onnxruntime (installs it from PyPI, 0.3 GB)", fastAPI, named},
	{"cluster-cold", "cold start on a cluster: title and photo over a trivial service", clusterCold, inCluster},
	{"cluster-warm", "warm on a cluster: the whole path and what each hop adds", clusterWarm, inCluster},
	{"cluster-hand", "a floor set by hand on a cluster, to a pod that starts", clusterHand, inCluster},
	{"cluster-scale", "1 to 5 pods under 64 requests: a cluster beside one machine", clusterScale, inCluster},
}

type bench struct {
	n        int // repetitions of a cold start
	requests int // sequential requests of the overhead figure
	products int // products of the throughput figure
	rounds   int // rounds of the throughput figure
	data     string
	hops     int       // requests at each hop of the cluster-warm figure
	log      io.Writer // progress

	// A cluster that is not the test cluster.
	context, kubeconfig, gateway, images, trivial string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	b := &bench{log: stderr}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	only := fs.String("only", "", "comma-separated figures; without it all that need no cluster")
	onCluster := fs.Bool("cluster", false, "all figures of a cluster: the test cluster, which is up, or -context's")
	asJSON := fs.Bool("json", false, "print JSON")
	fs.IntVar(&b.n, "n", 20, "cold starts of each kind")
	fs.IntVar(&b.requests, "requests", 4000, "sequential requests each way of the overhead figure")
	fs.IntVar(&b.products, "products", 5000, "products of the throughput figure")
	fs.IntVar(&b.rounds, "rounds", 3, "rounds of the throughput, cluster-scale and cluster-hand figures")
	fs.IntVar(&b.hops, "hops", 2000, "sequential requests at each hop of the cluster-warm figure")
	fs.StringVar(&b.context, "context", "", "a cluster of yours instead of the test cluster")
	fs.StringVar(&b.kubeconfig, "kubeconfig", "", "likewise")
	fs.StringVar(&b.gateway, "gateway", os.Getenv("AISLE_GATEWAY"), "host:port of that cluster's ingress")
	fs.StringVar(&b.images, "images", "", "folder that make images PUSH= wrote, for that cluster")
	fs.StringVar(&b.trivial, "trivial", "", "image of a small service that answers POST /echo, GET /readyz and GET /sleep?ms=N (test/acceptance/fixture), for that cluster")
	fs.StringVar(&b.data, "data", os.Getenv("AISLE_DATA"), "folder of the real products")
	fs.Usage = func() {
		fmt.Fprintf(stderr, "usage: go run ./hack/bench [flags]   (in the project's root, after make build)\n\n")
		for _, f := range figures {
			fmt.Fprintf(stderr, "  %-13s %s\n", f.name, f.about)
		}
		fmt.Fprintln(stderr)
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	var wanted []string
	if *only != "" {
		wanted = strings.Split(*only, ",")
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(figures, func(f figure) bool { return f.name == w }) {
			return fmt.Errorf("no figure %q; -h lists them", w)
		}
	}
	everything := always
	if *onCluster {
		everything = inCluster
	}
	var rows []row
	for _, f := range figures {
		if len(wanted) > 0 && !slices.Contains(wanted, f.name) || len(wanted) == 0 && f.when != everything {
			continue
		}
		fmt.Fprintf(stderr, "%s: %s\n", f.name, f.about)
		start := time.Now()
		r, err := f.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		fmt.Fprintf(stderr, "%s: measured in %.0f s\n", f.name, time.Since(start).Seconds())
		rows = append(rows, r...)
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	for _, r := range rows {
		goal := ""
		if r.Goal != "" {
			goal = "   (goal: " + r.Goal + ")"
		}
		fmt.Fprintf(stdout, "%-46s %s%s\n", r.Figure, r.Result, goal)
	}
	return nil
}
