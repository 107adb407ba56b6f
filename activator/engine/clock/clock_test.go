package clock

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t *testing.T) *Wall {
	t.Helper()
	w, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() }) // the test may have closed it
	return w
}

func TestAlarm(t *testing.T) {
	for name, at := range map[string]func(now time.Time) time.Time{
		"to come":        func(now time.Time) time.Time { return now.Add(30 * time.Millisecond) },
		"now":            func(now time.Time) time.Time { return now },
		"long past":      func(time.Time) time.Time { return time.Unix(0, 0) },
		"before counted": func(time.Time) time.Time { return time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t)
			due := at(w.Now())
			if err := w.Alarm(due); err != nil {
				t.Fatal(err)
			}
			if set, err := w.Wait(); set || err != nil {
				t.Fatalf("set %v, %v", set, err)
			}
			if now := w.Now(); now.Before(due) {
				t.Errorf("woken at %v, before %v", now, due)
			}
		})
	}
}

func TestAlarmIsReplaced(t *testing.T) {
	w := open(t)
	for _, at := range []time.Time{w.Now().AddDate(100, 0, 0), w.Now().AddDate(1000, 0, 0), {}, w.Now()} {
		if err := w.Alarm(at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Wait(); err != nil { // else the test hangs
		t.Fatal(err)
	}
}

// Nobody may set this machine's clock: what the kernel says then is played.
func TestSetWhileArmed(t *testing.T) {
	w := open(t)
	w.set.Store(true)
	if err := unix.TimerfdSettime(w.fd, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: unix.Timespec{Nsec: 1}}, nil); err != nil {
		t.Fatal(err)
	}
	if set, err := w.Wait(); !set || err != nil {
		t.Fatalf("set %v, %v", set, err)
	}
}

func TestCloseEndsWait(t *testing.T) {
	w := open(t)
	ended := make(chan error, 1)
	go func() {
		_, err := w.Wait()
		ended <- err
	}()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
}
