package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/activator/engine/durable"
	"aisle.dev/aisle/activator/schedule/lead"
)

// leads are how long services' pods take to get ready, learned from every start
// and kept in LEADS/NAMESPACE/SERVICE.json: read when they are first asked for,
// and written behind, since the loss of one start changes little.
type leads struct {
	dir string
	now func() time.Time
	log *slog.Logger

	changed chan struct{} // capacity 1: there is something to write, or writing is to end
	ended   chan struct{} // closed when nothing is written any more

	mu    sync.Mutex // guards what follows; a leaf but for the reading of a file
	books map[types.NamespacedName]*lead.Book
	dirty map[types.NamespacedName]bool
	over  bool
}

func newLeads(dir string, now func() time.Time, log *slog.Logger) *leads {
	return &leads{
		dir: dir, now: now, log: log, changed: make(chan struct{}, 1), ended: make(chan struct{}),
		books: map[types.NamespacedName]*lead.Book{}, dirty: map[types.NamespacedName]bool{},
	}
}

func (l *leads) path(service types.NamespacedName) string {
	return filepath.Join(l.dir, service.Namespace, service.Name+".json")
}

// book is a service's. REQUIRES: l.mu is held.
func (l *leads) book(service types.NamespacedName) *lead.Book {
	b := l.books[service]
	if b != nil {
		return b
	}
	b = &lead.Book{}
	l.books[service] = b
	text, err := os.ReadFile(l.path(service))
	if err == nil {
		err = json.Unmarshal(text, b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.log.Warn("lead times that were kept cannot be read: they are learned anew", "file", l.path(service), "err", err)
	}
	return b
}

// observe takes down a start.
func (l *leads) observe(service types.NamespacedName, revision string, took time.Duration) {
	l.mu.Lock()
	l.book(service).Observe(service.Name, revision, took, l.now())
	l.dirty[service] = true
	l.mu.Unlock()
	l.nudge()
}

// of gives a revision's lead time, and of how many starts it was learned.
func (l *leads) of(service types.NamespacedName, revision string) (time.Duration, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book(service).P95(service.Name, revision, l.now())
}

// forget drops what is known of a service that is no more.
func (l *leads) forget(service types.NamespacedName) {
	l.mu.Lock()
	delete(l.books, service)
	l.dirty[service] = true
	l.mu.Unlock()
	l.nudge()
}

func (l *leads) nudge() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// stop writes what is left to be written, and ends run.
func (l *leads) stop() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.nudge()
	<-l.ended
}

// run writes what changes until stop.
func (l *leads) run() {
	defer close(l.ended)
	for range l.changed {
		l.mu.Lock()
		texts, over := map[types.NamespacedName][]byte{}, l.over
		for service := range l.dirty {
			texts[service] = nil // it is no more
			if b := l.books[service]; b != nil {
				texts[service], _ = json.Marshal(b) // of names, times and numbers
			}
		}
		clear(l.dirty)
		l.mu.Unlock()
		for service, text := range texts {
			if err := l.keep(l.path(service), text); err != nil {
				l.log.Warn("lead times are lost if the engine stops now", "service", service.String(), "err", err)
			}
		}
		if over {
			return
		}
	}
}

func (l *leads) keep(path string, text []byte) error {
	if text == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep lead times: %w", err)
	}
	return durable.Replace(path, text)
}
