package cost

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"time"

	"aisle.dev/aisle/internal/draw"
)

// Of the picture, in pixels.
const (
	width, height    = 960, 520
	left, right      = 84, 24
	top, bottom      = 76, 96
	barShare         = 0.34 // of a day's place, each of its two bars
	maxStacked       = 5    // services that have a colour of their own
	maxDates         = 16   // that are written below
	gridLines        = 4
	small, body, big = 12, 14, 20 // text
)

// Plot draws a bar for each day: what was used, by service, beside what pods
// would have used that are always on.
func (r Report) Plot(svg bool) ([]byte, error) {
	unit, of := r.Unit()
	c, err := draw.New(svg, width, height)
	if err != nil {
		return nil, err
	}
	days := r.dates()
	services := r.largest(of)
	used := map[string]map[string]float64{} // by date and service
	one, most := map[string]float64{}, map[string]float64{}
	highest := 0.0
	for _, l := range r.Days {
		if used[l.Date] == nil {
			used[l.Date] = map[string]float64{}
		}
		used[l.Date][services.group(l)] += of(l.Used)
		one[l.Date] += of(l.One)
		most[l.Date] += of(l.Most)
	}
	for _, day := range days {
		sum := 0.0
		for _, v := range used[day] {
			sum += v
		}
		highest = max(highest, sum, one[day], most[day])
	}
	step := draw.Step(highest / gridLines)
	ceiling := max(step, math.Ceil(highest/step)*step)
	const plotWidth, plotHeight = width - left - right, height - top - bottom
	y := func(v float64) float64 { return top + plotHeight*(1-v/ceiling) }
	c.Text(draw.At(12, 30), draw.Start, big, draw.Ink, r.Title())
	c.Text(draw.At(12, 54), draw.Start, body, draw.Ink, unit+" a day"+savedWords(r.Total))
	for v := 0.0; v <= ceiling*1.0001; v += step {
		c.Line([]draw.Point{draw.At(left, y(v)), draw.At(width-right, y(v))}, draw.Grey, 1)
		c.Text(draw.At(left-8, y(v)+4), draw.End, small, draw.Ink, fmt.Sprintf("%.4g", v))
	}
	place := float64(plotWidth) / float64(max(1, len(days)))
	every := (len(days) + maxDates - 1) / maxDates
	for i, day := range days {
		x := left + place*(float64(i)+0.5)
		at, w := y(0), place*barShare
		for j, name := range services {
			v := used[day][name]
			if v <= 0 {
				continue
			}
			next := at - plotHeight*v/ceiling
			c.Fill(draw.Box(draw.At(x-w, at), draw.At(x, next)), draw.Series[j%len(draw.Series)])
			at = next
		}
		// Always on: the peak's bar behind that of one pod.
		c.Fill(draw.Box(draw.At(x+2, y(0)), draw.At(x+2+w, y(most[day]))), draw.Grey)
		c.Fill(draw.Box(draw.At(x+2, y(0)), draw.At(x+2+w, y(one[day]))), draw.Dark)
		if i%every == 0 {
			c.Text(draw.At(x, y(0)+18), draw.Middle, small, draw.Ink, day[len("2026-"):])
		}
	}
	c.Line([]draw.Point{draw.At(left, y(0)), draw.At(width-right, y(0))}, draw.Ink, 1.5)
	legend := func(i int, shade color.RGBA, words string) {
		x, at := left+float64(i%3)*plotWidth/3, float64(height-bottom+38+20*(i/3))
		c.Fill(draw.Box(draw.At(x, at), draw.At(x+14, at+12)), shade)
		c.Text(draw.At(x+20, at+11), draw.Start, small, draw.Ink, words)
	}
	legend(0, draw.Dark, "always on, one pod each")
	legend(1, draw.Grey, "always on, at the day's peak")
	for j, name := range services {
		legend(j+2, draw.Series[j%len(draw.Series)], name)
	}
	return c.Bytes()
}

func savedWords(l Line) string {
	if l.Saved == nil || l.SavedAtPeak == nil {
		return ""
	}
	return fmt.Sprintf("; saved against always on: %s (one pod), %s (at peak)", Percent(*l.Saved), Percent(*l.SavedAtPeak))
}

// Percent writes a share.
func Percent(v float64) string { return fmt.Sprintf("%.1f%%", v*100) }

// dates are all days of the report, those too on which nothing is known.
func (r Report) dates() []string {
	from, err := time.Parse(time.DateOnly, r.From)
	to, err2 := time.Parse(time.DateOnly, r.To)
	if err != nil || err2 != nil {
		return nil
	}
	var all []string
	for d := from; !d.After(to) && len(all) < MaxDays; d = d.AddDate(0, 0, 1) {
		all = append(all, d.Format(time.DateOnly))
	}
	return all
}

// MaxDays is how many days a report has at most.
const MaxDays = 400

// stack is the services that have a colour, in the order of their bars; the
// last is all others, where there are more.
type stack []string

const others = "all others"

// largest are the services that used most.
func (r Report) largest(of func(Amount) float64) stack {
	all := slices.Clone(r.Services)
	slices.SortStableFunc(all, func(a, b Line) int {
		switch x, y := of(a.Used), of(b.Used); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	var s stack
	for i, l := range all {
		if i == maxStacked && len(all) > maxStacked+1 {
			return append(s, others)
		}
		s = append(s, l.Namespace+"/"+l.Service)
	}
	return s
}

func (s stack) group(l Line) string {
	if name := l.Namespace + "/" + l.Service; slices.Contains(s, name) {
		return name
	}
	return others
}
