package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"aisle.dev/aisle/activator/engine"
	"aisle.dev/aisle/activator/engine/hand"
	"aisle.dev/aisle/activator/engine/slots"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/serve"
	"aisle.dev/aisle/internal/tracing"
)

// defaultManifests is the overlay of one machine, relative to the project.
const defaultManifests = "manifests/overlays/local"

// machine is the flags of the commands that run an engine.
type machine struct {
	manifests, address, root string
	sync, nats, eventBytes   string
	eventHistory             time.Duration
	verbose                  bool
	gpus                     int

	adminAddress, adminTokens string
	scaleEvents               bool

	traces *tracing.Provider // set by load; nil: none are sent
}

func (m *machine) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&m.manifests, "kustomize", "k", "", "kustomize folder to run (default "+defaultManifests+")")
	f.StringVar(&m.address, "addr", "", "host:port where services are reached (default "+engine.DefaultAddress+"; port 0 picks a free one)")
	f.StringVar(&m.root, "root", "", "folder that holds bin/ and models/ (default: found upwards from the kustomize folder)")
	f.IntVar(&m.gpus, "gpus", -1, "how many GPUs pods may have, by nvidia.com/gpu in their limits (default: what the driver reports)")
	f.Lookup("gpus").DefValue = "0" // so that help does not tell of the -1
	f.StringVar(&m.sync, "sync", "system", "when an accepted event is on the disk: always (before the sender is told), or system (as the operating system writes it)")
	f.StringVar(&m.nats, "nats", "", "URL of a NATS server with JetStream to keep events in (default: one in this process)")
	f.StringVar(&m.adminAddress, "admin-addr", "", "host:port where the admin API is served to who has a token (default: on the socket in the data directory alone)")
	f.StringVar(&m.adminTokens, "admin-tokens", "", "file of the tokens for --admin-addr (make one with: aisle token new)")
	f.BoolVar(&m.scaleEvents, "scale-events", false, "let CloudEvents from this machine set bounds of services, at http://engine.localhost:PORT"+hand.EventsPath)
	f.StringVar(&m.eventBytes, "events-max-bytes", "4Gi", "bytes of events that each Broker keeps, and of dead letters; more are refused (at least "+leastEvents.String()+")")
	f.DurationVar(&m.eventHistory, "events-history", 7*24*time.Hour, "how long events are kept that all Triggers are done with, and what a deleted Broker had yet to deliver (at least "+leastHistory.String()+")")
	f.BoolVarP(&m.verbose, "verbose", "v", false, "log decisions too, not only what is wrong")
}

// leastEvents and leastHistory are the least that the flags of events take.
var leastEvents = resource.MustParse("128Mi")

const leastHistory = time.Minute

// load reads the manifests; nothing runs yet.
func (a *app) load(m *machine, log *slog.Logger, started func(client.Version)) (*engine.Engine, error) {
	dir, err := a.engineDir()
	if err != nil {
		return nil, err
	}
	if m.manifests == "" {
		if m.manifests, err = findManifests(); err != nil {
			return nil, err
		}
	}
	if m.root == "" {
		if m.root, err = findRoot(m.manifests); err != nil {
			return nil, err
		}
	}
	visible := a.Getenv("CUDA_VISIBLE_DEVICES")
	gpus := slots.Detect(context.Background(), visible)
	switch {
	case m.gpus < -1:
		return nil, fmt.Errorf("--gpus is %d; write how many, or leave it away", m.gpus)
	case m.gpus >= 0:
		if gpus, err = slots.Names(m.gpus, visible); err != nil {
			return nil, fmt.Errorf("--gpus: %w", err)
		}
	}
	if m.sync != "always" && m.sync != "system" {
		return nil, fmt.Errorf("--sync is %q; write always or system", m.sync)
	}
	if m.sync == "always" && m.nats != "" {
		return nil, errors.New("--sync=always is of the store in this process; how a NATS server of its own (--nats) syncs is its own setting (jetstream.sync_interval)")
	}
	eventBytes, err := resource.ParseQuantity(m.eventBytes)
	switch {
	case err != nil || eventBytes.Cmp(leastEvents) < 0:
		return nil, fmt.Errorf("--events-max-bytes is %q; write a quantity such as 4Gi, at least %s: a Broker must have room for its largest events", m.eventBytes, &leastEvents)
	case m.eventHistory < leastHistory:
		return nil, fmt.Errorf("--events-history is %v; write a duration such as 168h, at least %v", m.eventHistory, leastHistory)
	}
	o := engine.Options{
		Manifests: m.manifests, Root: m.root, DataDir: dir, Address: m.address, GPUs: gpus,
		Version: serve.Version(), Logger: log, Started: started,
		SyncAlways: m.sync == "always", NATS: m.nats, EventBytes: eventBytes.Value(), EventHistory: m.eventHistory,
		AdminAddress: m.adminAddress, AdminTokens: m.adminTokens, ScaleEvents: m.scaleEvents,
	}
	if m.traces, err = tracing.New(context.Background(), os.Getenv, "aisle", log); err != nil {
		return nil, err
	}
	if m.traces != nil {
		o.Tracers = m.traces
	}
	return engine.New(o)
}

