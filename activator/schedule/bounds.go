package schedule

import (
	"cmp"
	"slices"
	"time"
)

// Base is a service's own bounds, Knative's min-scale and max-scale: a window
// that always holds. 0: none.
type Base struct{ Min, Max int }

// Bounds is what holds for a service at a time.
type Bounds struct {
	// Floor and Cap are the least and the greatest number of pods. Cap 0: none.
	Floor int `json:"floor"`
	Cap   int `json:"cap,omitempty"`
	// Closed is that the service takes no requests; Opens is when it does again,
	// zero where that is never, or not as far as was looked.
	Closed bool      `json:"closed,omitempty"`
	Opens  time.Time `json:"opens,omitzero"`
	// Cut is the floor before it was cut to the cap; 0: it was not.
	Cut int `json:"cut,omitempty"`
	// Why is the windows that hold, by schedule and place in it; the service's
	// own bounds, where it has any, come first and have no names.
	Why []Why `json:"why,omitempty"`
}

// Why is one window that holds, and what it asks for.
type Why struct {
	Schedule string `json:"schedule,omitempty"`
	Window   string `json:"window,omitempty"`
	Floor    int    `json:"floor,omitempty"` // 0: none
	Cap      int    `json:"cap,omitempty"`   // 0: none
	Closed   bool   `json:"closed,omitempty"`
	// Early is that the window does not hold yet, or is not open yet, and that its
	// floor does, so that its pods are ready by then.
	Early bool `json:"early,omitempty"`
	// Until is when the window ends, or its schedule; zero: never.
	Until time.Time `json:"until,omitzero"`

	index int
}

// Span is a stretch of time with the same bounds: from From up to before To.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Bounds
}

// MaxSpans is how many spans a plan has.
const MaxSpans = 50_000

// budget is how many spans of windows are still looked at, beyond those that
// hold or come next. It bounds what hostile schedules cost, such as windows that
// change every minute and a lead time of a day; others never come near it.
type budget int

const maxLooks budget = 5_000

// spend says whether there is anything left.
func (b *budget) spend(n int) bool {
	*b -= budget(n)
	return *b > 0
}

// At returns the bounds at t by the service's own and all its schedules, and
// the first instant after t at which they differ from these (by anything but
// Opens and Until); zero if they never do. Where very many changes of windows
// change no bounds, next is one of those: ask again then.
//
// Lead is how long a pod takes from its start until it is ready.
func At(base Base, lead time.Duration, all []*Schedule, t time.Time) (b Bounds, next time.Time) {
	s := newSweep(all, t.Round(0).UTC())
	looks := maxLooks
	b, next = s.now(base, lead, &looks)
	if b.Closed {
		b.Opens = s.opens()
	}
	for !next.IsZero() && looks.spend(s.advance(next)+s.cost()) {
		then, after := s.now(base, lead, &looks)
		if !b.same(then) {
			break
		}
		next = after
	}
	return b, next
}

// Spans returns the bounds from one time up to before another, as stretches
// with the same bounds, at most MaxSpans: the last may end before to.
func Spans(base Base, lead time.Duration, all []*Schedule, from, to time.Time) []Span {
	var spans []Span
	for t := from; t.Before(to) && len(spans) < MaxSpans; {
		b, next := At(base, lead, all, t)
		if next.IsZero() || next.After(to) {
			next = to
		}
		if n := len(spans); n > 0 && spans[n-1].same(b) {
			spans[n-1].To = next
		} else {
			spans = append(spans, Span{From: t, To: next, Bounds: b})
		}
		t = next
	}
	return spans
}

// Early is how many of the floor's pods are there for a later time alone.
func (b Bounds) Early() int {
	held := 0
	for _, w := range b.Why {
		if !w.Early && !b.Closed {
			held = max(held, w.Floor)
		}
	}
	return max(0, b.Floor-held)
}

// same says whether bounds are the same but for when they end.
func (b Bounds) same(o Bounds) bool {
	return b.Floor == o.Floor && b.Cap == o.Cap && b.Closed == o.Closed && b.Cut == o.Cut &&
		slices.EqualFunc(b.Why, o.Why, func(v, w Why) bool {
			v.Until, w.Until = time.Time{}, time.Time{}
			return v == w
		})
}

// now is what holds at s.at without Opens, and when that may change.
func (s *sweep) now(base Base, lead time.Duration, looks *budget) (Bounds, time.Time) {
	b := s.bounds(base)
	next := s.next()
	if early := s.clone().early(base, min(max(lead, 0), MaxLead), &next, looks); len(early) > 0 {
		b.raise(early)
	}
	slices.SortFunc(b.Why, func(v, w Why) int {
		return cmp.Or(cmp.Compare(v.Schedule, w.Schedule), cmp.Compare(v.index, w.index), cmp.Compare(v.Window, w.Window))
	})
	if b.Cap > 0 && b.Floor > b.Cap {
		b.Cut, b.Floor = b.Floor, b.Cap
	}
	return b, next
}

// raise lets floors hold before their windows do.
func (b *Bounds) raise(early []Why) {
	for _, e := range early {
		b.Floor = max(b.Floor, e.Floor)
		i := slices.IndexFunc(b.Why, func(w Why) bool { return w.Schedule == e.Schedule && w.index == e.index })
		if i < 0 {
			b.Why = append(b.Why, e)
		} else if b.Closed {
			b.Why[i].Early = true // it holds, and is not open yet
		}
	}
}

