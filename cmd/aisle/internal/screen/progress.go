package screen

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Progress says how far a long run has come: one line that is drawn again on
// a terminal, a plain line every few seconds elsewhere.
type Progress struct {
	screen Screen
	start  time.Time
	last   time.Time
	drawn  bool
	verb   string
	from   float64 // how much was done before
}

// How often a line is drawn again, and how often one is written to a log.
const (
	redraw = 100 * time.Millisecond
	relog  = 10 * time.Second
)

// NewProgress begins at now. Verb says what becomes of what is counted: "sent".
func NewProgress(s Screen, now time.Time, verb string) *Progress {
	return &Progress{screen: s, start: now, last: now, verb: verb}
}

// From says how much had been done before, which took none of the time.
func (p *Progress) From(fraction float64) { p.from = max(0, fraction) }

// Set says how many are done and failed by now. Fraction is how much of all
// that is, or negative where that is not known.
func (p *Progress) Set(now time.Time, done, failed int, fraction float64) {
	every := relog
	if p.screen.Terminal {
		every = redraw
	}
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	if !p.screen.Terminal {
		p.screen.Printf("%s\n", p.line(now, done, failed, fraction, 0))
		return
	}
	p.drawn = true
	p.screen.Printf("\r\x1b[K%s", Cut(p.line(now, done, failed, fraction, p.screen.Width), p.screen.Width-1))
}

// Clear removes the line from the terminal.
func (p *Progress) Clear() {
	if p.drawn {
		p.screen.Printf("\r\x1b[K")
		p.drawn = false
	}
}

func (p *Progress) line(now time.Time, done, failed int, fraction float64, width int) string {
	elapsed := now.Sub(p.start)
	text := fmt.Sprintf("%s %s, %s/s", Thousands(done), p.verb, rate(done, elapsed))
	if failed > 0 {
		text += fmt.Sprintf(", %s failed", Thousands(failed))
	}
	if fraction <= 0 || fraction > 1 {
		return text
	}
	eta := time.Duration(float64(elapsed) * (1 - fraction) / max(fraction-p.from, 1e-6))
	text = fmt.Sprintf("%3.0f%%  %s, %v left", math.Floor(100*fraction), text, Short(eta))
	if bar := min(30, width-Columns(text)-3); bar >= 8 {
		full := int(fraction * float64(bar))
		text = strings.Repeat("█", full) + strings.Repeat("░", bar-full) + " " + text
	}
	return text
}

func rate(n int, d time.Duration) string {
	perSecond := 0.0
	if d > 0 {
		perSecond = float64(n) / d.Seconds()
	}
	if perSecond < 10 {
		return fmt.Sprintf("%.1f", perSecond)
	}
	return Thousands(int(math.Round(perSecond)))
}

// Short writes a duration for people: 12.3s, 4m05s, 2h03m.
func Short(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	d = d.Round(time.Minute)
	switch hours := int(d.Hours()); {
	case hours < 48:
		return fmt.Sprintf("%dh%02dm", hours, int(d.Minutes())%60)
	case hours < 8*24:
		return fmt.Sprintf("%dd%02dh", hours/24, hours%24)
	default:
		return fmt.Sprintf("%dd", hours/24)
	}
}
