package plan

import (
	"fmt"
	"image/color"
	"math"
	"strconv"
	"time"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/draw"
)

// The picture's measures, in pixels.
const (
	width      = 1280
	plotLeft   = 236
	plotRight  = width - 34
	headHeight = 92
	panel      = 120 // of floor and cap over time
	laneGap    = 6
	laneHeight = 19
	nameHeight = 60
	axisHeight = 34 + laneGap
	apart      = 26 // between services
)

var (
	floorColour = color.RGBA{0x8c, 0xc3, 0xe4, 0xff}
	floorEdge   = draw.Series[0]
	earlyColour = draw.Series[1]
	capColour   = draw.Series[4]
	shutColour  = color.RGBA{0xe2, 0xe2, 0xe2, 0xff}
	shutInk     = color.RGBA{0x66, 0x66, 0x66, 0xff}
	restColour  = color.RGBA{0xf7, 0xf7, 0xf7, 0xff}
	clockColour = draw.Series[3]
)

// picture is a plan that is being drawn.
type picture struct {
	draw.Canvas
	plan Plan
}

// Draw draws the plan as SVG, or else as PNG: for each service floor and cap
// over time, its windows below, and what they make of pods' time.
func (p Plan) Draw(svg bool) ([]byte, error) {
	height := headHeight + apart
	for _, s := range p.Services {
		height += nameHeight + panel + len(s.Windows)*laneHeight + axisHeight + apart
	}
	c, err := draw.New(svg, width, height)
	if err != nil {
		return nil, err
	}
	d := picture{c, p}
	d.head()
	top := float64(headHeight)
	for _, s := range p.Services {
		d.service(s, top)
		top += float64(nameHeight + panel + len(s.Windows)*laneHeight + axisHeight + apart)
	}
	return c.Bytes()
}

// x is where a time is.
func (d picture) x(t time.Time) float64 {
	// On whole pixels there are no seams between spans.
	return math.Round(plotLeft + (plotRight-plotLeft)*float64(t.Sub(d.plan.From))/float64(d.plan.To.Sub(d.plan.From)))
}

func (d picture) head() {
	d.Text(draw.At(20, 34), draw.Start, 21, draw.Ink, "Floors and caps by schedule, "+d.plan.Range())
	x := 20.0
	legend := func(label string, sign func(x float64)) {
		sign(x)
		d.Text(draw.At(x+34, 66), draw.Start, 13, draw.Ink, label)
		x += 34 + wide(label, 13) + 26
	}
	block := func(c color.RGBA) func(float64) {
		return func(x float64) { d.Fill(draw.Box(draw.At(x, 54), draw.At(x+26, 68)), c) }
	}
	legend("floor", func(x float64) {
		block(floorColour)(x)
		d.Line([]draw.Point{draw.At(x, 54), draw.At(x+26, 54)}, floorEdge, 2)
	})
	legend("floor held early, to be ready", block(earlyColour))
	legend("cap", func(x float64) { d.Line([]draw.Point{draw.At(x, 61), draw.At(x+26, 61)}, capColour, 2.5) })
	legend("closed", block(shutColour))
	legend("floor asked for, cut to the cap", func(x float64) { d.dashes(draw.At(x, 61), draw.At(x+26, 61), floorEdge) })
	if len(d.plan.Clock) > 0 {
		legend("the clock is changed", func(x float64) { d.dashes(draw.At(x+13, 52), draw.At(x+13, 70), clockColour) })
	}
}

// wide is about how wide a text is.
func wide(s string, size float64) float64 { return float64(len([]rune(s))) * size * 0.49 }

func (d picture) dashes(a, b draw.Point, c color.RGBA) {
	const dash = 5.0
	length := math.Hypot(b.X-a.X, b.Y-a.Y)
	along := func(at float64) draw.Point {
		return draw.At(a.X+(b.X-a.X)*at/length, a.Y+(b.Y-a.Y)*at/length)
	}
	for at := 0.0; at < length; at += 2 * dash {
		d.Line([]draw.Point{along(at), along(min(at+dash, length))}, c, 1.6)
	}
}

