package plan

import (
	"fmt"
	"strings"
	"time"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
)

// blocks are an eighth of a line's height each.
var blocks = []rune("▁▂▃▄▅▆▇█")

// maxChartDays is how many days a chart has: a longer plan is a table's.
const maxChartDays = 62

// Chart writes each service as a block of lines, one for each day, a character
// for half an hour (an hour where the screen is narrow): how high the floor is.
func (p Plan) Chart(s screen.Screen) {
	each := 30 * time.Minute
	if s.Width < 90 {
		each = time.Hour
	}
	for _, of := range p.Services {
		s.Printf("%s\n", s.Paint(screen.Bold, screen.Clean(of.FullName())))
		ruler := ""
		for h := 0; h < 24; h += 6 {
			ruler += fmt.Sprintf("%-*d", int(6*time.Hour/each), h)
		}
		s.Printf("%-11s%s\n", "", s.Paint(screen.Dim, ruler+"24"))
		days := 0
		for day := p.From; day.Before(p.To) && days < maxChartDays; day = day.AddDate(0, 0, 1) {
			p.chartDay(s, of, day, each)
			days++
		}
		s.Printf("%s\n\n", screen.Clean(of.Summary()))
	}
	s.Printf("%s floor   %s held early, to be ready   %s closed   %s cut to the cap   %s no floor\n",
		s.Paint(screen.Cyan, string(blocks[len(blocks)-1])), s.Paint(screen.Yellow, "▒"), s.Paint(screen.Dim, "╳"), s.Paint(screen.Red, "█"), s.Paint(screen.Dim, "·"))
}

// chartDay writes one day's line.
func (p Plan) chartDay(s screen.Screen, of PlannedService, day time.Time, each time.Duration) {
	next := day.AddDate(0, 0, 1)
	var line strings.Builder
	var last screen.Colour
	run := ""
	flush := func() {
		line.WriteString(s.Paint(last, run))
		run = ""
	}
	written := 0
	for at := day; at.Before(next); {
		minute := at.Hour()*60 + at.Minute()
		for ; written < minute/int(each/time.Minute); written++ {
			run += " " // the clock leaves it out
		}
		minute += int(each / time.Minute)
		end := time.Date(day.Year(), day.Month(), day.Day(), 0, minute, 0, 0, day.Location())
		if !end.After(at) { // the clock is set back within
			end = at.Add(each)
		}
		sign, colour := cell(of.Spans, at, end, of.Hours.Largest)
		if colour != last {
			flush()
			last = colour
		}
		run += string(sign)
		written++
		at = end
	}
	flush()
	note := p.notes(of, day, next)
	s.Printf("%-11s%s%s\n", day.Format("Mon 2 Jan"), line.String(), s.Paint(screen.Dim, note))
}

// cell is the sign for a time within a day: of the most that there is.
func cell(spans []schedule.Span, from, to time.Time, most int) (rune, screen.Colour) {
	floor, early, closed, cut := 0, true, false, false
	for _, span := range spans {
		if !span.From.Before(to) || !span.To.After(from) {
			continue
		}
		floor = max(floor, span.Floor)
		early = early && span.Early() == span.Floor
		closed = closed || span.Closed && span.Floor == 0
		cut = cut || span.Cut > 0
	}
	switch {
	case floor == 0 && closed:
		return '╳', screen.Dim
	case floor == 0:
		return '·', screen.Dim
	case early:
		return '▒', screen.Yellow
	}
	sign := blocks[(floor*len(blocks)-1)/max(most, 1)]
	if cut {
		return sign, screen.Red
	}
	return sign, screen.Cyan
}

// notes are a day's bounds in words, and a change of the clock.
func (p Plan) notes(of PlannedService, from, to time.Time) string {
	lowest, highest, capLow, capHigh, uncapped := -1, 0, 0, 0, false
	for _, span := range of.Spans {
		if !span.From.Before(to) || !span.To.After(from) {
			continue
		}
		if lowest < 0 || span.Floor < lowest {
			lowest = span.Floor
		}
		highest = max(highest, span.Floor)
		switch {
		case span.Closed:
		case span.Cap == 0:
			uncapped = true
		default:
			if capLow == 0 || span.Cap < capLow {
				capLow = span.Cap
			}
			capHigh = max(capHigh, span.Cap)
		}
	}
	note := fmt.Sprintf("  floor %s", between(max(lowest, 0), highest))
	switch {
	case capLow > 0 && uncapped:
		note += fmt.Sprintf(", cap %d or none", capLow)
	case capLow > 0:
		note += ", cap " + between(capLow, capHigh)
	}
	for _, c := range p.Clock {
		if !c.At.Before(from) && c.At.Before(to) {
			note += fmt.Sprintf(", clock %+g h at %s", c.Hours, c.At.Format("15:04"))
		}
	}
	return note
}

func between(low, high int) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d–%d", low, high)
}
