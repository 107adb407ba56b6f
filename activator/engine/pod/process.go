package pod

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is one started process. Its reaping goroutine ends with the process;
// whoever holds a Process waits for Exited.
type Process struct {
	proc      *os.Process
	startTime uint64
	exited    chan struct{}
	state     *os.ProcessState // set before exited is closed
	err       error            // likewise

	mu     sync.Mutex
	reaped bool // guarded by mu: the pid may be another process's from here on
}

// PID returns the process id, which is also its group's.
func (p *Process) PID() int { return p.proc.Pid }

// Exited is closed once the process has ended and its group has been killed.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Outcome says how the process ended. It must be called after Exited only.
func (p *Process) Outcome() string {
	if p.err != nil {
		return p.err.Error()
	}
	if ws, ok := p.state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return fmt.Sprintf("signal %s", unix.SignalName(ws.Signal()))
	}
	return fmt.Sprintf("exit status %d", p.state.ExitCode())
}

// ExitCode is the process's exit status, or -1 if a signal ended it. It must be
// called after Exited only.
func (p *Process) ExitCode() int { return p.state.ExitCode() }

// Term asks the process to stop (SIGTERM). As in a container, only the process
// itself is told; what it started is killed when it has ended.
func (p *Process) Term() { p.signal(syscall.SIGTERM, false) }

// Kill kills the process and its group.
func (p *Process) Kill() { p.signal(syscall.SIGKILL, true) }

func (p *Process) signal(sig syscall.Signal, group bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	pid := p.proc.Pid
	if group {
		pid = -pid
	}
	// ESRCH: it has ended and its reaper is about to say so.
	_ = syscall.Kill(pid, sig)
}

func (p *Process) reap() {
	defer close(p.exited)
	// Wait without reaping: while the zombie is there, neither its pid nor its
	// group's id can be reused, so the group can be killed safely.
	for {
		err := unix.Waitid(unix.P_PID, p.proc.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			p.err = fmt.Errorf("wait for process %d: %w", p.proc.Pid, err)
			break
		}
	}
	p.mu.Lock()
	_ = syscall.Kill(-p.proc.Pid, syscall.SIGKILL) // ESRCH or EPERM: nobody is left in the group
	p.reaped = true
	p.mu.Unlock()
	state, err := p.proc.Wait()
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("wait for process %d: %w", p.proc.Pid, err)
	}
	p.state = state
}
