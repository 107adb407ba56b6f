package ping

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store that outlives runners. It can fail.
type memory struct {
	mu    sync.Mutex
	marks map[string]Mark
	err   error
}

func (m *memory) Load(_ context.Context, key string) (Mark, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.marks[key]
	return v, ok, m.err
}

func (m *memory) Store(ctx context.Context, key string, v Mark) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.marks[key] = v
	return nil
}

func (m *memory) Forget(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.marks, key)
	return m.err
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) all() map[string]Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.marks)
}

// bench is a runner within a bubble, and what its sinks got.
type bench struct {
	*Runner
	memory *memory

	mu    sync.Mutex
	got   []string // NAME TIME, tick and arrival where they differ
	ids   map[string]int
	err   error         // what sinks answer
	takes time.Duration // how long they take
	off   time.Duration // by how much the clock is set off

	onLook func() // at each look at the clock
	stop   func()
}

func (b *bench) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *bench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.onLook != nil {
		b.onLook()
	}
	return time.Now().Add(b.off)
}

func (b *bench) sink(ctx context.Context, s *Source, ev ce.Event) error {
	b.mu.Lock()
	takes, err := b.takes, b.err
	b.mu.Unlock()
	if takes > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(takes):
		}
	}
	if err != nil {
		return err
	}
	tick, now := ev.Time().UTC().Format(time.TimeOnly), b.now().UTC().Format(time.TimeOnly)
	if tick != now {
		tick += " at " + now
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, s.Name+" "+tick)
	b.ids[ev.ID()]++
	return nil
}

func (b *bench) took() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.got
	b.got = nil
	return got
}

// start runs a new runner over what was remembered. Bubbles begin on
// 2000-01-01 at midnight, UTC.
func start(t *testing.T, m *memory, sources ...*Source) *bench {
	t.Helper()
	b := &bench{memory: m, ids: map[string]int{}}
	b.Runner = NewRunner(b.sink, m, slog.New(slog.DiscardHandler))
	b.clock = b.now
	b.Set(sources)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { b.Run(ctx) })
	b.stop = func() { cancel(); done.Wait() }
	t.Cleanup(b.stop)
	synctest.Wait()
	return b
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func named(t *testing.T, name, schedule string) *Source {
	t.Helper()
	ps := source(t, fmt.Sprintf("spec: {schedule: %q, timezone: UTC, %s}", schedule, toBroker))
	ps.Name = name
	s, err := New(ps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func empty() *memory { return &memory{marks: map[string]Mark{}} }

func (b *bench) want(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, b.took()); diff != "" {
		t.Errorf("the sink got (-want +got):\n%s", diff)
	}
}

func TestRunnerTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, empty(), named(t, "a", "*/10 * * * *"), named(t, "b", "0 1 * * *"))
		pass(65 * time.Minute)
		got := b.took()
		slices.Sort(got) // of two ticks at one time either may be first
		want := []string{"a 00:10:00", "a 00:20:00", "a 00:30:00", "a 00:40:00", "a 00:50:00", "a 01:00:00", "b 01:00:00"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRunnerStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, empty(), named(t, "a", "*/10 * * * *"))
		pass(11 * time.Minute)
		got, known := b.Status("shop/a")
		want := Status{Last: at(t, "2000-01-01T00:10:00Z"), Next: at(t, "2000-01-01T00:20:00Z")}
		if diff := cmp.Diff(want, got); diff != "" || !known {
			t.Error(known, diff)
		}
		if _, known := b.Status("shop/b"); known {
			t.Error("a source is known that there is not")
		}
	})
}

// TestRunnerWithoutSourcesHasNoTimer: it would look at the clock.
func TestRunnerWithoutSourcesHasNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, empty(), named(t, "a", "* * * * *"))
		b.Set(nil)
		synctest.Wait()
		looks := 0
		b.set(func() { b.onLook = func() { looks++ } })
		pass(24 * time.Hour)
		if looks > 0 {
			t.Errorf("it looked %d times", looks)
		}
	})
}

func TestRunnerAfterDowntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := empty()
		b := start(t, m, named(t, "a", "*/10 * * * *"))
		pass(15 * time.Minute)
		b.want(t, "a 00:10:00")
		b.stop()
		pass(3 * time.Hour)
		b = start(t, m, named(t, "a", "*/10 * * * *"))
		pass(6 * time.Minute)
		b.want(t, "a 03:10:00 at 03:15:00", "a 03:20:00")
		b.stop()

		// The same, but nothing was missed: nothing is sent twice.
		pass(time.Minute)
		b = start(t, m, named(t, "a", "*/10 * * * *"))
		b.want(t)
		b.stop()

		// Another schedule has missed nothing, and one that was away is new.
		pass(24 * time.Minute)
		b = start(t, m, named(t, "a", "*/7 * * * *"))
		b.want(t)
		b.Set(nil)
		synctest.Wait()
		if all := m.all(); len(all) > 0 {
			t.Errorf("of removed sources %v is remembered", all)
		}
		pass(time.Hour)
		b.Set([]*Source{named(t, "a", "*/7 * * * *")})
		synctest.Wait()
		b.want(t)
	})
}

