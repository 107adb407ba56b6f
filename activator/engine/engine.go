// Package engine runs Knative Services on one machine without a cluster: a
// revision's pods are operating-system processes, started when a request
// waits for one and stopped when Knative's autoscaler says so.
//
// Guarantees:
//
//   - A request for a service at zero is held, within bounds, and answered once
//     a pod is ready; it is never lost to a pod that was just told to stop.
//
//   - What was started is stopped: by a normal end of Run, and by the kernel or
//     the next engine after an abrupt one.
//
//   - At zero, without requests, nothing runs: no ticker, no timer, no probe.
//
//   - One engine at a time uses a data directory, and all that it remembers is
//     there.
//
//   - A new revision of a service gets requests once it has been ready, and
//     one that never is leaves the one before serving and says why.
//
//   - What is applied is on disk when the answer says so: a killed engine's
//     successor has the same revisions, routes and roll-outs.
//
// Non-goals: isolation of pods from each other (they are processes of one
// user), and what a folder says after the engine has read it.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/activator/engine/clock"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/activator/engine/slots"
	"aisle.dev/aisle/activator/engine/usage"
	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/manifest"
)

// DefaultAddress is where services are reached when Options names no address.
const DefaultAddress = "127.0.0.1:8080"

// Options say what an engine runs, and where. Manifests, Root and DataDir
// must be given.
type Options struct {
	Manifests string // kustomize folder with the Services, ConfigMaps and config-* of this machine
	Root      string // the pods' working directory: ko://aisle.dev/aisle/functions/X is Root/bin/X
	DataDir   string // the engine's only state, made with mode 0700; one engine at a time
	Address   string // host:port of the proxy; empty means DefaultAddress; port 0 picks a free one
	Version   string // what runs, for GET /v1/version

	SyncAlways bool   // an event is on the disk, and not with the system alone, before it is accepted
	NATS       string // URL of a NATS server to keep events in; empty: one in this process, below DataDir

	// AdminAddress is host:port where the admin API is served to who has a token
	// (package access) of the file AdminTokens. Empty: on the socket alone.
	AdminAddress, AdminTokens string
	ScaleEvents               bool // CloudEvents from this machine may set bounds (package hand)

	EventBytes   int64         // that each Broker keeps, and of dead letters; 0 means the broker's default
	EventHistory time.Duration // how long what is delivered is kept; likewise

	// GPUs are the devices that pods may have (resource nvidia.com/gpu), by
	// the names that CUDA_VISIBLE_DEVICES takes.
	GPUs []string

	Logger   *slog.Logger         // nil discards
	Registry *prometheus.Registry // nil makes a fresh one; served as /metrics
	Tracers  trace.TracerProvider // nil traces nothing

	// Clock is what schedules go by; nil means the machine's. Run closes it.
	Clock Clock

	// Started, when not nil, is called once, as soon as requests are
	// accepted, from Run's goroutine. Address in it is the bound one.
	Started func(client.Version)
}

// Engine is one machine's services. Make one with [New], and call Run once.
type Engine struct {
	opts    Options
	log     *slog.Logger
	folder  *manifest.Set
	metrics *metrics
	tracer  trace.Tracer // nil: nothing is traced
	gpus    *slots.Slots
	tokens  *access.Tokens // nil: the admin API is on the socket alone
	hurry   chan struct{}  // closed by Hurry
	hurried sync.Once

	// Set by Run before anything is served.
	machine  *pod.Machine
	usage    *usage.Meter
	control  *control
	events   *events
	counted  map[string]int64 // see state
	audit    *audit.Log
	version  client.Version
	stopping chan struct{} // closed when Run begins to stop

	mu     sync.Mutex // guards what follows
	awake  int        // revisions that are not at rest
	resign *time.Timer
}

// New loads and checks the manifests; nothing is started and nothing written.
// Its error names the file and field at fault.
func New(opts Options) (*Engine, error) {
	e := &Engine{opts: opts, log: opts.Logger, gpus: slots.New(opts.GPUs), hurry: make(chan struct{}), stopping: make(chan struct{})}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.opts.Registry == nil {
		e.opts.Registry = prometheus.NewRegistry()
	}
	if e.opts.Address == "" {
		e.opts.Address = DefaultAddress
	}
	for _, dir := range []*string{&e.opts.Root, &e.opts.DataDir} {
		if *dir == "" {
			return nil, errors.New("the engine needs a root and a data directory")
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", *dir, err)
		}
		*dir = abs
	}
	set, err := loadManifests(e.opts.Root, opts.Manifests)
	if err != nil {
		return nil, err
	}
	if err := e.openTokens(); err != nil {
		return nil, err
	}
	e.folder = set
	for _, i := range set.Ignored {
		e.log.Warn("ignored on one machine", "object", i.Object, "field", i.Path, "reason", i.Reason)
	}
	deciders, err := scale.ParseConfig(set.Settings.Autoscaler())
	if err != nil {
		return nil, err
	}
	if err := e.checkServices(set.Services, set.Services, set.Sources(), deciders); err != nil {
		return nil, err
	}
	if err := admitSchedules(set.Schedules, time.Now()); err != nil {
		return nil, err
	}
	for i, o := range set.Events {
		whole, ignored, err := admitEvent(o)
		if err != nil {
			return nil, err
		}
		set.Events[i] = whole
		for _, i := range ignored {
			e.log.Warn("left out of account", "object", i.Object, "field", i.Path, "reason", i.Reason)
		}
	}
	if e.opts.Tracers != nil {
		e.tracer = e.opts.Tracers.Tracer("aisle.dev/aisle/activator/engine")
	}
	if e.metrics, err = newMetrics(e.opts.Registry); err != nil {
		return nil, fmt.Errorf("register the engine's metrics: %w", err)
	}
	return e, nil
}

