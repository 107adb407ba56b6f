package classify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// names queues jobs by their names: the first letter is the group, a digit the
// rows, and a ! is for one that runs alone.
func (q *queue) names(ctx context.Context, names ...string) []*job {
	var all []*job
	for _, n := range names {
		j := &job{ctx: ctx, group: n[:1], rows: 1, queued: time.Now(), done: make(chan struct{}), err: errors.New(n)}
		if len(n) > 1 && n[1] != '!' {
			j.rows = int(n[1] - '0')
		}
		j.alone = strings.HasSuffix(n, "!")
		q.push(j)
		all = append(all, j)
	}
	return all
}

func shown(batch []*job) string {
	var names []string
	for _, j := range batch {
		names = append(names, j.err.Error())
	}
	return strings.Join(names, " ")
}

func TestQueueForms(t *testing.T) {
	for _, tt := range []struct {
		name string
		jobs string
		want []string // batches of at most 4 rows
	}{
		{"what is there", "a a a", []string{"a a a"}},
		{"the largest", "a a a a a a", []string{"a a a a", "a a"}},
		{"groups are not mixed", "a b a b b", []string{"a a", "b b b"}},
		{"the oldest goes first", "a b b b b", []string{"a", "b b b b"}},
		{"rows", "a3 a2 a", []string{"a3 a", "a2"}},
		{"alone", "a a! a", []string{"a a", "a!"}},
		{"alone at first", "a! a a!", []string{"a!", "a", "a!"}},
		{"more rows than the largest", "a9! a a", []string{"a9!", "a a"}},
		{"none", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := newQueue(100, 4, 1, 0, func() {})
			q.names(t.Context(), strings.Fields(tt.jobs)...)
			var got []string
			for {
				batch, due := q.take(time.Now(), nil)
				if len(batch) == 0 {
					if !due.IsZero() || q.len() != 0 || len(q.rows) != 0 {
						t.Errorf("an empty queue is due at %v, with %d jobs and the groups %v", due, q.len(), q.rows)
					}
					break
				}
				got = append(got, shown(batch))
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("batches %q, want %q", got, tt.want)
			}
		})
	}
}

func TestQueueDrops(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	dropped := 0
	q := newQueue(4, 4, 1, 0, func() { dropped++ })
	first := q.names(gone, "a", "a")
	q.names(t.Context(), "a")
	q.names(gone, "a")
	leave()
	// It is full of those who have gone: there is room.
	q.names(t.Context(), "b")
	if q.len() != 2 || dropped != 3 {
		t.Errorf("%d wait, %d were dropped", q.len(), dropped)
	}
	<-first[0].done
	if !errors.Is(first[0].err, context.Canceled) {
		t.Errorf("dropped with %v", first[0].err)
	}
	q.names(gone, "a") // gone already
	if batch, _ := q.take(time.Now(), nil); shown(batch) != "a" || dropped != 4 {
		t.Errorf("batch %q, %d dropped", shown(batch), dropped)
	}
	if batch, _ := q.take(time.Now(), nil); shown(batch) != "b" {
		t.Errorf("batch %q", shown(batch))
	}
}

// With a delay a batch waits for company, no longer than its oldest may, and
// not at all once it is full; another group does not wait behind it.
func TestQueueDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = 5 * time.Millisecond
		q := newQueue(100, 4, 2, delay, func() {})
		began := time.Now()
		type ran struct {
			batch string
			at    time.Duration
		}
		got := make(chan ran, 10)
		ctx, stop := context.WithCancel(t.Context())
		go func() { // a worker
			for {
				batch, due := q.take(time.Now(), nil)
				if len(batch) > 0 {
					got <- ran{shown(batch), time.Since(began)}
				} else if !q.wait(ctx, due) {
					return
				}
			}
		}()
		q.names(ctx, "a")
		time.Sleep(2 * time.Millisecond)
		q.names(ctx, "a", "b")
		time.Sleep(time.Millisecond)
		q.names(ctx, "b", "b", "b") // full, at 3 ms
		q.names(ctx, "c!")
		time.Sleep(3 * time.Millisecond)
		q.names(ctx, "a") // too late for the others
		time.Sleep(10 * time.Millisecond)
		stop()
		synctest.Wait()
		close(got)
		want := []ran{{"b b b b", 3 * time.Millisecond}, {"c!", 3 * time.Millisecond}, {"a a", 5 * time.Millisecond}, {"a", 11 * time.Millisecond}}
		for r := range got {
			if len(want) == 0 || r != want[0] {
				t.Fatalf("ran %v, want %v", r, want)
			}
			want = want[1:]
		}
		if len(want) != 0 {
			t.Errorf("never ran %v", want)
		}
	})
}

// Every worker that waits hears of work, and none of it is left lying.
func TestQueueWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(100, 4, 3, 0, func() {})
		ctx, stop := context.WithCancel(t.Context())
		rows := make(chan int, 1000)
		for range 3 {
			go func() {
				for {
					batch, due := q.take(time.Now(), nil)
					if len(batch) > 0 {
						time.Sleep(time.Millisecond)
						rows <- len(batch)
					} else if !q.wait(ctx, due) {
						return
					}
				}
			}()
		}
		synctest.Wait()
		for i := range 50 {
			q.names(ctx, string(rune('a'+i%5)))
			if i%7 == 0 {
				time.Sleep(300 * time.Microsecond)
			}
		}
		time.Sleep(time.Second)
		stop()
		synctest.Wait()
		close(rows)
		sum := 0
		for n := range rows {
			sum += n
		}
		if sum != 50 || q.len() != 0 {
			t.Errorf("%d of 50 ran, %d wait", sum, q.len())
		}
	})
}

func TestSlots(t *testing.T) {
	s := slots{size: 5}
	if s.take(3) != nil || s.take(2) != nil {
		t.Fatal("five do not fit into five")
	}
	if err := s.take(1); err == nil || s.used.Load() != 5 {
		t.Errorf("a sixth: %v, %d used", err, s.used.Load())
	}
	s.give(2)
	if s.take(3) == nil || s.take(2) != nil {
		t.Error("all or none, of what is free")
	}
	if s.share() != 2 || (&slots{size: 1}).share() != 1 {
		t.Error("one request's share is half, and at least one")
	}
}
