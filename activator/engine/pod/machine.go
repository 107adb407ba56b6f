package pod

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Machine is where pods run: it starts their processes and keeps their folders
// and logs below one data directory.
type Machine struct {
	root    string // the pods' working directory
	pods    string // a folder per namespace and pod: volumes and the process's record
	logs    string // a folder per namespace: a log per pod
	spawner *Spawner
	ports   *Ports
}

// reapPatience is how long a killed leftover may take to go.
const reapPatience = 10 * time.Second

// NewMachine kills what an earlier engine left behind in dataDir, and returns
// the machine. No other engine may use dataDir.
func NewMachine(root, dataDir string) (*Machine, []Leftover, error) {
	m := &Machine{root: root, pods: filepath.Join(dataDir, "pods"), logs: filepath.Join(dataDir, "logs")}
	killed, err := Reap(m.pods, reapPatience)
	if err != nil {
		return nil, killed, err
	}
	m.spawner, m.ports = NewSpawner(), NewPorts(time.Now)
	return m, killed, nil
}

// Close ends every process that still runs and gives up the ports.
func (m *Machine) Close() {
	m.spawner.Close()
	m.ports.Close()
}

// LogDir is where the logs of a namespace's pods are.
func (m *Machine) LogDir(namespace string) string { return filepath.Join(m.logs, namespace) }

// Spec is a pod to start.
type Spec struct {
	Namespace, Name string
	Command         []string // argv; a relative argv[0] is below the machine's root
	Env             []EnvVar // the declared environment
	Mounts          []Mount
}

// EnvVar is one environment variable.
type EnvVar struct{ Name, Value string }

// Pod is a started pod.
type Pod struct {
	*Process
	Address string // host:port
	Started time.Time

	machine *Machine
	port    *Port
	dir     string
}

// Start writes the pod's volumes, gives it a port and starts its process. Its
// environment is spec.Env, with paths below a mount rewritten to where the
// mount was written, and PORT.
func (m *Machine) Start(spec Spec) (*Pod, error) {
	p := &Pod{machine: m, dir: filepath.Join(m.pods, spec.Namespace, spec.Name)}
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
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("make its folder: %w", err)
	}
	at, err := WriteMounts(p.dir, spec.Mounts)
	if err != nil {
		return err
	}
	log, err := OpenLog(m.LogDir(spec.Namespace), spec.Name)
	if err != nil {
		return fmt.Errorf("open its log: %w", err)
	}
	defer log.Close() // the process has its own descriptor
	if p.port, err = m.ports.Take(); err != nil {
		return err
	}
	port := strconv.Itoa(p.port.Number)
	env := make([]string, 0, len(spec.Env)+1)
	for _, e := range spec.Env {
		env = append(env, e.Name+"="+Relocate(e.Value, at))
	}
	path := spec.Command[0]
	if !filepath.IsAbs(path) {
		path = filepath.Join(m.root, path)
	}
	p.Address = net.JoinHostPort("127.0.0.1", port)
	p.Started = time.Now()
	p.Process, err = m.spawner.Start(Command{
		Path: path,
		Args: spec.Command[1:],
		Dir:  m.root,
		Env:  append(env, "PORT="+port),
		Log:  log,
	})
	if err != nil {
		return err
	}
	if err := Record(p.dir, p.Process); err != nil {
		p.Kill()
		<-p.Exited()
		return err
	}
	return nil
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
	// What cannot be removed now is removed at the engine's next start.
	_ = os.RemoveAll(p.dir)
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
