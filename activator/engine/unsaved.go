package engine

import (
	"time"

	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/internal/manifest"
)

// How long is waited before what could not be written is tried again: twice as
// long each time.
const (
	firstSave = time.Second
	lastSave  = time.Minute
)

// unsaved is what is followed and could not be written, such as on a full
// disk. It is tried again until it could; while there is nothing of it there
// is no timer.
type unsaved struct {
	keys  map[objects.Key]bool
	wait  time.Duration // before the next try
	timer *time.Timer   // of that
}

// owe notes changes that could not be written. REQUIRES: c.mu is held.
func (c *control) owe(changes []objects.Change) {
	u := &c.unsaved
	if u.keys == nil {
		u.keys, u.wait = map[objects.Key]bool{}, firstSave
	}
	for _, change := range changes {
		u.keys[change.Key] = true
	}
	if u.timer == nil && !c.stopped {
		u.timer = time.AfterFunc(u.wait, c.save)
		u.wait = min(2*u.wait, lastSave)
	}
}

// save writes what could not be written, as it is by now.
func (c *control) save() {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &c.unsaved
	u.timer = nil
	if c.stopped || len(u.keys) == 0 {
		return
	}
	var changes []objects.Change
	for key := range u.keys {
		o := c.store.Get(key)
		if o == nil {
			changes = append(changes, objects.Change{Key: key})
			continue
		}
		changes = append(changes, c.store.Put(o.DeepCopyObject().(manifest.Object)))
	}
	if err := c.store.Write(changes...); err != nil {
		c.engine.log.Error(lostOnStop, "err", err)
		c.owe(nil)
		return
	}
	for _, change := range changes {
		if rev, ok := change.Object.(*servingv1.Revision); ok {
			c.of(serviceOf(rev)).keep(rev)
		}
	}
	c.engine.log.Info("what could not be kept is on the disk now", "objects", len(changes))
	c.unsaved = unsaved{}
}

// lostOnStop is the log's line of what is owed.
const lostOnStop = "what has changed is lost if the engine stops now"
