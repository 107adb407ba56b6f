package controller

import (
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/activator/schedule/lead"
	"aisle.dev/aisle/internal/scaling"
)

// leads are the starts of the pods of services that have schedules, by Revision.
// They are kept in the status of the schedules that go by them (readyBy), so that
// they end with these, and so that no other object is to be read and guarded.
type leads struct {
	now func() time.Time
	log *slog.Logger

	mu    sync.Mutex // guards books and what is in them
	books map[types.NamespacedName]*lead.Book
}

func newLeads(now func() time.Time, log *slog.Logger) *leads {
	return &leads{now: now, log: log, books: map[types.NamespacedName]*lead.Book{}}
}

// recall reads what a service's schedules have kept, where nothing is known of
// the service yet.
func (l *leads) recall(service types.NamespacedName, schedules []*scaling.ScalingSchedule) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.books[service] != nil {
		return
	}
	b := &lead.Book{}
	l.books[service] = b
	for _, s := range schedules {
		if s.Status.Starts == "" {
			continue
		}
		err := json.Unmarshal([]byte(s.Status.Starts), b)
		if err == nil {
			return
		}
		l.log.Warn("lead times that were kept cannot be read: they are learned anew", "namespace", s.Namespace, "schedule", s.Name, "error", err)
	}
}

// observe takes down a start, and says whether the service is one with schedules.
func (l *leads) observe(service types.NamespacedName, revision string, took time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[service]
	if b == nil {
		return false
	}
	b.Observe(service.Name, revision, took, l.now())
	return true
}

// of gives what is known of a service.
func (l *leads) of(service types.NamespacedName) leadOf {
	return func(revision string) (time.Duration, int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		b := l.books[service]
		if b == nil {
			return 0, 0
		}
		took, sample := b.P95(service.Name, revision, l.now())
		// Up to a tenth of a second, for who reads it.
		const step = time.Second / 10
		return (took + step - 1).Truncate(step), sample
	}
}

// keep writes what is known of a service into the status of one of its
// schedules, if that goes by it.
func (l *leads) keep(service types.NamespacedName, s *scaling.ScalingSchedule) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[service]
	if b == nil || !s.Spec.ReadyBy {
		return
	}
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // of times and strings
	}
	if string(text) != "null" {
		s.Status.Starts = string(text)
	}
}

// forget drops a service that has no schedules any more.
func (l *leads) forget(service types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.books, service)
}
