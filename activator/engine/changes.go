package engine

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/problem"
)

// Causes of changed bounds that nobody asked for by name.
var (
	byClock   = audit.Entry{Way: audit.Clock}
	byRollout = audit.Entry{Way: audit.Rollout, Did: "the service's own bounds are others"}
	atStart   = audit.Entry{Way: audit.Start, Did: "changed since an engine ran last"}
)

// note keeps for the audit log that a service's bounds are to change, and why; or
// that somebody has written one of its schedules, also where that changes
// nothing for now. Own are the bounds without any schedule.
// REQUIRES: c.mu is held.
func (c *control) note(name types.NamespacedName, at *scheduled, cause audit.Entry, own, now schedule.Bounds) {
	e, old := cause, at.held
	switch {
	case !at.told:
		old = own
	case at.kept && e.Schedule == "":
		e = atStart
	case e.Way == audit.Rollout && audited(own) == at.own:
		e = byClock // the roll-out has only asked first
	}
	at.told, at.kept, at.own = true, false, audited(own)
	e.Old, e.New = audited(old), audited(now)
	if e.Schedule == "" && e.Old == e.New {
		return
	}
	e.Time, e.Namespace, e.Service = c.schedules.clock.Now().UTC(), name.Namespace, name.Name
	if e.Way == audit.Clock {
		e.Did, e.Schedule, e.Until = turned(old.Why, now.Why)
	}
	c.noted = append(c.noted, e)
}

// record writes down what was noted: at midnight many windows begin, and they
// are one write. REQUIRES: c.mu is held.
func (c *control) record() {
	if err := c.engine.audit.Write(c.noted...); err != nil {
		c.engine.log.Error("changes of bounds are not on record", "changes", len(c.noted), "err", err)
	}
	c.noted = nil
}

func audited(b schedule.Bounds) audit.Bounds {
	return audit.Bounds{Floor: b.Floor, Cap: b.Cap, Closed: b.Closed}
}

// turned says what the clock has done: which windows hold now that did not, and
// the other way round; of one alone also whose it is, and until when it holds.
func turned(old, now []schedule.Why) (did, of string, until time.Time) {
	type window struct {
		schedule, name string
		early          bool
	}
	key := func(w schedule.Why) window { return window{w.Schedule, w.Window, w.Early} }
	has := func(all []schedule.Why, k window) bool {
		return slices.ContainsFunc(all, func(w schedule.Why) bool { return key(w) == k })
	}
	var all []string
	schedules := map[string]bool{}
	tell := func(w schedule.Why, what string) {
		all = append(all, strings.TrimSpace(w.Window+" "+what))
		schedules[w.Schedule] = true
		of = w.Schedule
	}
	for _, w := range now {
		switch k := key(w); {
		case has(old, k):
		case w.Early:
			tell(w, "is near: pods get ready")
			until = w.Until
		default:
			tell(w, "begins")
			until = w.Until
		}
	}
	for _, w := range old {
		k := key(w)
		became := window{k.schedule, k.name, false} // what was early has begun
		if !has(now, k) && !(w.Early && has(now, became)) {
			tell(w, "ends")
		}
	}
	if len(all) == 0 {
		return "pods get ready in another time than before", "", time.Time{}
	}
	if len(schedules) > 1 {
		of = ""
	}
	if len(all) > 1 {
		until = time.Time{}
	}
	return strings.Join(all, "; "), of, until
}

// maxChanges is how many entries of the audit log an answer has at most.
const maxChanges = 1000

// changes answers with the last entries of the audit log, the newest first.
func (e *Engine) changes(w http.ResponseWriter, req *http.Request) error {
	q := req.URL.Query()
	limit := 100
	if text := q.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxChanges {
			return problem.New(http.StatusBadRequest, "limit=%.40s is not a number from 1 to %d", text, maxChanges)
		}
	}
	namespace, service := q.Get("namespace"), q.Get("service")
	if ns, name, ok := strings.Cut(service, "/"); ok {
		namespace, service = ns, name
	}
	all, err := e.audit.Read(namespace, service, limit)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if all == nil {
		_, _ = w.Write([]byte("[]\n")) // the caller has gone; there is nobody left to tell
		return nil
	}
	_ = json.NewEncoder(w).Encode(all) // likewise
	return nil
}
