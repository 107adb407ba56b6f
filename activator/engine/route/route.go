// Package route decides which revisions of a service get its requests, and
// which old revisions may go. It is pure: it takes the time and what there is,
// and starts, stores and forwards nothing.
//
// Percentages, tags, pins and gradual roll-outs mean what they mean in
// Knative, whose roll-out arithmetic is linked. A target that is missing or was
// never ready is an error, and what was routed before goes on.
package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"knative.dev/serving/pkg/gc"
	"knative.dev/serving/pkg/reconciler/route/traffic"
)

// Share is a revision's part of a route's requests.
type Share struct {
	Revision string
	Percent  int
}

// Plan is where a service's requests go.
type Plan struct {
	// Traffic is the plan as the service's status tells it, without URLs.
	Traffic []servingv1.TrafficTarget
	// Shares are by tag; those of "" are the service's own. They are of 100
	// together.
	Shares map[string][]Share
	// Rollout is what the next plan has to know of this one.
	Rollout *traffic.Rollout
	// Next is when the next step of a roll-out is due; zero: none is under way.
	Next time.Time
}

// Revisions are all that the plan has.
func (p *Plan) Revisions() []string {
	var all []string
	for _, t := range p.Traffic {
		if !slices.Contains(all, t.RevisionName) {
			all = append(all, t.RevisionName)
		}
	}
	return all
}

// Missing is a target that no request can be sent to.
type Missing struct {
	Revision string // empty: the service has no revision that was ever ready
	Known    bool   // there is such a revision, and it was never ready
	Failed   bool   // it failed
}

func (m *Missing) Error() string {
	switch {
	case m.Revision == "":
		return "no revision has been ready yet"
	case !m.Known:
		return fmt.Sprintf("there is no revision %s", m.Revision)
	}
	return fmt.Sprintf("revision %s has not been ready yet", m.Revision)
}

// Input is what a plan follows from.
type Input struct {
	Service     string
	Traffic     []servingv1.TrafficTarget // of the service's spec
	LatestReady string                    // empty: none has been ready
	// Ready says of a revision of the service whether it has been ready, and
	// whether it failed; known is false where there is none of that name.
	Ready    func(revision string) (ready, failed, known bool)
	Duration time.Duration    // of a gradual roll-out; 0: at once
	Before   *traffic.Rollout // of the plan before; nil: none
}

