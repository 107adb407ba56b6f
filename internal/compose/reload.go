package compose

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
)

// reloadEvery is how often the composition file is looked at, at most.
const reloadEvery = time.Second

// Reloading answers by a composition file that may change. It looks at the
// file at most once a second, and only when a request comes, so that nothing
// runs while there is nothing to do. A version that is valid answers the
// requests that come after it was read; products on their way keep theirs, and
// what is known of services that are in both stays known. A broken one leaves
// the last valid one at work, and is told in the log, in metrics and by GET /.
type Reloading struct {
	current atomic.Pointer[running]
	file    *reloads
}

// running is a composer and its handler.
type running struct {
	*Composer
	http.Handler
}

// reloads is what is known of the file.
type reloads struct {
	begin  time.Time
	next   atomic.Int64           // when to look again, in ns since begin: of no clock that can be set
	broken atomic.Pointer[string] // what is wrong with the file; nil: nothing

	mu   sync.Mutex
	file *composition.File // guarded by mu
}

// Open returns what answers by the composition file at path, of which
// o.Composition is not asked. Whoever opened it calls Close.
func Open(path string, o Options) (*Reloading, error) {
	file, spec, err := composition.Open(path)
	if err != nil {
		return nil, err
	}
	o.Composition = spec
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	r := &Reloading{file: &reloads{begin: time.Now(), file: file}}
	r.file.next.Store(int64(reloadEvery))
	c.file = r.file
	r.current.Store(&running{c, c.Handler()})
	return r, nil
}

// Composition is what runs now.
func (r *Reloading) Composition() category.Composition {
	c := r.current.Load()
	return category.Composition{Name: c.spec.Name, Digest: c.spec.Digest}
}

// ServeHTTP is that of the [Composer.Handler] whose composition is in the file.
func (r *Reloading) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if now := time.Since(r.file.begin); now >= time.Duration(r.file.next.Load()) {
		r.look(now)
	}
	r.current.Load().ServeHTTP(w, req)
}

// Close is [Composer.Close].
func (r *Reloading) Close() { r.current.Load().Close() }

// look takes over what is in the file, if that has changed.
func (r *Reloading) look(now time.Duration) {
	f := r.file
	if !f.mu.TryLock() {
		return // somebody else is at it
	}
	defer f.mu.Unlock()
	f.next.Store(int64(now + reloadEvery))
	spec, changed, err := f.file.Changed()
	if !changed {
		return
	}
	old := r.current.Load()
	if err == nil && spec.Digest == old.spec.Digest {
		if f.broken.Swap(nil) != nil {
			old.log.Info("the composition file is again what runs", "composition", spec.Name, "digest", spec.Digest)
		}
		return
	}
	var c *Composer
	if err == nil {
		c, err = old.process.composer(spec, old.legs)
	}
	if err != nil {
		why := err.Error()
		f.broken.Store(&why)
		old.metrics.reloads.Inc("refused")
		old.log.Error("the composition file is broken; what ran before goes on", "error", why, "composition", old.spec.Name, "digest", old.spec.Digest)
		return
	}
	r.current.Store(&running{c, c.Handler()})
	f.broken.Store(nil)
	c.metrics.follow(c.legs, old.legs)
	c.metrics.reloads.Inc("taken")
	c.log.Info("composition taken over", "composition", spec.Name, "legs", len(spec.Legs), "digest", spec.Digest, "before", old.spec.Digest)
}

// inherit takes over what is known of services that are asked at the same
// address as those of another version of the leg.
func (l *leg) inherit(from *leg) {
	old, same := from.services(), 0
	for i, s := range l.services() {
		if i >= len(old) || s.url != old[i].url {
			continue
		}
		same++
		s.breaker = old[i].breaker
		s.lastError.Store(old[i].lastError.Load())
		s.reads.learned.Store(old[i].reads.learned.Load())
	}
	if same == 2 {
		l.readiness = from.readiness
	}
}
