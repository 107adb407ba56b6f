package main

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// The modes, in the order of the table.
const (
	alwaysOn = "always on"
	minOne   = "min 1"
	plain    = "scale to zero"
	planned  = "+ schedule"
	deferred = "+ deferral"
	gated    = "+ gate"
)

// row is one line of the table.
type row struct {
	Trace         string  `json:"trace"`
	Mode          string  `json:"mode"`
	GPUSeconds    float64 `json:"gpuSeconds"`
	BelowAlwaysOn float64 `json:"belowAlwaysOn"` // shares; below 0: above it
	BelowPlain    float64 `json:"belowPlain"`
	Started       int     `json:"podsStarted"`
	Peak          int     `json:"podsAtOnce"`
	Woken         int     `json:"woken"` // products that came to the pods
	Answered      int     `json:"answered"`
	Lost          int     `json:"lost"`
	Requests      *waits  `json:"requests,omitempty"` // nil: there are none
	Events        *waits  `json:"events,omitempty"`
}

// waits are how long products waited until a pod began with them, in seconds.
type waits struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func waitsOf(all []time.Duration) *waits {
	if len(all) == 0 {
		return nil
	}
	all = slices.Sorted(slices.Values(all))
	at := func(percent int) float64 { return all[(len(all)-1)*percent/100].Seconds() }
	return &waits{len(all), at(50), at(95), at(99), at(100)}
}

// result is what the program tells.
type result struct {
	Seed       uint64  `json:"seed"`
	ServeMs    float64 `json:"serveMs"`
	ColdMs     float64 `json:"coldMs"`
	ColdSpread float64 `json:"coldSpread"`
	WokenShare float64 `json:"wokenShare"` // by the gate
	Rows       []row   `json:"rows"`
}

// replay runs traces in all modes.
func replay(f figures, of []trace) (*result, error) {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil, err
	}
	begin := time.Date(2026, 11, 16, 0, 0, 0, 0, loc) // a Monday
	r := &result{Seed: f.seed, ServeMs: millis(f.serve), ColdMs: millis(f.cold), ColdSpread: f.coldSpread, WokenShare: f.woken}
	for _, t := range of {
		all := t.arrivals(f.seed, begin)
		base, err := simulate(f, all, begin, mode{name: plain, maxScale: maxScale})
		if err != nil {
			return nil, err
		}
		always, err := asGood(f, all, begin, base)
		if err != nil {
			return nil, err
		}
		outcomes := map[string]*outcome{alwaysOn: always, plain: base}
		for _, m := range []mode{
			{name: minOne, minScale: 1, maxScale: maxScale},
			{name: planned, maxScale: maxScale, schedule: t.schedule},
			{name: deferred, maxScale: maxScale, schedule: t.deferred, deferBy: t.deferBy},
		} {
			if outcomes[m.name], err = simulate(f, all, begin, m); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", t.name, m.name, err)
			}
		}
		if outcomes[gated], err = behindGate(f, all, begin); err != nil {
			return nil, fmt.Errorf("%s, %s: %w", t.name, gated, err)
		}
		for _, name := range []string{alwaysOn, minOne, plain, planned, deferred, gated} {
			o := outcomes[name]
			r.Rows = append(r.Rows, row{
				Trace: t.name, Mode: name, GPUSeconds: o.podSeconds,
				BelowAlwaysOn: 1 - o.podSeconds/always.podSeconds, BelowPlain: 1 - o.podSeconds/base.podSeconds,
				Started: o.started, Peak: o.peak, Woken: o.answered - o.spared, Answered: o.answered, Lost: len(all) - o.answered,
				Requests: waitsOf(o.requests), Events: waitsOf(o.events),
			})
		}
	}
	return r, nil
}

// behindGate scales to zero, and lets to the pods only products for which the
// gate holds. The others are answered by the legs before it: they wait for no
// pod.
func behindGate(f figures, all []arrival, begin time.Time) (*outcome, error) {
	woken := throughGate(all, f.woken, f.seed)
	o, err := simulate(f, woken, begin, mode{name: gated, maxScale: maxScale})
	if err != nil {
		return nil, err
	}
	requests, events := 0, 0
	for _, a := range all {
		if a.event {
			events++
		} else {
			requests++
		}
	}
	for range requests - len(o.requests) {
		o.requests = append(o.requests, 0)
	}
	for range events - len(o.events) {
		o.events = append(o.events, 0)
	}
	o.spared = len(all) - len(woken)
	o.answered += o.spared
	return o, nil
}

