// Package clocktest is a clock that a test moves. It goes on from where it was
// moved to.
package clocktest

import (
	"os"
	"sync"
	"time"
)

// Clock stands in for the machine's. One goroutine waits.
type Clock struct {
	mu     sync.Mutex // guards what follows
	ahead  time.Duration
	alarm  time.Time
	set    bool
	closed bool
	again  chan struct{} // closed, and replaced, when one of these changes
}

// At is a clock that says now.
func At(now time.Time) *Clock {
	return &Clock{ahead: now.Sub(time.Now()), again: make(chan struct{})}
}

// Move sets the clock.
func (c *Clock) Move(to time.Time) {
	c.change(func() { c.ahead, c.set = to.Sub(time.Now()), true })
}

func (c *Clock) change(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
	close(c.again)
	c.again = make(chan struct{})
}

// Now is the time that the clock says.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead).Round(0)
}

// Alarm makes Wait return at t; the zero time is never.
func (c *Clock) Alarm(t time.Time) error {
	c.change(func() { c.alarm = t })
	return nil
}

// Wait returns when the alarm rings or the clock was moved.
func (c *Clock) Wait() (set bool, err error) {
	for {
		c.mu.Lock()
		now := time.Now().Add(c.ahead)
		switch {
		case c.closed:
			c.mu.Unlock()
			return false, os.ErrClosed
		case c.set || !c.alarm.IsZero() && !now.Before(c.alarm):
			set, c.set, c.alarm = c.set, false, time.Time{}
			c.mu.Unlock()
			return set, nil
		}
		again := c.again
		var due <-chan time.Time
		if !c.alarm.IsZero() {
			due = time.After(c.alarm.Sub(now))
		}
		c.mu.Unlock()
		select {
		case <-again:
		case <-due:
		}
	}
}

// Close ends a Wait.
func (c *Clock) Close() error {
	c.change(func() { c.closed = true })
	return nil
}