// loadManifests reads an overlay of the project with its bases, and any other
// folder by itself.
func loadManifests(root, dir string) (*manifest.Set, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", dir, err)
	}
	if below, err := filepath.Rel(root, abs); err == nil && filepath.IsLocal(below) {
		return manifest.LoadWithin(root, dir)
	}
	return manifest.Load(dir)
}

// defaultProgress is Knative's default of config-deployment's progress-deadline.
const defaultProgress = 10 * time.Minute

func progressDeadline(annotations map[string]string) time.Duration {
	if d, err := time.ParseDuration(annotations[serving.ProgressDeadlineAnnotationKey]); err == nil && d > 0 {
		return d
	}
	return defaultProgress
}

// Hurry makes a Run that is stopping kill its pods at once instead of waiting
// for their grace: what a second Ctrl-C asks for. It may be called at any time.
func (e *Engine) Hurry() { e.hurried.Do(func() { close(e.hurry) }) }

// Run serves until ctx ends, then drains and stops everything that it
// started before it returns. A normal stop returns nil.
func (e *Engine) Run(ctx context.Context) (err error) {
	held, err := lock(e.opts.DataDir)
	if err != nil {
		return err
	}
	defer held.Close()
	st, err := openState(e.opts.DataDir)
	if err != nil {
		return err
	}
	e.counted = st.Counted
	store, damaged, err := objects.Open(filepath.Join(e.opts.DataDir, objectsName))
	if err != nil {
		return err
	}
	for _, d := range damaged {
		e.log.Error("an object is left out: its file is damaged; apply it again, or remove the file", "file", d.Path, "err", d.Err)
	}
	listener, err := net.Listen("tcp", e.opts.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; give the engine another address", e.opts.Address, err)
	}
	defer listener.Close()
	socket, err := listenAdmin(e.opts.DataDir)
	if err != nil {
		return err
	}
	defer socket.Close() // removes the file
	remote, err := e.listenRemote()
	if err != nil {
		return err
	}
	if remote != nil {
		defer remote.Close()
	}
	if e.audit, err = audit.Open(e.opts.DataDir); err != nil {
		return err
	}
	defer e.audit.Close()
	machine, killed, err := pod.NewMachine(e.opts.Root, e.opts.DataDir)
	for _, k := range killed {
		e.log.Warn("killed a process that an earlier engine left behind", "pod", k.Pod, "pid", k.PID)
	}
	if err != nil {
		return err
	}
	defer machine.Close()
	e.machine = machine
	e.version = client.Version{
		Version: e.opts.Version, Engine: "local", Address: listener.Addr().String(),
		DataDir: e.opts.DataDir, PID: os.Getpid(),
	}
	if remote != nil {
		e.version.Admin = remote.Addr().String()
	}
	if e.usage, err = usage.Open(filepath.Join(e.opts.DataDir, usageName), usage.System(), e.log); err != nil {
		return err
	}
	defer e.usage.Close() // no pod is left that it could count
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if e.opts.Clock == nil {
		if e.opts.Clock, err = clock.Open(); err != nil {
			return err
		}
	}
	defer e.opts.Clock.Close()
	leads := newLeads(filepath.Join(e.opts.DataDir, leadsName), e.opts.Clock.Now, e.log)
	e.control, e.events = newControl(run, e, store, newSchedules(e.opts.Clock, leads)), &events{engine: e}
	if err := e.control.sync(e.folder); err != nil {
		return err
	}
	e.folder = nil // the store has it
	if services := list[*servingv1.Service](store, objects.Services); slices.ContainsFunc(services, limited) && machine.Lacks() != nil {
		e.log.Warn(unenforced, "reason", machine.Lacks())
	}
	if err := e.opts.Registry.Register(gauges{e.control}); err != nil {
		return fmt.Errorf("register the engine's metrics: %w", err)
	}
	return e.serve(ctx, listener, socket, remote)
}

const unenforced = "limits are not enforced: pods may use more than they declare"

// limited is whether a Service declares a limit of what control groups limit.
func limited(ks *servingv1.Service) bool {
	return slices.ContainsFunc(ks.Spec.Template.Spec.Containers, func(c corev1.Container) bool {
		return !c.Resources.Limits.Cpu().IsZero() || !c.Resources.Limits.Memory().IsZero()
	})
}

// forgetLogs removes the logs of revisions that are no more: what a revision
// keeps is bounded, how many there have been is not.
func (e *Engine) forgetLogs(store *objects.Store) error {
	revisions, _ := store.List(objects.Revisions, "")
	names, namespaces := map[string]bool{}, map[string]bool{}
	for _, o := range revisions {
		names[o.GetNamespace()+"/"+o.GetName()] = true
		namespaces[o.GetNamespace()] = true
	}
	var errs []error
	for namespace := range namespaces {
		errs = append(errs, pod.Forget(e.machine.LogDir(namespace), func(pod string) bool {
			revision, _ := revisionOf(pod)
			return names[namespace+"/"+revision]
		}))
	}
	return errors.Join(errs...)
}
