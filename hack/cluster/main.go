package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const usage = `usage: cluster [-module DIR] [FLAGS] COMMAND
  up          bring the cluster up; one that is up stays as it is
  down        end it and leave nothing behind but what was built
  status      say how it stands; exit status 3 when it is not up
  build       build its binaries, images and manifests, without bringing it up
  ready       say whether up could do its work at once; exit status 3 when not
  import TAR  put an archive of images, or an OCI layout as an archive, into the node
  e2e         up, make images, run the acceptance suite on one machine and here, compare, down
  registry    serve images in memory at ` + registryAddr + `, where the node may pull from, until interrupted
  dump        show logs and events
  env         print the variables that a client needs, for a shell
  kubectl ... run kubectl against it
`

var (
	// errNotUp has an exit status of its own.
	errNotUp     = errors.New("the cluster is not up")
	errNeedsRoot = errors.New("a node needs root: its containers, mounts and network do; or name another cluster with KUBECONFIG=")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errNotUp):
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(3)
	default:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	module := flags.String("module", ".", "folder of this program's go.mod")
	var t target
	flags.StringVar(&t.Kubeconfig, "kubeconfig", "", "e2e: a cluster that is there, instead of this one")
	flags.StringVar(&t.registry, "registry", "", "e2e: `HOST/PREFIX` to push images to, that the cluster pulls from")
	flags.StringVar(&t.Gateway, "gateway", "", "e2e: `HOST:PORT` of that cluster's ingress")
	flags.StringVar(&t.Domain, "domain", "", "e2e: the domain of its services")
	root := flags.String("root", ".", "e2e: the project's root")
	var s suiteOptions
	flags.StringVar(&s.filter, "run", ".", "e2e: a pattern of tests to run")
	flags.BoolVar(&s.clusterOnly, "cluster-only", false, "e2e: not on one machine, since that was just done")
	flags.BoolVar(&s.keep, "keep", false, "e2e: leave the cluster up")
	containerd2 := flags.Bool("containerd2", false, "build, up, e2e, ready: with a containerd 2 that is built, for image volumes, instead of Debian's")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l, err := newLayout(*module)
	if err != nil {
		return err
	}
	h := &harness{l, *containerd2, stdout, stderr, time.Now()}
	switch command := flags.Arg(0); command {
	case "up":
		return h.locked(ctx, h.up)
	case "down":
		return h.locked(ctx, h.down)
	case "build":
		return h.locked(ctx, h.build)
	case "ready":
		return h.ready(ctx)
	case "status":
		return h.status(ctx)
	case "e2e":
		return h.locked(ctx, func(ctx context.Context) error { return h.e2e(ctx, *root, t, s) })
	case "registry":
		return h.registry(ctx)
	case "dump":
		dump(ctx, l, stdout)
		return nil
	case "env":
		_, err := fmt.Fprintf(stdout, "export KUBECONFIG=%s\nexport AISLE_GATEWAY=%s:80\nexport AISLE_DOMAIN=%s\nexport NO_PROXY=%s\n", l.kubeconfig(), gatewayIP, domain, nodeIP+","+gatewayIP)
		return err
	case "import":
		return h.importFile(ctx, flags.Arg(1))
	case "kubectl":
		cmd := exec.CommandContext(ctx, l.bin("hyper"), flags.Args()...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+l.kubeconfig())
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
		return cmd.Run()
	case "node": // the keeper; up starts it
		return keepNode(ctx, l, slog.New(slog.NewTextHandler(stderr, nil)))
	default:
		fmt.Fprint(stderr, usage)
		return fmt.Errorf("no command %q", command)
	}
}

type harness struct {
	layout
	containerd2    bool
	stdout, stderr io.Writer
	begun          time.Time
}

func (h *harness) say(format string, args ...any) {
	fmt.Fprintf(h.stdout, "%6.1fs %s\n", time.Since(h.begun).Seconds(), fmt.Sprintf(format, args...))
}