// TestRunnerKilledBeforeItRemembers: the event goes out again under its id.
func TestRunnerKilledBeforeItRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := empty()
		b := start(t, m, named(t, "a", "0 * * * *"))
		m.fail(errors.New("disk full"))
		pass(time.Hour)
		b.want(t, "a 01:00:00")
		first := b.ids
		b.stop()
		m.fail(nil)
		pass(time.Minute)
		b = start(t, m, named(t, "a", "0 * * * *"))
		b.want(t, "a 01:00:00 at 01:01:00")
		if diff := cmp.Diff(first, b.ids); diff != "" {
			t.Error("the ids differ", diff)
		}
	})
}

func TestRunnerSinkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, empty(), named(t, "a", "*/10 * * * *"))
		b.set(func() { b.err = errors.New("no answer") })
		pass(12 * time.Minute)
		if s, _ := b.Status("shop/a"); s.Trouble != "no answer" {
			t.Errorf("trouble is %q", s.Trouble)
		}
		b.set(func() { b.err = nil })
		pass(time.Minute)
		if got := b.took(); len(got) != 1 || got[0][:10] != "a 00:10:00" {
			t.Errorf("after the failures the sink got %v", got)
		}
		if s, _ := b.Status("shop/a"); s.Trouble != "" {
			t.Errorf("trouble is %q", s.Trouble)
		}

		// A sink that fails for longer than an interval gets the latest tick.
		b.set(func() { b.err = errors.New("no answer") })
		pass(30 * time.Minute)
		b.set(func() { b.err = nil })
		pass(90 * time.Second)
		if got := b.took(); len(got) != 1 || got[0][:10] != "a 00:40:00" {
			t.Errorf("after the long failure the sink got %v", got)
		}

		// What it refuses is not sent again.
		b.set(func() { b.err = fmt.Errorf("400: %w", ErrRefused) })
		pass(10 * time.Minute)
		b.set(func() { b.err = nil })
		pass(5 * time.Minute)
		b.want(t)
		if s, _ := b.Status("shop/a"); s.Trouble == "" {
			t.Error("of the refusal nothing is said")
		}
	})
}

func TestRunnerSlowSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, empty(), named(t, "a", "* * * * *"))
		b.set(func() { b.takes = 150 * time.Second })
		pass(9 * time.Minute)
		b.want(t, "a 00:01:00 at 00:03:30", "a 00:03:00 at 00:06:00", "a 00:06:00 at 00:08:30")
	})
}

func TestRunnerMemoryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := empty()
		m.fail(errors.New("no store"))
		b := start(t, m, named(t, "a", "* * * * *"))
		pass(5 * time.Minute)
		b.want(t) // without its memory it might send what was sent
		m.fail(nil)
		pass(2 * time.Minute)
		if got := b.took(); len(got) == 0 {
			t.Error("it does not go on")
		}
	})
}

func TestRunnerClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, empty(), named(t, "a", "0 * * * *"))
		pass(10 * time.Minute)
		b.set(func() { b.off = 5 * time.Hour }) // the machine slept: 05:10
		pass(2 * time.Minute)
		if got := b.took(); len(got) != 1 || got[0][:10] != "a 05:00:00" {
			t.Errorf("after the jump forward it sent %v", got)
		}
		b.set(func() { b.off = 4*time.Hour + 30*time.Minute }) // 04:42: what was sent is not sent again
		pass(30 * time.Minute)
		b.want(t)
		b.set(func() { b.off = -2 * time.Hour }) // 22:42 of the day before: the clock had been wrong
		pass(20 * time.Minute)
		b.want(t, "a 23:00:00")
		for id, n := range b.ids {
			if n > 1 {
				t.Errorf("event %s was sent %d times", id, n)
			}
		}
	})
}

// TestRunnerSetWhileSending: what is under way for the old source is not the
// new one's, and no two sends are under way for one name.
func TestRunnerSetWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := empty()
		b := start(t, m, named(t, "a", "* * * * *"))
		b.set(func() { b.takes = 10 * time.Second })
		pass(65 * time.Second)
		b.Set([]*Source{named(t, "a", "30 * * * *")})
		pass(30 * time.Second)
		b.want(t, "a 00:01:00 at 00:01:10")
		pass(40 * time.Minute)
		b.want(t, "a 00:30:00 at 00:30:10")
		b.Set(nil)
		b.Set([]*Source{named(t, "a", "30 * * * *")})
		pass(time.Hour)
		b.want(t, "a 01:30:00 at 01:30:10")
		if all := m.all(); len(all) != 1 {
			t.Errorf("remembered is %v", all)
		}
	})
}
