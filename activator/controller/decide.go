package controller

import (
	"cmp"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/scaling"
)

// A view is what is known of a service at a time.
type view struct {
	service   *servingv1.Service         // nil: there is none
	schedules []*scaling.ScalingSchedule // by name; those being deleted too
	revisions map[string]*metav1.PartialObjectMetadata
	podless   map[string]bool // those of them that began at zero and have no pod now
}

// A plan is what is to be done for a service, and what to say of it.
type plan struct {
	bounds schedule.Bounds
	next   time.Time // of the bounds; zero: never
	lead   scaling.Lead
	target *metav1.PartialObjectMetadata // the Revision that has the bounds; nil: none
	rule   string                        // by which it is that one
	lacks  reason                        // why there is none
	unmet  bool                          // a floor may bring it no pod: it began at zero

	changes []change
	// hold is what schedules must have written down before the first change, and
	// keep what they still hold after the last.
	hold, keep []scaling.Found

	schedules []*schedule.Schedule
	invalid   map[string]error // by schedule
}

// A reason is a condition's, with its message.
type reason struct{ reason, message string }

// A change is one patch of a Revision.
type change struct {
	revision *metav1.PartialObjectMetadata
	set      annotations
	// taken is what was found on the Revision, where this is its first change: it
	// is patched only if that is still so. nil: it was changed before.
	taken *scaling.Found
	why   string
}

// leadOf gives what was learned of a Revision's starts: the lead time, and from
// how many.
type leadOf func(revision string) (time.Duration, int)

// decide says what is to be done. It computes everything from what is declared
// and what was found: what an earlier plan did, or half did, makes no difference.
func decide(v view, learned leadOf, now time.Time) plan {
	p := plan{invalid: map[string]error{}}
	p.schedules = compiled(v.schedules, p.invalid, now)
	found := allFound(v)
	p.aim(v)
	var f scaling.Found
	taken := false
	if p.target != nil {
		if f, taken = found[p.target.Name]; !taken {
			f = foundOn(p.target)
		}
	}
	var lead time.Duration
	lead, p.lead = p.leadTime(learned, now)
	p.bounds, p.next = schedule.At(base(f), lead, p.schedules, now)
	p.stayEarly(v, base(f), lead, now)
	p.unmet = p.target != nil && p.bounds.Floor > 0 && v.podless[p.target.Name]
	// The live Revision first: pods must not go before there are others.
	if p.target != nil {
		delete(found, p.target.Name)
		p.bound(f, taken)
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		p.restore(v.revisions[name], found[name], "it is not the Revision that serves")
	}
	slices.SortFunc(p.hold, func(a, b scaling.Found) int { return cmp.Compare(a.Revision, b.Revision) })
	return p
}

// compiled are a service's schedules that can be used, by name; invalid gets the
// errors of the others. Where there are more windows than may bound a service,
// the oldest schedules have room.
func compiled(all []*scaling.ScalingSchedule, invalid map[string]error, now time.Time) []*schedule.Schedule {
	var usable []*schedule.Schedule
	oldest := slices.SortedStableFunc(slices.Values(all), func(a, b *scaling.ScalingSchedule) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	for _, s := range oldest {
		if !s.DeletionTimestamp.IsZero() {
			continue
		}
		c, err := schedule.Compile(s.Name, &s.Spec)
		if err == nil {
			err = c.Admit(nil, usable, now)
		}
		if err != nil {
			invalid[s.Name] = err
			continue
		}
		usable = append(usable, c)
	}
	slices.SortFunc(usable, func(a, b *schedule.Schedule) int { return cmp.Compare(a.Name(), b.Name()) })
	return usable
}

// allFound is what schedules have written down of Revisions that are there.
// Schedules of one service hold the same.
func allFound(v view) map[string]scaling.Found {
	found := map[string]scaling.Found{}
	for _, s := range v.schedules {
		for _, f := range s.Status.Found {
			if _, ok := found[f.Revision]; !ok && v.revisions[f.Revision] != nil {
				found[f.Revision] = f
			}
		}
	}
	return found
}

// aim finds the Revision that gets the bounds.
func (p *plan) aim(v view) {
	if v.service == nil {
		p.lacks = reason{"ServiceNotFound", "there is no Knative Service of this name in the namespace; its bounds are set when it comes"}
		return
	}
	p.target, p.rule = live(v.service.Status.Traffic, v.revisions)
	if p.target == nil {
		p.lacks = reason{"NoTraffic", "no Revision of the Service gets requests yet; its bounds are set when one does"}
	}
}

func (p *plan) leadTime(learned leadOf, now time.Time) (time.Duration, scaling.Lead) {
	if p.target == nil {
		return schedule.Lead(0, 0, p.schedules, now)
	}
	d, n := learned(p.target.Name)
	return schedule.Lead(d, n, p.schedules, now)
}

// stayEarly keeps a floor that holds early until its window begins. The starts
// that it brings about may teach a shorter lead time, by which it would not hold
// yet: its pods would go, and come again.
func (p *plan) stayEarly(v view, own schedule.Base, lead time.Duration, now time.Time) {
	for _, s := range v.schedules {
		was := s.Status.Lead
		if was == nil || was.Time.Duration <= lead {
			continue
		}
		b, next := schedule.At(own, was.Time.Duration, p.schedules, now)
		if slices.ContainsFunc(b.Why, func(w schedule.Why) bool { return w.Early }) {
			p.bounds, p.next, p.lead, lead = b, next, *was, was.Time.Duration
		}
	}
}

// bound makes the bounds hold on the target, of which f was found.
func (p *plan) bound(f scaling.Found, taken bool) {
	set := wanted(f, p.bounds)
	if set.equal(before(f)) {
		if taken {
			p.restore(p.target, f, "no window holds")
		}
		return
	}
	p.hold, p.keep = append(p.hold, f), append(p.keep, f)
	if taken && set.are(p.target.Annotations) {
		return
	}
	c := change{revision: p.target, set: set, why: p.bounds.Because()}
	if !taken {
		c.taken = &f
	}
	p.changes = append(p.changes, c)
}

// restore gives a Revision back what was found on it.
func (p *plan) restore(r *metav1.PartialObjectMetadata, f scaling.Found, why string) {
	p.hold = append(p.hold, f)
	if set := before(f); !set.are(r.Annotations) {
		p.changes = append(p.changes, change{revision: r, set: set, why: why})
	}
}