// service draws one service from a height on.
func (d picture) service(s PlannedService, top float64) {
	d.Text(draw.At(20, top+18), draw.Start, 17, draw.Ink, s.FullName())
	d.Text(draw.At(20, top+38), draw.Start, 13, shutInk, s.Summary())
	top += nameHeight
	bottom := top + panel
	end := bottom + laneGap + float64(len(s.Windows)*laneHeight)
	d.days(top, bottom, end)

	most := s.most()
	y := func(pods int) float64 { return bottom - (panel-8)*float64(pods)/float64(most) }
	for _, n := range ticks(most) {
		if n > 0 {
			d.Line([]draw.Point{draw.At(plotLeft, y(n)), draw.At(plotRight, y(n))}, draw.Grey, 0.7)
		}
		d.Text(draw.At(plotLeft-8, y(n)+4), draw.End, 12, shutInk, strconv.Itoa(n))
	}
	for _, span := range s.Spans {
		d.span(span, top, bottom, y)
	}
	d.caps(s.Spans, y)
	d.Line([]draw.Point{draw.At(plotLeft, bottom), draw.At(plotRight, bottom)}, draw.Dark, 1)
	for i, l := range s.Windows {
		d.lane(l, bottom+laneGap+float64(i*laneHeight))
	}
	for _, c := range d.plan.Clock {
		x := d.x(c.At)
		d.dashes(draw.At(x, top-14), draw.At(x, end), clockColour)
		label := fmt.Sprintf("clock %+g h", c.Hours)
		if c.TimeZone != d.plan.TimeZone {
			label += ", " + c.TimeZone
		}
		if x+wide(label, 11) > plotRight {
			d.Text(draw.At(x-4, top-5), draw.End, 11, clockColour, label)
		} else {
			d.Text(draw.At(x+4, top-5), draw.Start, 11, clockColour, label)
		}
	}
}

// span draws one stretch with the same floor.
func (d picture) span(s schedule.Span, top, bottom float64, y func(int) float64) {
	from, to := d.x(s.From), d.x(s.To)
	if s.Closed {
		d.Fill(draw.Box(draw.At(from, top), draw.At(to, bottom)), shutColour)
		if to-from > 50 {
			d.Text(draw.At((from+to)/2, top+panel/2), draw.Middle, 12, shutInk, "closed")
		}
	}
	if s.Cut > 0 {
		d.dashes(draw.At(from, y(s.Cut)), draw.At(to, y(s.Cut)), floorEdge)
	}
	if s.Floor == 0 {
		return
	}
	held := s.Floor - s.Early()
	if held > 0 {
		d.Fill(draw.Box(draw.At(from, y(held)), draw.At(to, bottom)), floorColour)
		d.Line([]draw.Point{draw.At(from, y(held)), draw.At(to, y(held))}, floorEdge, 2)
	}
	if held < s.Floor {
		// Minutes before a week's window would not be seen.
		from = min(from, to-2.5)
		d.Fill(draw.Box(draw.At(from, y(s.Floor)), draw.At(to, y(held))), earlyColour)
	}
}

// caps draws the cap's line, broken where there is none.
func (d picture) caps(spans []schedule.Span, y func(int) float64) {
	var line []draw.Point
	flush := func() {
		if len(line) > 0 {
			d.Line(line, capColour, 2.5)
		}
		line = nil
	}
	for _, s := range spans {
		if s.Cap == 0 || s.Closed {
			flush()
			continue
		}
		line = append(line, draw.At(d.x(s.From), y(s.Cap)), draw.At(d.x(s.To), y(s.Cap)))
	}
	flush()
}

// lane draws when one window holds.
func (d picture) lane(l Lane, top float64) {
	name := l.Schedule
	switch {
	case name == "":
		name = "the service's own"
	case l.Window != "":
		name += ": " + l.Window
	}
	for wide(name, 12) > plotLeft-30 {
		r := []rune(name)
		name = string(r[:len(r)-2]) + "…"
	}
	d.Text(draw.At(plotLeft-8, top+14), draw.End, 12, draw.Ink, name)
	for _, t := range l.Times {
		from, to := d.x(t.From), d.x(t.To)
		c, ink := floorColour, draw.Ink
		switch {
		case t.Early:
			c, from = earlyColour, min(from, to-2.5)
		case l.Closed:
			c, ink = shutColour, shutInk
		case l.Floor == 0:
			c = color.RGBA{0xf3, 0xc6, 0xa5, 0xff}
		}
		d.Fill(draw.Box(draw.At(from, top+4), draw.At(to, top+laneHeight-2)), c)
		if says := l.says(); !t.Early && to-from > wide(says, 11)+8 {
			d.Text(draw.At((from+to)/2, top+14.5), draw.Middle, 11, ink, says)
		}
	}
}

