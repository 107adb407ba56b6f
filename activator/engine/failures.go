package engine

import (
	"fmt"
	"time"

	"aisle.dev/aisle/activator/engine/pod"
)

// How long is waited before a pod is started again that failed n times in a
// row: not at all after the first time, then twice as long each time.
const (
	firstBackOff = time.Second
	maxBackOff   = time.Minute
	stable       = 10 * time.Second // a pod that was ready for this long has not failed to start
)

func backOff(failures int) time.Duration {
	if failures < 2 {
		return 0
	}
	return min(maxBackOff, firstBackOff<<min(failures-2, 10))
}

// failed takes in that a pod ended unasked, or never got ready.
// REQUIRES: r.mu is held.
func (r *revision) failed(p *podState, reason string, now time.Time) *failure {
	r.metrics.crashes.Inc()
	if !p.ready.IsZero() && now.Sub(p.ready) >= stable {
		r.failures = 0
	}
	r.failures++
	wait := backOff(r.failures)
	if p.late {
		wait = max(wait, firstBackOff) // those who wait have waited long enough
	}
	tail := pod.Tail(r.machine.LogDir(r.spec.Namespace), p.name, 5)
	r.log.Error("pod failed", "pod", p.name, "reason", reason, "failures", r.failures, "again", wait, "log", tail)
	r.trouble = fmt.Sprintf("pod %s %s", p.name, reason)
	if tail != "" {
		r.trouble += "; it wrote last: " + tail
	}
	if wait > 0 {
		r.quarantine = now.Add(wait)
		r.lane.Refuse(&unavailable{
			reason: fmt.Sprintf("%s: pod %s %s; see: aisle logs %s", r.service, p.name, reason, p.name),
			until:  r.quarantine,
		})
	}
	if r.proven {
		return nil
	}
	why := &failure{late: p.late, started: p.process != nil, code: -1, reason: reason, said: tail}
	if p.process != nil {
		e := p.process.Ending()
		if why.oom = e.OOMKilled > 0; e.Signal == 0 {
			why.code = e.Code
		}
	}
	return why
}
