package pod

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"aisle.dev/aisle/activator/engine/cgroup"
	"aisle.dev/aisle/internal/expansion"
)

// Machine is where pods run: it starts their processes and keeps their folders
// and logs below one data directory.
type Machine struct {
	root    string // the pods' working directory
	pods    string // a folder per namespace and pod: volumes and the process's record
	logs    string // a folder per namespace: a log per pod
	spawner *Spawner
	ports   *Ports
	groups  *cgroup.Tree
}

// reapPatience is how long a killed leftover may take to go.
const reapPatience = 10 * time.Second

// groupsName is the file in the data directory that names the control groups
// of the engine that uses it.
const groupsName = "cgroup"

// NewMachine kills what an earlier engine left behind in dataDir, and returns
// the machine. No other engine may use dataDir.
func NewMachine(root, dataDir string) (*Machine, []Leftover, error) {
	m := &Machine{root: root, pods: filepath.Join(dataDir, "pods"), logs: filepath.Join(dataDir, "logs")}
	killed, err := Reap(m.pods, reapPatience)
	if err != nil {
		return nil, killed, err
	}
	if m.groups, err = openGroups(dataDir); err != nil {
		return nil, killed, err
	}
	m.spawner, m.ports = NewSpawner(), NewPorts(time.Now)
	return m, killed, nil
}

// openGroups ends what is left in the control groups of an earlier engine, and
// makes new ones.
func openGroups(dataDir string) (*cgroup.Tree, error) {
	file := filepath.Join(dataDir, groupsName)
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for an earlier engine's control groups: %w", err)
	}
	hash := sha256.Sum256([]byte(dataDir))
	name := "aisle-" + hex.EncodeToString(hash[:8])
	// Another name is that of a data directory that was moved, or copied.
	if dir := strings.TrimSpace(string(text)); filepath.Base(dir) == name {
		if err := cgroup.Sweep(dir, reapPatience); err != nil {
			return nil, err
		}
	}
	groups := cgroup.Open(name)
	if err := os.WriteFile(file, []byte(groups.Dir()+"\n"), 0o600); err != nil {
		_ = groups.Close(0) // it is empty
		return nil, fmt.Errorf("remember the control groups: %w", err)
	}
	return groups, nil
}

// Lacks says which of the limits of memory, processor and processes are not
// enforced on this machine, why, and what would permit it; nil: all are.
func (m *Machine) Lacks() error { return m.groups.Lacks() }

// Close ends every process that still runs and gives up the ports.
func (m *Machine) Close() {
	m.spawner.Close()
	m.ports.Close()
	_ = m.groups.Close(reapPatience) // what does not end is the next engine's to end
}

// LogDir is where the logs of a namespace's pods are.
func (m *Machine) LogDir(namespace string) string { return filepath.Join(m.logs, namespace) }

// Spec is a pod to start.
type Spec struct {
	Namespace, Name string
	// Command is argv, in which $(NAME) refers to the pod's environment. A
	// relative argv[0] is below the machine's root.
	Command []string
	Env     []EnvVar // the declared environment
	Mounts  []Mount
	Limits  cgroup.Limits // enforced where [Machine.Lacks] does not say otherwise
}

// maxPIDs bounds the processes and threads of a pod that declares no bound, so
// that one that forks without end takes nobody else with it.
const maxPIDs = 4096

// EnvVar is one environment variable.
type EnvVar struct{ Name, Value string }

// Pod is a started pod.
type Pod struct {
	*Process
	Address string // host:port
	Started time.Time

	phases  phaseClock
	machine *Machine
	port    *Port
	dir     string

	volumes sync.Mutex
	mounts  []Mount           // guarded by volumes; as they were written last; nil: they have gone
	at      map[string]string // fixed once the pod has started; where each mount's Path is
}

