// Package slots gives out a machine's GPUs to pods: a slot is a device, and
// belongs to one pod at a time.
//
// Guarantees:
//   - First come, first served, whichever service a pod is of: who needs
//     several devices is not passed over by those who need one. A claim for
//     more than the machine has waits for ever, and in nobody's way.
//   - A claim gets all of its devices at once. Only [Claim.Inherit] lets one
//     collect them, where they are known to suffice: so no two claims wait for
//     what the other holds.
//   - What a claim inherits goes from hand to hand, past the line: a revision
//     that takes over from another one of its service does not lose the
//     service's devices to somebody else, in neither direction.
//   - Whoever waits is told for what.
//
// It starts and stops no pods, and reads no clock.
package slots

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Slots are a machine's devices.
type Slots struct {
	devices []string // all, in their order

	mu      sync.Mutex // guards what follows, and all claims
	free    []string
	line    []*Claim // who waits, in the order of arrival
	granted []*Claim
}

// New returns the slots of a machine with these devices, by the names that
// CUDA_VISIBLE_DEVICES takes.
func New(devices []string) *Slots {
	return &Slots{devices: slices.Clone(devices), free: slices.Clone(devices)}
}

// Total is how many devices the machine has.
func (s *Slots) Total() int { return len(s.devices) }

// Claim is a pod's wish for devices, and then its right to them. It must be
// released.
type Claim struct {
	slots *Slots
	pod   string
	need  int
	ready chan struct{}

	// Under the slots' mu.
	has  []string // all it needs once it is granted; before, what it has inherited
	heir *Claim   // gets them
	over bool     // released
}

// Ask puts a pod's claim for need devices at the end of the line. It is granted
// at once if they are free and nobody is before it. pod is its name for those
// who wait for it.
func (s *Slots) Ask(pod string, need int) *Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Claim{slots: s, pod: pod, need: need, ready: make(chan struct{})}
	s.line = append(s.line, c)
	s.serve()
	return c
}

// Granted is closed once the claim has its devices.
func (c *Claim) Granted() <-chan struct{} { return c.ready }

// Devices are the names of what the claim has been granted; none before.
func (c *Claim) Devices() []string {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	if !c.isGranted() {
		return nil
	}
	return slices.Clone(c.has)
}

// isGranted reports whether c has its devices. REQUIRES: mu is held.
func (c *Claim) isGranted() bool {
	select {
	case <-c.ready:
		return true
	default:
		return false
	}
}

// Inherit lets the claim have what the others hold, or will have inherited,
// as soon as they release it. It reports false, and changes nothing, if that
// is not enough for it, with what is free if it is the first in line.
func (c *Claim) Inherit(from ...*Claim) bool {
	s := c.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.over {
		return false
	}
	sum := len(c.has)
	if s.first() == c {
		sum += len(s.free)
	}
	for i, f := range from {
		if f != c && !f.over && (f.heir == nil || f.heir == c) && !slices.Contains(from[:i], f) {
			sum += len(f.has)
		}
	}
	if c.isGranted() || sum < c.need {
		return c.isGranted()
	}
	for _, f := range from {
		if f != c && !f.over && f.heir == nil {
			f.heir = c
		}
	}
	return true
}

// Release gives up the claim: what it holds goes to its heir, or to who is
// next in line. Further calls do nothing.
func (c *Claim) Release() {
	s := c.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.over {
		return
	}
	c.over = true
	is := func(o *Claim) bool { return o == c }
	s.line, s.granted = slices.DeleteFunc(s.line, is), slices.DeleteFunc(s.granted, is)
	for _, others := range [][]*Claim{s.line, s.granted} {
		for _, o := range others {
			if o.heir == c { // the dead inherit nothing
				o.heir = c.heir
			}
		}
	}
	if h := c.heir; h != nil && !h.over && !h.isGranted() {
		h.has = append(h.has, c.has...)
	} else {
		s.free = append(s.free, c.has...)
	}
	c.has, c.heir = nil, nil
	s.serve()
}

// serve grants what can be granted. REQUIRES: s.mu is held.
func (s *Slots) serve() {
	for _, c := range slices.Clone(s.line) {
		if len(c.has) >= c.need { // inherited
			s.grant(c)
		}
	}
	for c := s.first(); c != nil && len(c.has)+len(s.free) >= c.need; c = s.first() {
		s.grant(c)
	}
}

// first is the claim that free devices go to. REQUIRES: s.mu is held.
func (s *Slots) first() *Claim {
	for _, c := range s.line {
		if c.need <= len(s.devices) {
			return c
		}
	}
	return nil
}

// grant gives c what it needs, of what it has inherited and of what is free,
// and gives the rest back. REQUIRES: s.mu is held, and there is enough.
func (s *Slots) grant(c *Claim) {
	if missing := c.need - len(c.has); missing > 0 {
		s.sort(s.free)
		c.has = append(c.has, s.free[:missing]...)
		s.free = s.free[missing:]
	}
	s.free = append(s.free, c.has[c.need:]...)
	c.has = c.has[:c.need:c.need]
	s.sort(c.has)
	s.line = slices.DeleteFunc(s.line, func(o *Claim) bool { return o == c })
	s.granted = append(s.granted, c)
	close(c.ready)
}

// sort puts devices in the machine's order.
func (s *Slots) sort(devices []string) {
	slices.SortFunc(devices, func(a, b string) int {
		return slices.Index(s.devices, a) - slices.Index(s.devices, b)
	})
}

// Pending says what the claim waits for; it is empty once it is granted or
// released.
func (c *Claim) Pending() string {
	s := c.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.over || c.isGranted() {
		return ""
	}
	if c.need > len(s.devices) {
		return fmt.Sprintf("needs %s, and this machine has %d", gpus(c.need), len(s.devices))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "needs %s, and %d of %d are free", gpus(c.need), len(s.free), len(s.devices))
	holders := slices.DeleteFunc(slices.Clone(s.granted), func(o *Claim) bool { return o.need == 0 })
	for _, o := range holders[:min(len(holders), maxNamed)] {
		fmt.Fprintf(&b, "; %s has %d", o.pod, o.need)
	}
	if n := len(holders) - maxNamed; n > 0 {
		fmt.Fprintf(&b, "; %d others have the rest", n)
	}
	if n := slices.Index(s.line, c); n > 0 {
		fmt.Fprintf(&b, "; %d before it in line", n)
	}
	return b.String()
}

// maxNamed bounds how many holders a sentence names.
const maxNamed = 4

func gpus(n int) string {
	if n == 1 {
		return "1 GPU"
	}
	return fmt.Sprintf("%d GPUs", n)
}
