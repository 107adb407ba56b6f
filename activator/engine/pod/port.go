package pod

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Ports for pods lie below the range from which Linux takes the local ends of
// outgoing connections by default (32768 and up), so that none of those can
// sit on a pod's port.
const (
	firstPort = 20000
	lastPort  = 31999
)

// quarantine is how long a port stays reserved after its pod has gone: longer
// than a request to the old pod can hang in a connection attempt.
const quarantine = 60 * time.Second

// Ports gives out loopback ports. Each stays bound by the engine, not
// listening, for as long as it is given out and through its quarantine:
// Linux lets the pod bind it beside us because both sockets have SO_REUSEADDR
// (as servers' sockets have in Go, Python, Node and Java), while
// another engine, which binds exclusively to try a port, is refused.
type Ports struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows
	next    int
	resting []rested // oldest first
}

type rested struct {
	port  *Port
	since time.Time
}

// Port is one reserved loopback port.
type Port struct {
	Number int
	fd     int
}

// NewPorts returns a source of ports that begins at a random one: two engines
// seldom even try the same.
func NewPorts(now func() time.Time) *Ports {
	return &Ports{now: now, next: firstPort + rand.IntN(lastPort-firstPort+1)}
}

// Take reserves a port that nothing on this machine uses.
func (p *Ports) Take() (*Port, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(p.now().Add(-quarantine))
	for range lastPort - firstPort + 1 {
		n := p.next
		if p.next++; p.next > lastPort {
			p.next = firstPort
		}
		fd, err := reserve(n)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reserve port %d: %w", n, err)
		}
		return &Port{n, fd}, nil
	}
	return nil, fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}

// Rest puts a port into quarantine; its pod must have ended.
func (p *Ports) Rest(port *Port) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting = append(p.resting, rested{port, p.now()})
}

// Close gives up every resting port.
func (p *Ports) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(p.now())
}

// release gives up the ports that have rested since before t or at t.
// REQUIRES: p.mu is held.
func (p *Ports) release(t time.Time) {
	for len(p.resting) > 0 && !p.resting[0].since.After(t) {
		_ = unix.Close(p.resting[0].port.fd) // a socket that was never connected: nothing is lost
		p.resting = p.resting[1:]
	}
}

// reserve binds exclusively, and only then lets others in beside us.
func reserve(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
