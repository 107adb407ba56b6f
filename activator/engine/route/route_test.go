package route

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"knative.dev/serving/pkg/gc"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// revisions that have been ready; those with a value of false have not.
func of(ready map[string]bool) func(string) (bool, bool, bool) {
	return func(name string) (bool, bool, bool) {
		was, known := ready[name]
		return was, known && name == "broken", known
	}
}

func latest(percent int64, tag string) servingv1.TrafficTarget {
	return servingv1.TrafficTarget{LatestRevision: new(true), Percent: new(percent), Tag: tag}
}

func pinned(name string, percent int64, tag string) servingv1.TrafficTarget {
	return servingv1.TrafficTarget{RevisionName: name, LatestRevision: new(false), Percent: new(percent), Tag: tag}
}

func TestMake(t *testing.T) {
	known := map[string]bool{"a": true, "b": true, "c": true, "new": false, "broken": false}
	for _, tt := range []struct {
		name    string
		traffic []servingv1.TrafficTarget
		want    map[string][]Share
		missing []Missing
	}{
		{"the latest", []servingv1.TrafficTarget{latest(100, "")}, map[string][]Share{"": {{"c", 100}}}, nil},
		{"canary", []servingv1.TrafficTarget{pinned("b", 90, ""), latest(10, "")}, map[string][]Share{"": {{"b", 90}, {"c", 10}}}, nil},
		{"rolled back", []servingv1.TrafficTarget{pinned("a", 100, "")}, map[string][]Share{"": {{"a", 100}}}, nil},
		{"tags", []servingv1.TrafficTarget{pinned("a", 100, ""), pinned("b", 0, "old"), latest(0, "next")},
			map[string][]Share{"": {{"a", 100}}, "old": {{"b", 100}}, "next": {{"c", 100}}}, nil},
		{"one revision twice", []servingv1.TrafficTarget{pinned("c", 30, ""), latest(70, "")}, map[string][]Share{"": {{"c", 100}}}, nil},
		{"the latest twice", []servingv1.TrafficTarget{latest(30, "x"), latest(70, "")}, map[string][]Share{"": {{"c", 100}}, "x": {{"c", 100}}}, nil},
		{"not there", []servingv1.TrafficTarget{pinned("gone", 50, ""), latest(50, "")}, nil, []Missing{{Revision: "gone"}}},
		{"never ready", []servingv1.TrafficTarget{pinned("new", 50, ""), pinned("broken", 50, "")}, nil, []Missing{{Revision: "new", Known: true}, {Revision: "broken", Known: true, Failed: true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Make(Input{Service: "s", Traffic: tt.traffic, LatestReady: "c", Ready: of(known)}, start)
			if tt.missing != nil {
				var got []Missing
				if joined, ok := err.(interface{ Unwrap() []error }); ok {
					for _, e := range joined.Unwrap() {
						if m, ok := errors.AsType[*Missing](e); ok {
							got = append(got, *m)
						}
					}
				}
				if d := cmp.Diff(tt.missing, got); d != "" {
					t.Error(d)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, p.Shares); d != "" {
				t.Error(d)
			}
			total := int64(0)
			for _, s := range p.Traffic {
				total += *s.Percent
			}
			if total != 100 || !p.Next.IsZero() {
				t.Errorf("status is of %d%%, next step %v", total, p.Next)
			}
		})
	}
	if _, err := Make(Input{Traffic: []servingv1.TrafficTarget{latest(100, "")}, Ready: of(known)}, start); err == nil {
		t.Error("a route to a revision that was never ready")
	}
}

// A gradual roll-out goes from 1% to all in steps, in the time that it is
// given; what interrupts it goes on from where it is.
func TestRollout(t *testing.T) {
	in := Input{Service: "s", Traffic: []servingv1.TrafficTarget{latest(100, "")}, LatestReady: "a", Ready: of(map[string]bool{"a": true, "b": true, "c": true}), Duration: 10 * time.Second}
	now := start
	p, err := Make(in, now)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Share{{"a", 100}}, p.Shares[""]); d != "" || !p.Next.IsZero() {
		t.Fatalf("the first revision is not rolled out: %s, next %v", d, p.Next)
	}
	in.LatestReady, in.Before = "b", p.Rollout
	share := 0
	for step := 0; ; step++ {
		if p, err = Make(in, now); err != nil || step > 20 {
			t.Fatal(err, step)
		}
		in.Before = p.Rollout
		s := p.Shares[""]
		if s[len(s)-1].Revision != "b" || s[len(s)-1].Percent <= share {
			t.Fatalf("step %d: %v after %d%%", step, s, share)
		}
		share = s[len(s)-1].Percent
		if step == 0 && share != 1 {
			t.Errorf("it begins with %v", s)
		}
		if p.Next.IsZero() {
			break
		}
		// Asked before its time, nothing moves.
		early, err := Make(in, now.Add(time.Millisecond))
		if d := cmp.Diff(p.Shares, early.Shares); d != "" || err != nil {
			t.Errorf("it moved early: %s, %v", d, err)
		}
		now = p.Next
	}
	if took := now.Sub(start); share != 100 || took < 5*time.Second || took > 10*time.Second {
		t.Errorf("%d%% after %v", share, took)
	}
	// A third revision in the middle of a roll-out of the second.
	in.LatestReady, in.Before = "b", nil
	p, _ = Make(Input{Service: "s", Traffic: in.Traffic, LatestReady: "a", Ready: in.Ready, Duration: in.Duration}, now)
	in.Before = p.Rollout
	p, _ = Make(in, now)
	in.LatestReady, in.Before = "c", p.Rollout
	p, _ = Make(in, now)
	if d := cmp.Diff([]Share{{"a", 99}, {"c", 1}}, p.Shares[""]); d != "" {
		t.Error(d)
	}
}

func TestPick(t *testing.T) {
	shares := []Share{{"a", 90}, {"b", 10}}
	count := map[string]int{}
	for n := range 100 {
		count[shares[Pick(shares, n)].Revision]++
	}
	if d := cmp.Diff(map[string]int{"a": 90, "b": 10}, count); d != "" {
		t.Error(d)
	}
	if Pick([]Share{{"a", 100}}, Draw()) != 0 {
		t.Error("one share is not picked")
	}
}

func TestCollect(t *testing.T) {
	hours := func(h int) time.Time { return start.Add(-time.Duration(h) * time.Hour) }
	cfg := func(create, active time.Duration, least, most int64) *gc.Config {
		return &gc.Config{RetainSinceCreateTime: create, RetainSinceLastActiveTime: active, MinNonActiveRevisions: least, MaxNonActiveRevisions: most}
	}
	all := []Old{
		{Name: "routed", Created: hours(99), LastActive: hours(99), Kept: true},
		{Name: "oldest", Created: hours(90), LastActive: hours(80)},
		{Name: "older", Created: hours(80), LastActive: hours(70)},
		{Name: "rested", Created: hours(70), LastActive: hours(2)},
		{Name: "young", Created: hours(1), LastActive: hours(1)},
	}
	for _, tt := range []struct {
		name string
		cfg  *gc.Config
		want []string
	}{
		{"as Knative begins", cfg(48*time.Hour, 15*time.Hour, 20, 1000), nil},
		{"stale ones", cfg(48*time.Hour, 15*time.Hour, 0, 1000), []string{"oldest", "older"}},
		{"as many as must stay", cfg(48*time.Hour, 15*time.Hour, 3, 1000), []string{"oldest"}},
		{"by creation alone", cfg(48*time.Hour, gc.Disabled, 0, 1000), []string{"oldest", "older", "rested"}},
		{"by number alone", cfg(gc.Disabled, gc.Disabled, 0, 1), []string{"oldest", "older", "rested"}},
		{"by number, the stale ones first", cfg(48*time.Hour, 15*time.Hour, 0, 1), []string{"oldest", "older", "rested"}},
		{"never", cfg(gc.Disabled, gc.Disabled, 0, gc.Disabled), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, Collect(all, tt.cfg, start)); d != "" {
				t.Error(d)
			}
		})
	}
}
