package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func never() {}

// acquire expects a place at once.
func acquire(t *testing.T, l *Lane[string]) *Lease[string] {
	t.Helper()
	lease := l.Try()
	if lease == nil {
		t.Fatal("no place")
	}
	return lease
}

func TestLeastLoadedThenOldest(t *testing.T) {
	l := New[string](2, 10, never)
	l.Open("a")
	l.Open("b")
	var got []string
	for range 4 {
		got = append(got, acquire(t, l).Pod)
	}
	if want := []string{"a", "b", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("places in %v, want %v", got, want)
	}
	if l.Try() != nil {
		t.Error("a fifth place in two pods of two")
	}
}

func TestUnlimited(t *testing.T) {
	l := New[string](0, 0, never)
	l.Open("a")
	for range 1000 {
		acquire(t, l)
	}
	if _, held := l.Counts(); held != 1000 {
		t.Errorf("%d held", held)
	}
}

func TestFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := 0
		l := New[string](1, 10, func() { waits++ })
		var order []int
		for i := range 5 {
			go func() {
				lease, err := l.Acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i) // one holds a place at a time
				time.Sleep(time.Second)
				lease.Release()
			}()
			synctest.Wait()
		}
		if waits != 5 {
			t.Errorf("told %d times that one waits, want 5", waits)
		}
		l.Open("a")
		time.Sleep(10 * time.Second) // virtual
		synctest.Wait()
		if want := []int{0, 1, 2, 3, 4}; !slices.Equal(order, want) {
			t.Errorf("served in the order %v", order)
		}
	})
}

func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New[string](1, 1, never)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = l.Acquire(ctx) }()
		synctest.Wait()
		if _, err := l.Acquire(ctx); !errors.Is(err, ErrFull) {
			t.Errorf("%v, want ErrFull", err)
		}
		cancel() // who leaves makes room
		synctest.Wait()
		if waiting, _ := l.Counts(); waiting != 0 {
			t.Errorf("%d wait after they left", waiting)
		}
	})
}

func TestGoneCallersPlaceGoesToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New[string](1, 10, never)
		why := errors.New("hung up")
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := make(chan error, 1)
		go func() { _, err := l.Acquire(ctx); gone <- err }()
		synctest.Wait()
		got := make(chan *Lease[string], 1)
		go func() { lease, _ := l.Acquire(t.Context()); got <- lease }()
		synctest.Wait()
		cancel(why)
		l.Open("a")
		if lease := <-got; lease == nil || lease.Pod != "a" {
			t.Fatalf("the second in line got %v", lease)
		}
		if err := <-gone; !errors.Is(err, why) && err != nil {
			t.Errorf("the first: %v", err)
		}
	})
}

func TestCloseWaitsForLeases(t *testing.T) {
	l := New[string](0, 10, never)
	l.Open("a")
	first, second := acquire(t, l), acquire(t, l)
	if l.CloseIdle("a") {
		t.Fatal("closed as idle with two requests")
	}
	done := l.Close("a")
	if again := l.Close("a"); again != done {
		t.Error("a second Close has another end")
	}
	if l.Try() != nil {
		t.Fatal("a place in a closed pod")
	}
	if l.Held("a") != 2 {
		t.Errorf("%d held in the closed pod", l.Held("a"))
	}
	first.Release()
	first.Release() // has no effect
	select {
	case <-done:
		t.Fatal("done with a request left")
	default:
	}
	second.Release()
	<-done
	<-l.Close("unknown")
	l.Open("b")
	if !l.CloseIdle("b") {
		t.Error("an idle pod was not closed")
	}
}

func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New[string](1, 10, never)
		why := errors.New("broken")
		got := make(chan error, 1)
		go func() { _, err := l.Acquire(t.Context()); got <- err }()
		synctest.Wait()
		l.Refuse(why)
		if err := <-got; !errors.Is(err, why) {
			t.Errorf("who waited got %v", err)
		}
		if _, err := l.Acquire(t.Context()); !errors.Is(err, why) {
			t.Errorf("who came got %v", err)
		}
		l.Accept()
		go func() { _, err := l.Acquire(t.Context()); got <- err }()
		synctest.Wait()
		l.Open("a")
		if err := <-got; err != nil {
			t.Errorf("after Accept: %v", err)
		}
		l.Refuse(why) // there is a pod: no reason to refuse
		go func() { _, err := l.Acquire(t.Context()); got <- err }()
		synctest.Wait()
		if waiting, _ := l.Counts(); waiting != 1 {
			t.Errorf("%d wait, want 1", waiting)
		}
		l.Close("a")
		l.Refuse(why)
		<-got
	})
}