// Start writes the pod's volumes, gives it a port and starts its process. Its
// environment is spec.Env and PORT. Values and arguments that are paths at or
// below a mount are rewritten to where the mount was written.
func (m *Machine) Start(spec Spec) (*Pod, error) {
	p := &Pod{phases: phaseClock{at: Phases{Asked: time.Now()}}, machine: m, dir: filepath.Join(m.pods, spec.Namespace, spec.Name)}
	if err := p.start(spec); err != nil {
		p.clean()
		return nil, fmt.Errorf("start pod %s: %w", spec.Name, err)
	}
	return p, nil
}

func (p *Pod) start(spec Spec) error {
	m := p.machine
	if len(spec.Command) == 0 {
		return errors.New("it has no command")
	}
	select {
	case <-m.spawner.done:
		return errClosed
	default:
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("make its folder: %w", err)
	}
	at, err := WriteMounts(p.dir, spec.Mounts)
	if err != nil {
		return err
	}
	if p.port, err = m.ports.Take(); err != nil {
		return err
	}
	p.mounts, p.at = slices.Clone(spec.Mounts), at
	cmd := p.command(spec, at)
	limits := spec.Limits
	if limits.PIDs == 0 {
		limits.PIDs = maxPIDs
	}
	if cmd.group, err = m.groups.Make(spec.Namespace+"."+spec.Name, limits); err != nil {
		return err
	}
	if cmd.log, err = openLog(m.LogDir(spec.Namespace), spec.Name, MaxLog); err != nil {
		return errors.Join(err, cmd.group.Remove(0))
	}
	p.Started = time.Now()
	cmd.Env = append(cmd.Env, "AISLE_LAUNCHED="+strconv.FormatInt(p.Started.UnixNano(), 10))
	if p.Process, err = m.spawner.Start(cmd); err != nil {
		cmd.log.finish()
		return errors.Join(err, cmd.group.Remove(0))
	}
	cmd.log.started()
	p.phases.launched(p.Started)
	if err := Record(p.dir, p.Process); err != nil {
		p.Kill()
		<-p.Exited()
		return err
	}
	return nil
}

// command is what to run for spec, whose mounts were written as at says.
func (p *Pod) command(spec Spec, at map[string]string) Command {
	port := strconv.Itoa(p.port.Number)
	p.Address = net.JoinHostPort("127.0.0.1", port)
	env, value := make([]string, 0, len(spec.Env)+1), make(map[string]string, len(spec.Env)+1)
	for _, e := range append(slices.Clone(spec.Env), EnvVar{"PORT", port}) {
		value[e.Name] = Relocate(e.Value, at)
	}
	for _, name := range slices.Sorted(maps.Keys(value)) {
		env = append(env, name+"="+value[name])
	}
	argv := make([]string, len(spec.Command))
	for i, arg := range spec.Command {
		argv[i] = Relocate(expansion.Expand(arg, func(name string) (string, bool) {
			v, ok := value[name]
			return v, ok
		}), at)
	}
	if !filepath.IsAbs(argv[0]) {
		argv[0] = filepath.Join(p.machine.root, argv[0])
	}
	return Command{Path: argv[0], Args: argv[1:], Dir: p.machine.root, Env: env}
}

// Remove gives up the pod's folder and port. Its process must have ended; its
// log stays.
func (p *Pod) Remove() {
	<-p.Exited()
	p.clean()
}

func (p *Pod) clean() {
	if p.port != nil {
		p.machine.ports.Rest(p.port)
	}
	p.volumes.Lock()
	defer p.volumes.Unlock()
	p.mounts = nil // nothing is written there any more
	// What cannot be removed now is removed at the engine's next start.
	_ = removeAll(p.dir)
}

// Stop asks the process to stop, kills it when grace has passed or hurry is
// closed, and returns once it has gone. It reports whether it had to be killed.
func (p *Pod) Stop(grace time.Duration, hurry <-chan struct{}) (killed bool) {
	p.Term()
	patience := time.NewTimer(grace)
	defer patience.Stop()
	select {
	case <-p.Exited():
		return false
	case <-patience.C:
	case <-hurry:
	}
	p.Kill()
	<-p.Exited()
	return true
}
