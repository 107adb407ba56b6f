package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// report is what a run came to.
type report struct {
	Sent          int      `json:"sent"`
	Accepted      int      `json:"accepted"`
	Stored        uint64   `json:"stored"` // products and answers, copies included
	Answered      int      `json:"answered"`
	DeadLettered  int      `json:"deadLettered"` // events
	DeadLetters   int      `json:"deadLetters"`  // copies included
	Redelivered   int      `json:"redelivered"`  // answers that came again
	SecondAnswers int      `json:"secondAnswers"`
	Lost          int      `json:"lost"`
	LostIDs       []string `json:"lostIds,omitempty"`
	Unknown       int      `json:"unknown"` // answers to nothing that was sent
	Differing     []string `json:"differing,omitempty"`
	Drained       bool     `json:"drained"`
	Starts        int      `json:"engineStarts"`
	Killed        kills    `json:"killed"`
	Memory        memory   `json:"memory"`
}

// kills counts them.
type kills struct {
	Engine, Composer, Classifier int
	Point                        int // of the engine, between writing a result and acknowledging its event
}

func (r report) String() string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("sent", "%d", r.Sent)
	line("accepted", "%d", r.Accepted)
	line("stored", "%d (with answers and what was sent twice)", r.Stored)
	line("answered", "%d; %d of them have a second answer, by other legs or models", r.Answered, r.SecondAnswers)
	line("dead-lettered", "%d (%d letters)", r.DeadLettered, r.DeadLetters)
	line("redelivered", "%d answers came again", r.Redelivered)
	line("lost", "%d %s", r.Lost, strings.Join(r.LostIDs, " "))
	line("killed", "engine %d, and %d between a write and its acknowledgement; composer %d, classifiers %d; the engine was started %d times", r.Killed.Engine, r.Killed.Point, r.Killed.Composer, r.Killed.Classifier, r.Starts)
	line("memory", "of the engine: median %d MB in the second quarter, %d MB in the last; at most %d MB", r.Memory.Early, r.Memory.Late, r.Memory.Most)
	for _, d := range r.Differing {
		line("DIFFERS", "%s", d)
	}
	return b.String()
}

// verdict is nil if all holds that must.
func (r report) verdict() error {
	var errs []error
	must := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	must(r.Accepted == r.Sent, "%d of %d events were accepted", r.Accepted, r.Sent)
	must(r.Lost == 0, "%d accepted events have neither an answer nor a dead letter", r.Lost)
	must(r.Unknown == 0, "%d answers or dead letters are of no event that was sent", r.Unknown)
	must(len(r.Differing) == 0, "answers differ that must not")
	must(r.Stored >= uint64(r.Accepted), "%d events are accepted and only %d stored", r.Accepted, r.Stored)
	must(r.Memory.Late <= r.Memory.Early*3/2+grain, "the engine's memory grew from %d to %d MB", r.Memory.Early, r.Memory.Late)
	return errors.Join(errs...)
}

// grain is how many MB of memory are no growth.
const grain = 50

// memory is the engine's resident memory in MB.
type memory struct{ Early, Late, Most int }

// samples of memory, in time.
type samples struct {
	mu sync.Mutex // guards mb
	mb []int
}

func (s *samples) add(mb int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mb = append(s.mb, mb)
}

func (s *samples) summary() memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mb) < 4 {
		return memory{}
	}
	q := len(s.mb) / 4
	return memory{Early: median(s.mb[q : 2*q]), Late: median(s.mb[3*q:]), Most: slices.Max(s.mb)}
}

func median(v []int) int {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
