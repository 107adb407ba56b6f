package scale

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// at is n seconds after an arbitrary beginning.
func at(n int) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second)
}

// One case for each branch of Knative's kpa/scaler.go (scale,
// handleScaleToZero, lastPodRetention, applyBounds) and of its
// computeActiveCondition, and for what is ours.
func TestSettle(t *testing.T) {
	base := policy{
		initial: 1, reachable: true, toZero: true,
		window: 10 * time.Second, grace: 30 * time.Second, giveUpAfter: 60 * time.Second,
	}
	with := func(change func(*policy)) policy {
		p := base
		change(&p)
		return p
	}
	been := func(a activity, since int) state { return state{activity: a, since: at(since), initialised: true} }
	fresh := state{activity: activating, since: at(0)}
	forever := time.Hour
	for _, c := range []struct {
		name   string
		policy policy
		state  state
		input  input // now is at(100) unless given
		want   int
		after  activity
		why    string
		wait   time.Duration
	}{
		// applyBounds
		{"within bounds the load decides", with(func(p *policy) { p.floor, p.limit = 1, 5 }), been(active, 0),
			input{desired: 3, ready: 3, running: 3, applied: 3}, 3, active, "", 0},
		{"the floor holds", with(func(p *policy) { p.floor = 2 }), been(active, 0),
			input{desired: 1, ready: 2, running: 2, applied: 2}, 2, active, "min-scale 2", 0},
		{"the floor holds against zero", with(func(p *policy) { p.floor = 2 }), been(active, 0),
			input{desired: 0, ready: 2, running: 2, applied: 2}, 2, active, "min-scale 2", 0},
		{"the limit holds", with(func(p *policy) { p.limit = 4 }), been(active, 0),
			input{desired: 9, ready: 4, running: 4, applied: 4}, 4, active, "max-scale 4; the load asks for 9", 0},
		{"no limit", base, been(active, 0), input{desired: 900, ready: 4, running: 4, applied: 4}, 900, active, "", 0},

		// bounds from outside
		{"a floor from outside", with(func(p *policy) { p.floor = 1 }).within(&Bounds{Floor: 3, By: "hours"}), been(active, 0),
			input{desired: 1, ready: 1, running: 1, applied: 1}, 3, activating, "floor 3 of hours", 0},
		{"takes the place of its own", with(func(p *policy) { p.floor = 3 }).within(&Bounds{By: "hours"}), been(active, 0),
			input{desired: 1, ready: 3, running: 3, applied: 3}, 1, active, "", 0},
		{"a cap from outside", with(func(p *policy) { p.limit = 9 }).within(&Bounds{Cap: 2, By: "hours"}), been(active, 0),
			input{desired: 5, ready: 5, running: 5, applied: 5}, 2, active, "cap 2 of hours; the load asks for 5", 0},
		{"cuts the floor", base.within(&Bounds{Floor: 5, Cap: 2, By: "hours"}), been(active, 0),
			input{desired: 1, ready: 2, running: 2, applied: 2}, 2, active, "floor 2 of hours", 0},
		{"and the initial scale", with(func(p *policy) { p.initial = 4 }).within(&Bounds{Cap: 2, By: "hours"}), fresh,
			input{desired: 1, ready: 1, running: 2, applied: 2}, 2, activating, "initial-scale 2", 0},
		{"a floor is not for what nobody reaches", with(func(p *policy) { p.reachable = false }).within(&Bounds{Floor: 2, By: "hours"}), been(active, 0),
			input{desired: 1, ready: 1, running: 1, applied: 1}, 1, active, "", 0},
		{"what is closed has its floor, for the time after it", with(func(p *policy) { p.initial = 5 }).within(&Bounds{Closed: true, Floor: 2, By: "night"}), fresh,
			input{desired: 5, applied: 0, waiting: true}, 2, activating, "floor 2 of night", 0},
		{"and nothing else", with(func(p *policy) { p.floor = 2 }).within(&Bounds{Closed: true, By: "night"}), been(active, 0),
			input{desired: 5, ready: 5, running: 5, applied: 5, busy: true, waiting: true}, 0, inactive, "closed by night", 0},

		// initial scale
		{"an initial scale above the floor is a floor", with(func(p *policy) { p.initial = 3; p.floor = 1 }), fresh,
			input{desired: 1, ready: 1, running: 3, applied: 3}, 3, activating, "initial-scale 3", 0},
		{"a floor above the initial scale stays", with(func(p *policy) { p.initial = 3; p.floor = 5 }), fresh,
			input{desired: 1, applied: 5, running: 5}, 5, activating, "min-scale 5", 0},
		{"a reached initial scale is forgotten", with(func(p *policy) { p.initial = 3 }), been(active, 0),
			input{desired: 1, ready: 3, running: 3, applied: 3}, 1, active, "", 0},
		{"nor does it hold what nobody reaches", with(func(p *policy) { p.initial, p.reachable = 3, false }), fresh,
			input{desired: 1, ready: 1, running: 3, applied: 3}, 1, activating, "", 0},
		{"an initial scale of 1 is kept until ready", base, fresh,
			input{now: at(5), desired: 0, running: 1, applied: 1}, 1, activating, "waiting for the first pods to be ready", 55 * time.Second},
		{"an initial scale of 0 is reached at once", with(func(p *policy) { p.initial = 0 }), fresh,
			input{now: at(1)}, 0, inactive, "nothing has asked for it yet", 59 * time.Second},

		// handleScaleToZero
		{"scale to zero is off", with(func(p *policy) { p.toZero = false }), been(active, 0),
			input{desired: 0, ready: 1, running: 1, applied: 1}, 1, active, "enable-scale-to-zero is false", 0},
		{"activating for too long", base, been(activating, 0),
			input{now: at(61), desired: 0, running: 1, applied: 1}, 0, inactive, "not ready within 1m0s", 0},
		{"activating for just long enough to hope", base, been(activating, 0),
			input{now: at(60), desired: 0, running: 1, applied: 1}, 1, activating, "waiting for the first pods to be ready", 0},
		{"active for less than the window", base, been(active, 95),
			input{desired: 0, ready: 1, running: 1, applied: 1}, 1, active, "active for less than the stable window", 5 * time.Second},
		{"active for less than the window, with more pods", base, been(active, 95),
			input{desired: 0, ready: 3, running: 3, applied: 3}, 1, active, "active for less than the stable window", 5 * time.Second},
		{"active for the window becomes inactive and keeps its pods", base, been(active, 90),
			input{desired: 0, ready: 1, running: 1, applied: 1, proxied: forever}, 1, inactive, "no requests for 10s", 0},
		{"inactive for grace and retention", with(func(p *policy) { p.retention = 50 * time.Second }), been(inactive, 50),
			input{desired: 0, ready: 1, running: 1, applied: 1}, 0, inactive, "", 0},
		{"inactive for less than the retention", with(func(p *policy) { p.retention = 50 * time.Second }), been(inactive, 60),
			input{desired: 0, ready: 1, running: 1, applied: 1, proxied: forever}, 1, inactive, "kept for the retention period of 50s", 10 * time.Second},
		{"the retention has passed and the proxy is in the path", with(func(p *policy) { p.retention = 20 * time.Second }), been(inactive, 80),
			input{desired: 0, ready: 1, running: 1, applied: 1, proxied: forever}, 0, inactive, "", 0},
		{"the retention has passed and the proxy is new in the path", with(func(p *policy) { p.retention = 20 * time.Second }), been(inactive, 80),
			input{desired: 0, ready: 1, running: 1, applied: 1, proxied: 25 * time.Second}, 1, inactive, "kept for the grace period of 30s", 5 * time.Second},
		{"no retention where nobody reaches it", with(func(p *policy) { p.retention, p.reachable = time.Hour, false }), been(inactive, 99),
			input{desired: 0, ready: 1, running: 1, applied: 1, proxied: forever}, 0, inactive, "", 0},
		{"without retention the proxy in the path is enough", base, been(inactive, 99),
			input{desired: 0, ready: 1, running: 1, applied: 1, proxied: 30 * time.Second}, 0, inactive, "", 0},
		{"without retention and proxy the grace period", base, been(inactive, 99),
			input{desired: 0, ready: 1, running: 1, applied: 1, proxied: 10 * time.Second}, 1, inactive, "kept for the grace period of 30s", 20 * time.Second},

		// computeActiveCondition
		{"wanted and not ready is activating", base, been(inactive, 0),
			input{desired: 1, applied: 0}, 1, activating, "", 0},
		{"wanted and below the floor is activating", with(func(p *policy) { p.floor = 2 }), been(active, 0),
			input{desired: 2, ready: 1, running: 2, applied: 2}, 2, activating, "", 0},
		{"wanted and ready is active", base, been(activating, 90),
			input{desired: 1, ready: 1, running: 1, applied: 1}, 1, active, "", 0},
		{"kept while activating, and ready now, is active", base, been(activating, 90),
			input{desired: 0, ready: 1, running: 1, applied: 1}, 1, active, "waiting for the first pods to be ready", 50 * time.Second},

		// ours: requests at hand
		{"a waiting request wakes", base, been(inactive, 0), input{waiting: true, busy: true}, 1, activating, "a request waits for a pod", 0},
		{"and wakes as many as activation-scale", with(func(p *policy) { p.activation = 3 }), been(inactive, 0),
			input{waiting: true, busy: true}, 3, activating, "a request waits for a pod", 0},
		{"never more than the limit", with(func(p *policy) { p.activation, p.limit = 3, 2 }), been(inactive, 0),
			input{waiting: true, busy: true}, 2, activating, "max-scale 2; the load asks for 3", 0},
		{"it does not lessen what the load asks for", base, been(inactive, 0),
			input{waiting: true, busy: true, desired: 4}, 4, activating, "a request waits for a pod", 0},
		{"a pod that answers is kept", base, been(active, 0),
			input{busy: true, ready: 1, running: 1, applied: 1}, 1, active, "a request is being answered", 0},
		{"a draining pod that answers needs no other", base, been(inactive, 0), input{busy: true, proxied: forever}, 0, inactive, "", 0},
		{"a retained pod that gets a request is active again", base, been(inactive, 99),
			input{busy: true, ready: 1, running: 1, applied: 1}, 1, active, "a request is being answered", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.input.now.IsZero() {
				c.input.now = at(100)
			}
			got := settle(c.policy, c.state, c.input)
			type verdict struct {
				Want  int
				After string
				Why   string
				Wait  time.Duration
			}
			if d := cmp.Diff(verdict{c.want, c.after.String(), c.why, c.wait}, verdict{got.want, got.state.activity.String(), got.why, got.wait}); d != "" {
				t.Error(d)
			}
			since := c.state.since
			if got.state.activity != c.state.activity {
				since = c.input.now
			}
			if !got.state.since.Equal(since) {
				t.Errorf("%v since %v, want %v", got.state.activity, got.state.since, since)
			}
		})
	}
}

func TestInitialised(t *testing.T) {
	p := policy{initial: 3, floor: 1, reachable: true, toZero: true, window: 10 * time.Second}
	for _, c := range []struct {
		name  string
		ready int
		was   bool
		want  bool
	}{
		{"below the initial scale", 2, false, false},
		{"at the initial scale", 3, false, true},
		{"never taken back", 0, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := settle(p, state{initialised: c.was}, input{now: at(1), desired: 1, ready: c.ready, running: 3, applied: 3})
			if got.state.initialised != c.want {
				t.Errorf("initialised is %v", got.state.initialised)
			}
		})
	}
}
