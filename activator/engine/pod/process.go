package pod

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"

	"aisle.dev/aisle/activator/engine/cgroup"
)

// Process is one started process. Its reaping goroutine ends with the process;
// whoever holds a Process waits for Exited.
type Process struct {
	proc      *os.Process
	startTime uint64
	group     *cgroup.Group
	log       *log
	exited    chan struct{}
	ending    Ending // set before exited is closed

	mu     sync.Mutex // guards what follows
	reaped bool       // the pid may be another process's from here on
	told   bool       // it was asked to stop, or killed
}

// Ending is how a process ended.
type Ending struct {
	Code      int            // its exit status; 128 and the signal's number if one ended it
	Signal    syscall.Signal // 0: none
	OOMKilled int64          // the memory limit, in bytes, that it was killed for; 0: it was not
	Daemon    bool           // it ended by itself and left processes behind, which were killed
	Err       error          // how it ended is not known
}

func (e Ending) String() string {
	how := fmt.Sprintf("exit status %d", e.Code)
	switch {
	case e.Err != nil:
		return e.Err.Error()
	case e.OOMKilled > 0:
		return fmt.Sprintf("OOMKilled: it needed more memory than its limit of %s", resource.NewQuantity(e.OOMKilled, resource.BinarySI))
	case e.Signal != 0:
		how = "signal " + unix.SignalName(e.Signal)
	}
	if e.Daemon {
		how += ", leaving processes behind, which were killed: a pod must stay in the foreground"
	}
	return how
}

// PID returns the process id, which is also its group's.
func (p *Process) PID() int { return p.proc.Pid }

// Exited is closed once the process has ended, and with it its group and its
// control group; all that they wrote is in the log.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Outcome says in words how the process ended. It must be called after Exited
// only.
func (p *Process) Outcome() string { return p.ending.String() }

// Ending says how the process ended. It must be called after Exited only.
func (p *Process) Ending() Ending { return p.ending }

// Term asks the process to stop (SIGTERM). As in a container, only the process
// itself is told; what it started is killed when it has ended.
func (p *Process) Term() { p.signal(syscall.SIGTERM, false) }

// Kill kills the process, its group and its control group.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL, true)
	_ = p.group.Kill() // the reaper kills it again, and waits
}

func (p *Process) signal(sig syscall.Signal, group bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	p.told = true
	pid := p.proc.Pid
	if group {
		pid = -pid
	}
	// ESRCH: it has ended and its reaper is about to say so.
	_ = syscall.Kill(pid, sig)
}

// lastPatience is how long what a process left behind may take to go once it
// has been killed.
const lastPatience = 10 * time.Second

func (p *Process) reap() {
	defer close(p.exited)
	e := &p.ending
	// Wait without reaping: while the zombie is there, neither its pid nor its
	// group's id can be reused, so the group can be killed safely.
	for {
		err := unix.Waitid(unix.P_PID, p.proc.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			e.Err = fmt.Errorf("wait for process %d: %w", p.proc.Pid, err)
			break
		}
	}
	p.mu.Lock()
	if !p.told {
		left, _ := members(p.proc.Pid, p.startTime) // only for the message
		e.Daemon = len(left) > 0 || p.group.Populated()
	}
	_ = syscall.Kill(-p.proc.Pid, syscall.SIGKILL) // ESRCH or EPERM: nobody is left in the group
	p.reaped = true
	p.mu.Unlock()
	state, err := p.proc.Wait()
	if err != nil && e.Err == nil {
		e.Err = fmt.Errorf("wait for process %d: %w", p.proc.Pid, err)
	}
	if err == nil {
		e.Code = state.ExitCode()
		if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal()
			e.Code = 128 + int(e.Signal)
		}
	}
	if e.OOMKilled = p.group.Memory(); e.OOMKilled > 0 {
		e.Daemon = false
	}
	if err := p.group.Remove(lastPatience); err != nil && e.Err == nil {
		e.Err = err
	}
	p.log.finish()
}