// lastTraces is how long the last spans may take to reach their collector.
const lastTraces = 2 * time.Second

// findManifests looks in the working directory, then beside the program: in
// bin/.. of the project.
func findManifests() (string, error) {
	tried := []string{defaultManifests}
	if exe, err := os.Executable(); err == nil {
		tried = append(tried, filepath.Join(filepath.Dir(filepath.Dir(exe)), defaultManifests))
	}
	for _, dir := range tried {
		if _, err := os.Stat(filepath.Join(dir, "kustomization.yaml")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("there are no manifests here (looked for %s); run this in the project, or say where they are: -k DIR", strings.Join(tried, " and "))
}

// findRoot returns the closest folder at or above dir that holds bin/.
func findRoot(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", dir, err)
	}
	if _, err := os.Stat(abs); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no folder %s; say where the manifests are: -k DIR", dir)
	}
	for at := abs; ; {
		if info, err := os.Stat(filepath.Join(at, "bin")); err == nil && info.IsDir() {
			return at, nil
		}
		up := filepath.Dir(at)
		if up == at {
			return "", fmt.Errorf("no folder at or above %s holds bin/ with the services' programs; build them with: make build (or say where it is: --root DIR)", abs)
		}
		at = up
	}
}

// run runs the engine until ctx ends. A second signal ends it at once.
func (a *app) run(ctx context.Context, e *engine.Engine, m *machine) error {
	address := cmp.Or(m.address, engine.DefaultAddress)
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTraces)
		defer cancel()
		if err := m.traces.Close(last); err != nil {
			a.err.Printf("%v\n", err)
		}
	}()
	again := make(chan os.Signal, 1)
	done := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(again)
		select {
		case <-again:
			a.err.Printf("killing the pods\n")
			e.Hurry()
		case <-done:
		}
	}()
	defer close(done)
	err := e.Run(ctx)
	if errors.Is(err, syscall.EADDRINUSE) {
		who := holder(address)
		if who == "" {
			who = "another program"
		}
		err = fmt.Errorf("%s is in use by %s; end that, or choose another address: --addr 127.0.0.1:8081", address, who)
	}
	return err
}

func (a *app) up() *cobra.Command {
	var m machine
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Serve the services of this machine until Ctrl-C",
		Long: `Serve the Knative Services of a kustomize folder on this machine, without a
cluster. A service has no process until a request comes for it, and none soon
after the last one. The first Ctrl-C lets requests in flight end, the second
kills.

Services are reached at http://SERVICE.NAMESPACE.localhost:PORT. Where the
resolver does not know such names: curl -H 'Host: SERVICE.NAMESPACE.localhost'
http://127.0.0.1:PORT.

What the folder describes is applied, and kept in the data directory: what was
applied by other commands since stays, and what leaves the folder goes. Events
are accepted at http://broker-ingress.knative-eventing.localhost:PORT/NAMESPACE/BROKER
and are in the store when the answer is 202.

Where OTEL_EXPORTER_OTLP_ENDPOINT is set, traces are sent there: of events, from
their acceptance to the pods that worked on them, and of requests, with the
phases of the starts that they waited for.`,
		Example: `  aisle up
  aisle up --addr 127.0.0.1:9090
  aisle up -k manifests/overlays/local --data-dir /tmp/aisle`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.thisMachine(); err != nil {
				return err
			}
			log, told := a.logger(m.verbose)
			e, err := a.load(&m, log, func(v client.Version) {
				told()
				a.banner(cmd.Context(), a.err, v)
				if flag := a.here(); flag != "" {
					a.err.Printf("Other commands find it with%s\n", flag)
				}
				a.err.Printf("Ctrl-C ends it.\n")
			})
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), e, &m)
		},
	}
	m.flags(cmd)
	return cmd
}

// banner says where the services are. It asks the engine, as get would.
func (a *app) banner(ctx context.Context, to screen.Screen, v client.Version) {
	to.Printf("Aisle serves at %s, data in %s\n", v.Address, v.DataDir)
	if v.Admin != "" {
		to.Printf("Its admin API takes tokens at http://%s\n", v.Admin)
	}
	services, err := client.NewEngine(v.DataDir).Services(ctx)
	if err != nil {
		to.Printf("  (services not listed: %v)\n", err)
	}
	for _, s := range services {
		to.Printf("  %-10s %s\n", s.Name, s.URL)
	}
}

// here is the flag that makes other commands find this engine, where they
// would not do so by themselves.
func (a *app) here() string {
	if a.dataDir == "" {
		return "" // by the environment, which they share
	}
	dir, err := a.engineDir()
	if err != nil {
		return ""
	}
	return " --data-dir " + dir
}
