package cli

import (
	"io"
	"sync"
)

// stoppable is a reader whose Read can be ended from outside: a terminal or a
// pipe that nobody writes to would hold a command for ever after its end has
// been decided. The goroutine of a Read that was ended lives until its input
// comes, or the process ends.
type stoppable struct {
	r    io.Reader
	done chan struct{}
	stop func()

	asked chan []byte
	got   chan result
}

type result struct {
	n   int
	err error
}

func newStoppable(r io.Reader) *stoppable {
	s := &stoppable{r: r, done: make(chan struct{}), asked: make(chan []byte), got: make(chan result, 1)}
	s.stop = sync.OnceFunc(func() { close(s.done) })
	go func() {
		for {
			select {
			case p := <-s.asked:
				n, err := s.r.Read(p)
				s.got <- result{n, err}
			case <-s.done:
				return
			}
		}
	}()
	return s
}

func (s *stoppable) Read(p []byte) (int, error) {
	// Its own memory: after an early end the goroutine may still write there.
	own := make([]byte, len(p))
	select {
	case s.asked <- own:
	case <-s.done:
		return 0, io.EOF
	}
	select {
	case r := <-s.got:
		return copy(p, own[:r.n]), r.err
	case <-s.done:
		return 0, io.EOF
	}
}