// However pods and callers come and go, no pod has more requests than it may,
// nobody is lost, and what is counted is what is there.
func TestConservation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		concurrency := rapid.IntRange(0, 3).Draw(t, "concurrency")
		depth := rapid.IntRange(0, 5).Draw(t, "depth")
		l := New[int](concurrency, depth, never)
		var (
			leases []*Lease[int]
			open   = map[int]bool{}
			next   int
		)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				next++
				open[next] = true
				l.Open(next)
			case 1:
				for p := range open {
					delete(open, p)
					l.Close(p)
					break
				}
			case 2:
				if lease := l.Try(); lease != nil {
					if !open[lease.Pod] {
						t.Fatalf("a place in closed pod %d", lease.Pod)
					}
					leases = append(leases, lease)
				}
			case 3:
				if len(leases) > 0 {
					leases[0].Release()
					leases = leases[1:]
				}
			}
			perPod := map[int]int{}
			for _, lease := range leases {
				perPod[lease.Pod]++
			}
			for p, n := range perPod {
				if concurrency > 0 && n > concurrency || l.Held(p) != n {
					t.Fatalf("pod %d: %d leases, %d counted, at most %d", p, n, l.Held(p), concurrency)
				}
			}
			if waiting, held := l.Counts(); held != len(leases) || waiting != 0 {
				t.Fatalf("%d held and %d waiting are counted, %d leases", held, waiting, len(leases))
			}
		}
	})
}

// Callers, pods and drains at once: every drained pod has no request left, and
// every caller is served. For the race detector as much as for the assertions.
func TestRace(t *testing.T) {
	l := New[string](2, 1000, never)
	l.Open("pod 0")
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for i := range 300 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%7 == 0 {
					cancel()
				}
				if lease, err := l.Acquire(ctx); err == nil {
					lease.Release()
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	for i := range 100 {
		l.Open(fmt.Sprintf("pod %d", i+1))
		<-l.Close(fmt.Sprintf("pod %d", i))
	}
	callers.Wait()
	if waiting, held := l.Counts(); waiting+held != 0 {
		t.Errorf("%d wait and %d are held in the end", waiting, held)
	}
}

// A pod that was closed as idle has nobody, and gets nobody.
func TestCloseIdleRace(t *testing.T) {
	type pod struct{ stopped atomic.Bool }
	l := New[*pod](0, 1000, never)
	current := &pod{}
	l.Open(current)
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 2000 {
				lease, err := l.Acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if lease.Pod.stopped.Load() {
					t.Error("a request holds a place in a stopped pod")
				}
				lease.Release()
			}
		})
	}
	served := make(chan struct{})
	go func() { callers.Wait(); close(served) }()
	for stops := 0; ; {
		select {
		case <-served:
			t.Logf("stopped %d times", stops)
			return
		default:
		}
		if l.CloseIdle(current) {
			current.stopped.Store(true)
			current = &pod{}
			l.Open(current)
			stops++
		}
	}
}

func BenchmarkTry(b *testing.B) {
	l := New[string](0, 10, never)
	l.Open("a")
	l.Open("b")
	for b.Loop() {
		l.Try().Release()
	}
}

// A pod that is ready again goes on with the requests that it had: they count
// against its places, and the last one to leave it ends its next drain.
func TestOpenAgain(t *testing.T) {
	l := New[string](2, 0, never)
	l.Open("a")
	before := acquire(t, l)
	l.Close("a")
	if l.Try() != nil {
		t.Fatal("a place in a closed pod")
	}
	l.Open("a")
	after := acquire(t, l)
	if l.Try() != nil || l.Held("a") != 2 {
		t.Errorf("%d held of two places", l.Held("a"))
	}
	done := l.Close("a")
	after.Release()
	select {
	case <-done:
		t.Fatal("drained with a request left")
	default:
	}
	before.Release()
	<-done
	if _, held := l.Counts(); held != 0 {
		t.Errorf("%d held", held)
	}
}
