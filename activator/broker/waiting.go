package broker

import "sync"

// waiting sums up what the dispatchers say waits for a host.
type waiting struct {
	report Subscribers // nil: nobody asks

	mu sync.Mutex // guards by; held while reporting, so that reports come in order
	by map[string]map[*dispatcher]int
}

func (w *waiting) set(d *dispatcher, host string, n int) {
	if w.report == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[string]map[*dispatcher]int{}
	}
	if w.by[host] == nil {
		w.by[host] = map[*dispatcher]int{}
	}
	if old, ok := w.by[host][d]; ok && old == n {
		return
	}
	w.by[host][d] = n
	w.say(host)
}

func (w *waiting) forget(d *dispatcher) {
	if w.report == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for host, by := range w.by {
		if _, ok := by[d]; ok {
			delete(by, d)
			w.say(host)
		}
	}
}

// say reports a host's sum. REQUIRES: w.mu is held.
func (w *waiting) say(host string) {
	sum := 0
	for _, n := range w.by[host] {
		sum += n
	}
	if len(w.by[host]) == 0 {
		delete(w.by, host)
	}
	w.report.Waiting(host, sum)
}