// says is what a window asks for, in few letters.
func (l Lane) says() string {
	switch {
	case l.Closed:
		return "closed"
	case l.Floor > 0 && l.Cap > 0:
		return fmt.Sprintf("%d–%d", l.Floor, l.Cap)
	case l.Cap > 0:
		return fmt.Sprintf("≤ %d", l.Cap)
	}
	return fmt.Sprintf("≥ %d", l.Floor)
}

// days draws midnights, weekends and the dates below.
func (d picture) days(top, bottom, end float64) {
	n := int(math.Round(d.plan.To.Sub(d.plan.From).Hours() / 24))
	for i := range n + 1 {
		day := d.plan.From.AddDate(0, 0, i)
		x, next := d.x(day), min(d.x(day.AddDate(0, 0, 1)), plotRight)
		if i < n && (day.Weekday() == time.Saturday || day.Weekday() == time.Sunday) {
			d.Fill(draw.Box(draw.At(x, top), draw.At(next, end)), restColour)
		}
		if n <= 62 || day.Day() == 1 {
			d.Line([]draw.Point{draw.At(x, top), draw.At(x, end+4)}, draw.Grey, 1)
		}
		switch {
		case i == n:
		case n <= 14:
			d.Text(draw.At((x+next)/2, end+18), draw.Middle, 12, draw.Ink, day.Format("Mon 2 Jan"))
			if n <= 8 {
				noon := day.Add(next12(day))
				d.Line([]draw.Point{draw.At(d.x(noon), bottom), draw.At(d.x(noon), bottom+3)}, draw.Dark, 1)
			}
		case n <= 62 && day.Weekday() == time.Monday, n > 62 && day.Day() == 1:
			d.Text(draw.At(x+3, end+18), draw.Start, 12, draw.Ink, day.Format("2 Jan"))
		}
	}
}

// next12 is how long it is from a day's beginning until its clock shows noon.
func next12(day time.Time) time.Duration {
	return time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, day.Location()).Sub(day)
}

// most is the most pods that the panel shows.
func (s PlannedService) most() int {
	most, capped := 1, 0
	for _, span := range s.Spans {
		most = max(most, span.Floor, span.Cut)
		capped = max(capped, span.Cap)
	}
	return max(most, capped)
}

// ticks are some numbers of pods up to most.
func ticks(most int) []int {
	step := 1
	for _, s := range []int{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000} {
		if step = s; most/s <= 4 {
			break
		}
	}
	var all []int
	for n := 0; n <= most; n += step {
		all = append(all, n)
	}
	return all
}

// Range is the plan's dates in words.
func (p Plan) Range() string {
	last := p.To.Add(-time.Second)
	return fmt.Sprintf("%s – %s (%s)", p.From.Format("Mon 2 Jan"), last.Format("Mon 2 Jan 2006"), p.TimeZone)
}

// Summary is what the bounds make of pods' time, in a sentence.
func (s PlannedService) Summary() string {
	h := s.Hours
	text := fmt.Sprintf("floors hold %.1f %s", h.Floor, h.Unit)
	if h.Early > 0 {
		text += fmt.Sprintf(", %.1f of them early", h.Early)
	}
	if h.AlwaysOn > 0 {
		text += fmt.Sprintf("; always on at the largest floor, %d: %.1f (floors are %.0f%% of it)", h.Largest, h.AlwaysOn, 100*h.Floor/h.AlwaysOn)
	}
	if h.Cap != nil {
		text += fmt.Sprintf("; caps allow %.1f", *h.Cap)
	} else {
		text += "; there is a time without cap"
	}
	switch s.Lead.Source {
	case "learned":
		starts := "starts"
		if s.Lead.Sample == 1 {
			starts = "start"
		}
		text += fmt.Sprintf("; lead time %s, learned from %d %s", s.Lead.Time.Round(100*time.Millisecond), s.Lead.Sample, starts)
	case "declared":
		text += fmt.Sprintf("; lead time %s, declared", s.Lead.Time.Duration)
	}
	return text
}