// locked does what changes the cluster, one harness at a time.
func (h *harness) locked(ctx context.Context, do func(context.Context) error) error {
	unlock, err := lock(ctx, h.lockFile(), func(holder string) { h.say("waiting for %s, which holds the cluster", holder) })
	if err != nil {
		return err
	}
	defer unlock()
	return do(ctx)
}

// keeper is the recorded keeper, and whether it lives.
func (h *harness) keeper() (process, bool) {
	p, err := recorded(h.run("keeper.json"))
	return p, err == nil && p.alive()
}

func (h *harness) up(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errNeedsRoot
	}
	before, was := h.keeper()
	err := h.bring(ctx)
	if err != nil && ctx.Err() == nil && was && !before.alive() {
		h.say("the node that was up has ended; starting another") // it was dying when this began
		err = h.bring(ctx)
	}
	if _, alive := h.keeper(); err != nil && ctx.Err() == nil && alive {
		h.say("it failed; what is known:")
		dump(ctx, h.layout, h.stderr)
	}
	return err
}

func (h *harness) bring(ctx context.Context) error {
	if err := installPackages(ctx, h.say); err != nil {
		return err
	}
	key, err := buildKey(ctx, h.layout)
	if err != nil {
		return err
	}
	keeper, alive := h.keeper()
	var other string
	switch {
	case !alive:
	case !built(h.layout, key):
		other = "is built from other sources"
	case h.containerd2 && !runsContainerd2(h.layout):
		other = "has Debian's containerd"
	}
	if other != "" {
		h.say("the cluster that is up %s", other)
		if err := h.down(ctx); err != nil {
			return err
		}
		alive = false
	}
	if err := h.build(ctx); err != nil {
		return err
	}
	if !alive {
		if err := h.begin(ctx); err != nil {
			return err
		}
		keeper, _ = h.keeper()
	}
	ctx, stop := h.whileKept(ctx, keeper)
	defer stop()
	err = within(ctx, nodeReadyTime+10*time.Second, "the node", func(context.Context) error {
		_, err := os.Stat(h.nodeReady())
		return err
	})
	if err != nil {
		return err
	}
	h.say("node ready")
	if err := install(ctx, h.layout, h.say); err != nil {
		return err
	}
	h.say("up: make cluster-status shows it, make cluster-down ends it")
	return nil
}

// whileKept gives a context that ends with the keeper, so that nothing waits for
// a node that has gone.
func (h *harness) whileKept(ctx context.Context, keeper process) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		gone := func(context.Context) error {
			if keeper.alive() {
				return errors.New("it lives")
			}
			return nil
		}
		if until(ctx, "the keeper's end", gone) == nil {
			cancel(fmt.Errorf("the node's keeper has ended; see %s", h.logs("node.log")))
		}
	})
	return ctx, func() {
		cancel(nil)
		watch.Wait()
	}
}