// sweep goes over the changes of all windows in the order of time.
type sweep struct {
	at  time.Time
	all []turn
}

// turn is a window with its span that is not over.
type turn struct {
	of *Schedule
	w  *window
	span
}

func newSweep(all []*Schedule, t time.Time) *sweep {
	s := &sweep{at: t}
	for _, of := range all {
		for i := range of.windows {
			if n, ok := of.turn(&of.windows[i], t); ok {
				s.all = append(s.all, n)
			}
		}
	}
	return s
}

func (s *sweep) clone() *sweep { return &sweep{at: s.at, all: slices.Clone(s.all)} }

// cost is what it costs to go over the windows once, in spans looked at.
func (s *sweep) cost() int { return 1 + len(s.all)/16 }

// turn is a window's span that is not over at t, as far as the schedule goes.
func (s *Schedule) turn(w *window, t time.Time) (turn, bool) {
	if s.Expired(t) {
		return turn{}, false
	}
	n, ok := w.spanAt(t)
	if !ok || s.Expired(n.begin) {
		return turn{}, false
	}
	if n.end.IsZero() || s.Expired(n.end) {
		n.end = s.until
	}
	return turn{of: s, w: w, span: n}, true
}

// next is when the first window after s.at begins or ends; zero: never.
func (s *sweep) next() time.Time {
	var first time.Time
	for _, n := range s.all {
		change := n.end
		if n.begin.After(s.at) {
			change = n.begin
		}
		if !change.IsZero() && (first.IsZero() || change.Before(first)) {
			first = change
		}
	}
	return first
}

// advance goes on to t, which is past next where what happens up to t does not
// matter, and returns how many spans it looked at for that.
func (s *sweep) advance(t time.Time) (looked int) {
	s.at = t
	going := s.all[:0]
	for _, n := range s.all {
		ok := true
		if n.over(t) {
			n, ok = n.of.turn(n.w, t)
			looked++
		}
		if ok {
			going = append(going, n)
		}
	}
	s.all = going
	return looked
}

// holding are the windows that hold at s.at.
func (s *sweep) holding(yield func(turn) bool) {
	for _, n := range s.all {
		if !n.begin.After(s.at) && !yield(n) {
			return
		}
	}
}

// bounds is what holds at s.at, before any cut and with nothing early.
func (s *sweep) bounds(base Base) Bounds {
	b := Bounds{Floor: base.Min, Cap: base.Max}
	if base != (Base{}) {
		b.Why = append(b.Why, Why{Floor: base.Min, Cap: base.Max, index: -1})
	}
	for n := range s.holding {
		b.Floor = max(b.Floor, n.w.floor)
		if n.w.cap > 0 && (b.Cap == 0 || n.w.cap < b.Cap) {
			b.Cap = n.w.cap
		}
		b.Closed = b.Closed || n.w.closed
		b.Why = append(b.Why, n.why())
	}
	if b.Closed {
		b.Floor = 0
	}
	return b
}

func (n turn) why() Why {
	return Why{Schedule: n.of.name, Window: n.w.name, Floor: n.w.floor, Cap: n.w.cap, Closed: n.w.closed,
		Until: n.end, index: n.w.index}
}

// maxClosings is how many windows may close a service one after the other, until
// that counts as for ever: more than one for each day of a year.
const maxClosings = 400

// opens is when no window closes the service any more, which one does at s.at.
func (s *sweep) opens() time.Time {
	c := &sweep{at: s.at}
	for _, n := range s.all {
		if n.w.closed {
			c.all = append(c.all, n)
		}
	}
	for range maxClosings {
		var end time.Time
		for n := range c.holding {
			if n.end.IsZero() {
				return time.Time{}
			}
			if n.end.After(end) {
				end = n.end
			}
		}
		if end.IsZero() {
			return c.at
		}
		c.advance(end)
	}
	return time.Time{}
}

// early are the floors that hold at s.at for a later time, up to the lead time
// on. It brings next forward to when that changes. It moves the sweep.
func (s *sweep) early(base Base, lead time.Duration, next *time.Time, looks *budget) []Why {
	if lead == 0 || !slices.ContainsFunc(s.all, func(n turn) bool { return n.of.spec.ReadyBy && n.w.floor > 0 }) {
		return nil
	}
	var early []Why
	for horizon := s.at.Add(lead); ; {
		change := s.next()
		if change.After(horizon) {
			if at := change.Add(-lead); next.IsZero() || at.Before(*next) {
				*next = at
			}
		}
		if change.IsZero() || change.After(horizon) || !looks.spend(s.advance(change)+s.cost()) {
			return early
		}
		then := s.bounds(base)
		if then.Closed {
			continue
		}
		for n := range s.holding {
			if n.of.spec.ReadyBy && n.w.floor > 0 {
				e := n.why()
				e.Early = true
				if then.Cap > 0 {
					e.Floor = min(e.Floor, then.Cap)
				}
				early = add(early, e)
			}
		}
	}
}

// add keeps the highest floor of a window.
func add(early []Why, e Why) []Why {
	i := slices.IndexFunc(early, func(w Why) bool { return w.Schedule == e.Schedule && w.index == e.index })
	if i < 0 {
		return append(early, e)
	}
	if e.Floor > early[i].Floor {
		early[i] = e
	}
	return early
}
