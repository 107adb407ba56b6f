// Package pod runs one pod of a revision as one process of this machine.
//
// It guarantees that
//   - a process is started with exactly the environment it is given, its PORT,
//     and when it was launched (AISLE_LAUNCHED, Unix time in nanoseconds, from
//     which it can tell how long it took to reach its main), in its own process
//     group, with /dev/null as its input and a bounded log as its
//     output, which it is slowed down to if it floods it;
//   - it dies with the engine, whatever kills the engine (a parent-death
//     signal, and a record that lets the next engine finish the job);
//   - it is reaped as soon as it ends, and whatever it left in its process
//     group is killed before its pid can be given to another process; so is
//     what left that group (setsid), where pods have control groups;
//   - its memory, processor and processes are limited as it declares, where the
//     engine may do so ([Machine.Lacks]); elsewhere the kernel that runs out of
//     memory takes a pod rather than the engine;
//   - its port is its own: no other pod and no other engine gets it, nor is it
//     given out again while a request to the old pod could still be under way.
//
// It does not decide when a pod is started or stopped, and it isolates nothing
// else: a pod has the user, files and network of the engine.
package pod

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"aisle.dev/aisle/activator/engine/cgroup"
)

// Spawner starts processes. All forks happen on one operating-system thread
// that lives until Close: the kernel sends the parent-death signal when the
// forking thread ends, not when the process does.
type Spawner struct {
	starts chan start
	quit   chan struct{}
	done   chan struct{}
}

type start struct {
	cmd   Command
	reply chan<- started
}

type started struct {
	proc *Process
	err  error
}

// Command is what to run. Nothing is inherited: Env is the whole environment.
type Command struct {
	Path string
	Args []string // without the program's name
	Dir  string
	Env  []string // NAME=value

	group *cgroup.Group // nil: none
	log   *log          // takes stdout and stderr
}

var errClosed = errors.New("the engine is stopping")

// NewSpawner starts the forking thread.
func NewSpawner() *Spawner {
	s := &Spawner{starts: make(chan start), quit: make(chan struct{}), done: make(chan struct{})}
	locked := make(chan struct{})
	go s.loop(locked)
	<-locked
	return s
}

func (s *Spawner) loop(locked chan<- struct{}) {
	// Never unlocked, so that the thread ends with this goroutine and the
	// kernel kills what Close's caller left running.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread is the one that the runtime parks instead of ending.
		// Another goroutine gets another thread as long as this one is held.
		other := make(chan struct{})
		go s.loop(other)
		<-other
		runtime.UnlockOSThread()
		close(locked)
		return
	}
	close(locked)
	defer close(s.done)
	null, err := os.Open(os.DevNull)
	if err == nil {
		defer null.Close()
	}
	for {
		select {
		case <-s.quit:
			return
		case st := <-s.starts:
			if err != nil {
				st.reply <- started{err: err}
				continue
			}
			p, err := spawn(st.cmd, null)
			st.reply <- started{p, err}
		}
	}
}

// Start starts a process and returns once it has been executed.
func (s *Spawner) Start(cmd Command) (*Process, error) {
	reply := make(chan started, 1)
	select {
	case s.starts <- start{cmd, reply}:
		r := <-reply
		return r.proc, r.err
	case <-s.done:
		return nil, errClosed
	}
}

// Close ends the forking thread, and with it every process still running.
// It must be called once.
func (s *Spawner) Close() {
	close(s.quit)
	<-s.done
}

// spawn must run on the spawner's thread.
func spawn(cmd Command, stdin *os.File) (*Process, error) {
	sys := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if cmd.group != nil {
		g, err := cmd.group.Open()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
		}
		defer g.Close()
		sys.UseCgroupFD, sys.CgroupFD = true, int(g.Fd())
	}
	proc, err := os.StartProcess(cmd.Path, append([]string{cmd.Path}, cmd.Args...), &os.ProcAttr{
		Dir:   cmd.Dir,
		Env:   append([]string{}, cmd.Env...), // not nil: nil would inherit the engine's
		Files: []*os.File{stdin, cmd.log.in, cmd.log.in},
		Sys:   sys,
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist; build it first (make build)", cmd.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &Process{proc: proc, group: cmd.group, log: cmd.log, exited: make(chan struct{})}
	// Read before anything waits for the process: until then its pid cannot
	// be another's, even if it has already ended.
	if p.startTime, err = StartTime(proc.Pid); err != nil {
		_ = syscall.Kill(-proc.Pid, syscall.SIGKILL)
		_, _ = proc.Wait()
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	// Whoever eats up the machine's memory, the engine is not to die of it.
	// Nothing depends on it: some systems hide the file.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", proc.Pid), []byte(oomScore), 0)
	go p.reap()
	return p, nil
}

// oomScore makes the kernel take a pod before anything else of the user's: on
// top of a share of 0 to 1000 of the machine's memory.
const oomScore = "500"