// begin starts a keeper on a machine that it has swept.
func (h *harness) begin(ctx context.Context) error {
	if _, err := os.Stat(h.run()); err == nil {
		h.say("cleaning up after a run that did not end well")
	}
	h.say("starting a node")
	if err := sweep(ctx, h.layout); err != nil {
		return err
	}
	if err := remember(h.layout); err != nil {
		return err
	}
	if err := os.RemoveAll(h.logs()); err != nil {
		return err
	}
	for _, dir := range []string{h.run(), h.logs(), h.processes()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if h.containerd2 {
		if err := writeFile(h.run("containerd2"), nil, 0o600); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(h.logs("node.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// A copy: the program may be built again while the node is up.
	if err := copyFile(self, h.run("cluster")); err != nil {
		return err
	}
	// What was open here when this began (a lock of the caller's, say) is not the
	// node's: it would stay open for as long as the node lives.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return err
	}
	cmd := exec.Command(h.run("cluster"), "-module", h.module, "node") // not ctx: it outlives this
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, h.root
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p, err := processOf(cmd.Process.Pid)
	if err == nil {
		err = record(h.run("keeper.json"), p)
	}
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	h.say("its keeper is process %d", p.PID)
	go func() { _ = cmd.Wait() }() // while this lives, so that a dead keeper is no zombie
	return nil
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, text, 0o700)
}

func (h *harness) down(ctx context.Context) error {
	if p, alive := h.keeper(); alive {
		if err := p.end(ctx, time.Minute); err != nil {
			return err
		}
		h.say("node ended")
	}
	if err := sweep(ctx, h.layout); err != nil {
		return err
	}
	h.say("down")
	return nil
}

func (h *harness) build(ctx context.Context) error {
	if err := os.MkdirAll(h.root, 0o700); err != nil {
		return err
	}
	if h.containerd2 {
		if err := buildContainerd(ctx, h.layout, h.say); err != nil {
			return err
		}
	}
	key, err := buildKey(ctx, h.layout)
	if err != nil || built(h.layout, key) {
		return err
	}
	if err := h.abandon(ctx); err != nil {
		return err
	}
	if err := build(ctx, h.layout, key, h.say); err != nil {
		return err
	}
	h.say("built")
	return nil
}

// abandon ends what a build that was killed goes on with, and removes it.
func (h *harness) abandon(ctx context.Context) error {
	at, err := builders(h.layout)
	for _, p := range at {
		err = errors.Join(err, p.end(ctx, 0))
	}
	unfinished, _ := filepath.Glob(h.path("build-*"))
	for _, dir := range unfinished {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// ready says whether up needs neither compiler nor network.
func (h *harness) ready(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w and could not be: a node needs root", errNotUp)
	}
	for name, file := range debianPackages {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%w and could not be at once: package %s is not installed; make cluster-up installs it", errNotUp, name)
		}
	}
	key, err := buildKey(ctx, h.layout)
	if err == nil && !built(h.layout, key) {
		err = fmt.Errorf("%w and could not be at once: its binaries are not built; make cluster-up builds them", errNotUp)
	}
	if err != nil || !h.containerd2 {
		return err
	}
	key, err = containerdKey(ctx, h.layout)
	if err == nil && !containerdBuilt(h.layout, key) {
		err = fmt.Errorf("%w and could not be at once: containerd 2 is not built; make cluster-up CONTAINERD=2 builds it", errNotUp)
	}
	return err
}

func (h *harness) status(ctx context.Context) error {
	p, alive := h.keeper()
	if !alive {
		if _, err := os.Stat(h.run()); err == nil {
			return fmt.Errorf("%w: a run of it did not end well; make cluster-down cleans up, make cluster-up does and goes on", errNotUp)
		}
		return fmt.Errorf("%w: make cluster-up", errNotUp)
	}
	state := "up"
	if _, err := os.Stat(h.installed()); errors.Is(err, fs.ErrNotExist) {
		state = "coming up, or its installation was broken off: make cluster-up goes on"
	}
	fmt.Fprintf(h.stdout, "%s; keeper %d, state in %s\n", state, p.PID, h.root)
	for name, part := range allRecorded(h.processes()) {
		if !part.alive() {
			fmt.Fprintf(h.stdout, "  %s is not running\n", name)
		}
	}
	fmt.Fprintf(h.stdout, "Kubernetes %s, Knative %s; KUBECONFIG=%s\n", kubernetesVersion, knativeVersion, h.kubeconfig())
	out, err := kubectl(ctx, h.bin("hyper"), h.kubeconfig(), nil, "get", "nodes,pods", "-A")
	fmt.Fprint(h.stdout, out)
	return err
}

// importFile puts images of somebody else into the node.
func (h *harness) importFile(ctx context.Context, path string) error {
	if path == "" {
		return errors.New("import: name an archive")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, alive := h.keeper(); !alive {
		return errNotUp
	}
	return importArchive(ctx, h.layout, path)
}
