// Package clock is the machine's wall clock for what is due at a time of day.
//
// Go's timers run on a clock that nobody sets and that stands still while the
// machine sleeps. This one wakes its waiter when a time has come by the clock
// that people see, and at once when that clock is set or the machine has slept,
// so that what follows from the time can be compared anew. It costs nothing
// while it waits: no thread, no tick.
//
// Non-goals: measuring how long something takes.
package clock

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Wall is the machine's clock. One goroutine waits; others may call
// [Wall.Alarm] and [Wall.Close] meanwhile.
type Wall struct {
	fd   int
	file *os.File // of fd: its reads wait in Go's poller
	set  atomic.Bool
}

// Open opens the clock. Without an alarm it tells only that it was set.
func Open() (*Wall, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open the machine's clock: %w", err)
	}
	w := &Wall{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}
	if err := w.Alarm(time.Time{}); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Now is the time of day.
func (w *Wall) Now() time.Time { return time.Now().Round(0) }

// never is far enough for an alarm that is none: what is not armed is not told
// that the clock was set.
const never = 1 << 32 // seconds since 1970

// Alarm makes Wait return at t, in the place of the time that was given before;
// the zero time is never.
func (w *Wall) Alarm(t time.Time) error {
	at := unix.Timespec{Sec: never}
	switch {
	case t.IsZero() || t.Unix() >= never:
	case t.Unix() < 1: // a time of 0 would disarm it; what is past rings at once
		at = unix.Timespec{Nsec: 1}
	default:
		at = unix.NsecToTimespec(t.UnixNano())
	}
	const flags = unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET
	err := unix.TimerfdSettime(w.fd, flags, &unix.ItimerSpec{Value: at}, nil)
	if errors.Is(err, unix.ECANCELED) { // the clock was set meanwhile: it is armed, and Wait must not miss that
		w.set.Store(true)
		err = unix.TimerfdSettime(w.fd, flags, &unix.ItimerSpec{Value: unix.Timespec{Nsec: 1}}, nil)
		if errors.Is(err, unix.ECANCELED) { // once more: it is armed as before
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("set an alarm: %w", err)
	}
	return nil
}

// Wait returns when the alarm rings, which then is over, or when the clock was
// set. Its error is [os.ErrClosed] after Close.
func (w *Wall) Wait() (set bool, err error) {
	var expirations [8]byte
	_, err = w.file.Read(expirations[:])
	if errors.Is(err, unix.ECANCELED) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("wait for a time: %w", err)
	}
	return w.set.Swap(false), nil
}

// Close ends a Wait.
func (w *Wall) Close() error { return w.file.Close() }
