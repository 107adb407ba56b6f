package pod

import (
	"strconv"
	"strings"
	"sync"
	"time"
)

// Phases are the moments of a pod's start; those that have not come are zero.
type Phases struct {
	Asked     time.Time // the machine was asked to start it
	Launched  time.Time // the kernel was asked to execute its program; the pod's AISLE_LAUNCHED
	Listening time.Time // its port took a connection, as far as a probe saw
	Ready     time.Time // its readiness probe passed, for the first time
	// Own are the phases that the pod itself told of with that answer, in
	// their order.
	Own []Phase
}

// Phase is one phase of its start that a pod tells of, by a metric of the
// Server-Timing header of its answer to a readiness probe:
//
//	Server-Timing: exec;dur=2.9, runtime;dur=11.2, model;dur=3.1, warmup;dur=2.5
type Phase struct {
	Name string
	Took time.Duration
}

// phaseClock writes the phases down.
type phaseClock struct {
	mu sync.Mutex // guards at
	at Phases
}

// Phases returns what is known of the pod's start.
func (p *Pod) Phases() Phases {
	p.phases.mu.Lock()
	defer p.phases.mu.Unlock()
	return p.phases.at
}

func (c *phaseClock) launched(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at.Launched = at
}

func (c *phaseClock) listening() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.Listening.IsZero() {
		c.at.Listening = time.Now()
	}
}

func (c *phaseClock) ready(timing []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.Ready.IsZero() {
		c.at.Ready, c.at.Own = time.Now(), parseTiming(timing)
	}
}

// What a pod may tell of its start.
const (
	maxPhases     = 16
	maxPhaseName  = 32
	longestMillis = float64(24 * time.Hour / time.Millisecond)
)

// parseTiming reads the metrics with a duration out of Server-Timing headers
// (W3C Server Timing). What is not well formed is left out: it is the pod's
// own word, and nothing depends on it.
func parseTiming(headers []string) []Phase {
	var phases []Phase
	for _, h := range headers {
		for metric := range strings.SplitSeq(h, ",") {
			name, params, _ := strings.Cut(metric, ";")
			if name = strings.TrimSpace(name); !isToken(name) {
				continue
			}
			for param := range strings.SplitSeq(params, ";") {
				text, ok := strings.CutPrefix(strings.TrimSpace(param), "dur=")
				if !ok {
					continue
				}
				ms, err := strconv.ParseFloat(strings.Trim(text, `"`), 64)
				if err != nil || !(ms >= 0 && ms <= longestMillis) {
					break
				}
				if phases = append(phases, Phase{name, time.Duration(ms * float64(time.Millisecond))}); len(phases) == maxPhases {
					return phases
				}
				break
			}
		}
	}
	return phases
}

// isToken keeps names fit for a metric's label and a header: letters, digits,
// hyphen and underscore.
func isToken(s string) bool {
	if s == "" || len(s) > maxPhaseName {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) < 0
}