// asGood is the outcome of the least number of pods that, always on, keep nobody
// waiting longer than base does: by the p95 of requests and of events.
func asGood(f figures, all []arrival, begin time.Time, base *outcome) (*outcome, error) {
	p95 := func(all []time.Duration) float64 {
		if w := waitsOf(all); w != nil {
			return w.P95
		}
		return 0
	}
	for n := 1; ; n++ {
		o, err := simulate(f, all, begin, mode{minScale: n, maxScale: n})
		if err != nil || n == maxScale || p95(o.requests) <= p95(base.requests) && p95(o.events) <= p95(base.events) {
			return o, err
		}
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// markdown is the table and what one must know to read it.
func (r *result) markdown() []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# Replay: three days, five ways to scale and a gate\n\n")
	p("`make replay` writes this page. It replays three made-up traces (`hack/replay/traces.go`, seed %d) of Monday to Wednesday, %s, on virtual time through the code that decides on a real machine: `activator/scale` every second, `activator/schedule` for floors with readyBy, `activator/broker/deferral` for what is held back. ", r.Seed, zone)
	p("The pods are simulated: each has one GPU and does one product at a time, in %.4g ms; a start takes %.4g ms (median; the logarithm has a standard deviation of %.2g): the README's figures of `photo` warm on one machine and of its start from zero on the test cluster. Stable window 60 s, at most %d pods, target %s. ", r.ServeMs, r.ColdMs, r.ColdSpread, maxScale, target)
	p("A wait is from a product's arrival until a pod begins with it. GPU-seconds count from the decision to start a pod until it has gone.\n\n")
	p("![GPU-seconds by trace and mode](replay.svg)\n\n")
	p("| trace | mode | GPU-seconds | below always on | below scale to zero | waited, requests: p50 / p95 / p99 | waited, events: p50 / p95 / p99 | pods started | to the pods | answered | lost |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, x := range r.Rows {
		p("| %s | %s | %.0f | %s | %s | %s | %s | %d | %d | %d | %d |\n", x.Trace, x.Mode, x.GPUSeconds, share(x.BelowAlwaysOn), share(x.BelowPlain), x.Requests, x.Events, x.Started, x.Woken, x.Answered, x.Lost)
	}
	p("\nAlways on is the least number of pods that keep nobody waiting longer than scaling to zero does (by p95): what gives the same answers without scaling. All modes answer all products; what differs is when.\n\n")
	p("\"%s\" is scaling to zero with a gate on the leg: only %.2f%% of the products come to its pods, drawn at random, and the others are answered without, at once (they count as waits of 0). That is what a gate on the title's confidence let through on the fashion test products, with as many right answers as without it (docs/evaluation.md; whole titles). A gate waits for nobody, but bounds nothing: the products that do come wait for a start more often than before, since fewer keep a pod warm.\n\n", gated, 100*r.WokenShare)
	for _, t := range traces {
		p("**%s.** %s\n", t.name, t.about)
		p("- Schedule: %s.\n", t.window)
		p("- Deferral: %s.\n\n", t.deferWhy)
	}
	p("The windows are what the owner of such a service knows beforehand: its import's time and rate, its office's hours. Requests for which somebody waits are never held back. A first run had a floor of 1 for the import and no caps beside deferral, where it released to four pods at once what one does as well; what stands here follows from the rates above. ")
	p("After the third day a run goes on until everything that is held back is answered, which counts.\n")
	return b.Bytes()
}

func share(v float64) string {
	if v < -1 {
		return fmt.Sprintf("%.1f times as much", 1-v)
	}
	return fmt.Sprintf("%.1f%%", v*100)
}

func (w *waits) String() string {
	if w == nil {
		return ""
	}
	return fmt.Sprintf("%s / %s / %s", span(w.P50), span(w.P95), span(w.P99))
}

// span writes seconds to two or three figures.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Millisecond:
		return "0"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}