// Make gives the plan of now, or a [*Missing] for each target that has no
// revision.
func Make(in Input, now time.Time) (*Plan, error) {
	p := &Plan{Shares: map[string][]Share{}, Rollout: new(traffic.Rollout)}
	var errs []error
	type target struct {
		tag, revision string
		percent       int
		latest        bool
	}
	var targets []target
	for _, t := range in.Traffic {
		latest := t.RevisionName == ""
		name := t.RevisionName
		if latest {
			name = in.LatestReady
		}
		if ready, failed, known := in.Ready(name); name == "" || !ready {
			errs = append(errs, &Missing{Revision: name, Known: known, Failed: failed})
			continue
		}
		percent := 0
		if t.Percent != nil {
			percent = int(*t.Percent)
		}
		targets = append(targets, target{t.Tag, name, percent, latest})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	// A roll-out for what follows the latest revision: one by the service's own
	// host, and one for each tag.
	want := map[string]int{}
	for _, t := range targets {
		if !t.latest {
			continue
		}
		want[""] += t.percent
		if t.tag != "" {
			want[t.tag] = 100
		}
	}
	goal := new(traffic.Rollout)
	for tag, percent := range want {
		if percent > 0 {
			goal.Configurations = append(goal.Configurations, &traffic.ConfigurationRollout{
				ConfigurationName: in.Service, Tag: tag, Percent: percent,
				Revisions: []traffic.RevisionRollout{{RevisionName: in.LatestReady, Percent: percent}},
			})
		}
	}
	slices.SortFunc(goal.Configurations, func(a, b *traffic.ConfigurationRollout) int { return strings.Compare(a.Tag, b.Tag) })
	p.Rollout = goal
	if in.Duration > 0 {
		p.step(in, now)
	}
	latest := map[string][]Share{}
	for _, c := range p.Rollout.Configurations {
		for _, r := range c.Revisions {
			latest[c.Tag] = append(latest[c.Tag], Share{r.RevisionName, r.Percent})
		}
	}
	told := false // the shares of the latest are told once, with the first such target
	for _, t := range targets {
		shares := []Share{{t.revision, t.percent}}
		if t.latest && t.percent > 0 {
			shares = nil
			if !told {
				shares, told = latest[""], true
			}
		}
		for _, s := range shares {
			p.add("", s)
			p.Traffic = append(p.Traffic, status(t.tag, t.latest, s))
		}
		if t.tag == "" {
			continue
		}
		if !t.latest {
			p.add(t.tag, Share{t.revision, 100})
			continue
		}
		for _, s := range latest[t.tag] {
			p.add(t.tag, s)
		}
	}
	return p, nil
}

// step moves the roll-out on from what it was.
func (p *Plan) step(in Input, now time.Time) {
	before := new(traffic.Rollout)
	if in.Before != nil && in.Before.Validate() {
		for _, c := range in.Before.Configurations { // Step changes what it is given
			if slices.ContainsFunc(c.Revisions, func(r traffic.RevisionRollout) bool { _, _, known := in.Ready(r.RevisionName); return !known }) {
				continue // of a revision that was deleted: there is nothing to go on from
			}
			copied := *c
			copied.Revisions = slices.Clone(c.Revisions)
			before.Configurations = append(before.Configurations, &copied)
		}
	}
	p.Rollout, _ = p.Rollout.Step(context.Background(), before, now.UnixNano())
	// What Knative waits for here, an ingress that has taken the first step, is
	// our proxy: it takes it at once.
	p.Rollout.ObserveReady(context.Background(), now.UnixNano(), in.Duration.Seconds())
	for _, c := range p.Rollout.Configurations {
		if due := c.StepParams.NextStepTime; due > 0 && len(c.Revisions) > 1 && (p.Next.IsZero() || due < p.Next.UnixNano()) {
			p.Next = time.Unix(0, due)
		}
	}
}

// FromStatus is the plan that a service's status tells of, less what is not
// there any more: what goes on where no new plan can be made.
func FromStatus(told []servingv1.TrafficTarget, known func(revision string) bool) *Plan {
	p := &Plan{Shares: map[string][]Share{}}
	for _, t := range told {
		if !known(t.RevisionName) || t.Percent == nil {
			continue
		}
		p.Traffic = append(p.Traffic, t)
		p.add("", Share{t.RevisionName, int(*t.Percent)})
		if t.Tag != "" {
			p.add(t.Tag, Share{t.RevisionName, 100})
		}
	}
	return p
}

func (p *Plan) add(tag string, s Share) {
	if s.Percent == 0 {
		return
	}
	i := slices.IndexFunc(p.Shares[tag], func(o Share) bool { return o.Revision == s.Revision })
	if i >= 0 {
		p.Shares[tag][i].Percent += s.Percent
		return
	}
	p.Shares[tag] = append(p.Shares[tag], s)
}

func status(tag string, latest bool, s Share) servingv1.TrafficTarget {
	return servingv1.TrafficTarget{Tag: tag, RevisionName: s.Revision, LatestRevision: new(latest), Percent: new(int64(s.Percent))}
}

// Pick chooses one of the shares: n is a number below 100, such as [Draw]
// gives. Shares that are less than 100 together leave the rest to the last.
func Pick(shares []Share, n int) int {
	for i, s := range shares[:len(shares)-1] {
		if n -= s.Percent; n < 0 {
			return i
		}
	}
	return len(shares) - 1
}

// Draw is the lot that Pick takes.
func Draw() int { return rand.IntN(100) }

// Old is a revision as far as its age counts.
type Old struct {
	Name       string
	Created    time.Time
	LastActive time.Time // when it was routed last
	// Kept revisions are never collected: routed, being proven, the latest that
	// was ready, or told to be kept.
	Kept bool
}

// Collect gives the revisions of one service that may go by Knative's rules
// (config-gc; pkg/reconciler/gc).
func Collect(all []Old, cfg *gc.Config, now time.Time) (gone []string) {
	least, most := int(cfg.MinNonActiveRevisions), int(cfg.MaxNonActiveRevisions)
	if most == gc.Disabled && cfg.RetainSinceCreateTime == gc.Disabled && cfg.RetainSinceLastActiveTime == gc.Disabled {
		return nil
	}
	idle := slices.DeleteFunc(slices.Clone(all), func(o Old) bool { return o.Kept })
	slices.SortStableFunc(idle, func(a, b Old) int { return a.LastActive.Compare(b.LastActive) })
	left := len(idle)
	take := func(may func(Old) bool, until int) {
		idle = slices.DeleteFunc(idle, func(o Old) bool {
			if left <= until || !may(o) {
				return false
			}
			gone = append(gone, o.Name)
			left--
			return true
		})
	}
	take(func(o Old) bool { return stale(o, cfg, now) }, least)
	if most != gc.Disabled {
		take(func(Old) bool { return true }, most)
	}
	return gone
}

func stale(o Old, cfg *gc.Config, now time.Time) bool {
	if cfg.RetainSinceCreateTime == gc.Disabled && cfg.RetainSinceLastActiveTime == gc.Disabled {
		return false
	}
	young := func(since time.Time, keep time.Duration) bool { return keep != gc.Disabled && now.Sub(since) < keep }
	return !young(o.Created, cfg.RetainSinceCreateTime) && !young(o.LastActive, cfg.RetainSinceLastActiveTime)
}
