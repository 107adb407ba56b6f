// Package curves draws what an evaluation measured, as panels side by side
// with one legend: curves of points, levels to compare them with, and bars.
//
// It draws what it is given and computes nothing.
package curves

import (
	"fmt"
	"image/color"
	"math"
	"strings"
	"unicode/utf8"

	"aisle.dev/aisle/internal/draw"
)

// Figure is a picture.
type Figure struct {
	Title  string
	Legend []string // one line per series, in its colour
	Panels []Panel
}

// Panel is one pair of axes, or a list of bars where it has Bars.
type Panel struct {
	Title, X, Y string // of the panel and its axes
	XAxis       Axis   // points beyond are left out
	YAxis       Axis   // points beyond are drawn at its end
	Diagonal    bool   // from corner to corner
	Levels      []Level
	Curves      []Curve
	Bars        []Bar
}

// Axis is the range of an axis; Percent writes shares as such.
type Axis struct {
	From, To float64
	Percent  bool
}

// Fit is an axis between round numbers that holds both values.
func Fit(low, high float64) Axis {
	step := draw.Step(max(high-low, 1e-4) / gridLines)
	return Axis{From: math.Floor(low/step+1e-9) * step, To: math.Ceil(high/step-1e-9) * step}
}

// Curve is one line of points.
type Curve struct {
	Series int // index in the legend; its colour
	Points []draw.Point
	Dots   bool
}

// Level is a horizontal line to compare with, and what it says.
type Level struct {
	Y    float64
	Text string
	Left bool // the text's side; else the right
}

// Bar is a named bar made of parts, one per series of the legend.
type Bar struct {
	Name  string
	Parts []float64
}

// Known reports whether a file's name says PNG or SVG.
func Known(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".png") || strings.HasSuffix(name, ".svg")
}

// Of the picture, in pixels.
const (
	left, top    = 80, 96 // of the first panel's corner
	side         = 480    // of a panel
	apart        = 104    // between two panels
	below        = 68     // for the names of the axes
	rowHeight    = 24
	right        = 32
	gridLines    = 5
	nameWidth    = 260 // of a bar
	barHeight    = 0.62
	small, body  = 13, 15
	title        = 20
	maxBarLetter = 38
)

func series(i int) color.RGBA { return draw.Series[i%len(draw.Series)] }

// Draw returns the picture as SVG or as PNG.
func (f Figure) Draw(svg bool) ([]byte, error) {
	panels := max(1, len(f.Panels))
	width := left + panels*side + (panels-1)*apart + right
	bottom := top + side + below
	c, err := draw.New(svg, width, bottom+rowHeight*len(f.Legend)+8)
	if err != nil {
		return nil, err
	}
	c.Text(draw.At(12, 32), draw.Start, title, draw.Ink, f.Title)
	for i, p := range f.Panels {
		x := float64(left + i*(side+apart))
		c.Text(draw.At(x, top-36), draw.Start, body+1, draw.Ink, p.Title)
		if p.Bars != nil {
			p.bars(c, x)
		} else {
			p.axes(c, x)
		}
	}
	for i, text := range f.Legend {
		y := float64(bottom + rowHeight*i + 8)
		c.Line([]draw.Point{draw.At(left, y), draw.At(left+36, y)}, series(i), 3)
		c.Dot(draw.At(left+18, y), 5, series(i))
		c.Text(draw.At(left+48, y+5), draw.Start, body, draw.Ink, text)
	}
	return c.Bytes()
}

// axes draws the curves, with the panel's left edge at x.
func (p Panel) axes(c draw.Canvas, x float64) {
	at := func(u, v float64) draw.Point {
		return draw.At(x+side*p.XAxis.part(u), top+side*(1-p.YAxis.part(v)))
	}
	c.Text(draw.At(x, top-14), draw.Start, small, draw.Ink, p.Y)
	c.Text(draw.At(x+side/2, top+side+46), draw.Middle, body, draw.Ink, p.X)
	for _, u := range p.XAxis.ticks() {
		c.Line([]draw.Point{at(u, p.YAxis.From), at(u, p.YAxis.To)}, draw.Grey, 1)
		c.Text(draw.At(at(u, 0).X, top+side+20), draw.Middle, small, draw.Ink, p.XAxis.text(u))
	}
	for _, v := range p.YAxis.ticks() {
		c.Line([]draw.Point{at(p.XAxis.From, v), at(p.XAxis.To, v)}, draw.Grey, 1)
		c.Text(draw.At(x-8, at(0, v).Y+5), draw.End, small, draw.Ink, p.YAxis.text(v))
	}
	if p.Diagonal {
		c.Line([]draw.Point{at(p.XAxis.From, p.YAxis.From), at(p.XAxis.To, p.YAxis.To)}, draw.Dark, 1.5)
	}
	for _, l := range p.Levels {
		if l.Y >= p.YAxis.From && l.Y <= p.YAxis.To {
			c.Line([]draw.Point{at(p.XAxis.From, l.Y), at(p.XAxis.To, l.Y)}, draw.Dark, 1.5)
			if l.Left {
				c.Text(draw.At(x+4, at(0, l.Y).Y-5), draw.Start, small, draw.Ink, l.Text)
			} else {
				c.Text(draw.At(x+side-4, at(0, l.Y).Y-5), draw.End, small, draw.Ink, l.Text)
			}
		}
	}
	for _, curve := range p.Curves {
		var points []draw.Point
		for _, q := range curve.Points {
			if q.X >= p.XAxis.From && q.X <= p.XAxis.To {
				points = append(points, at(q.X, min(max(q.Y, p.YAxis.From), p.YAxis.To)))
			}
		}
		c.Line(points, series(curve.Series), 2.5)
		if curve.Dots {
			for _, q := range points {
				c.Dot(q, 4.5, series(curve.Series))
			}
		}
	}
}

// part is where a value is on the axis, from 0 to 1.
func (a Axis) part(v float64) float64 { return (v - a.From) / (a.To - a.From) }

func (a Axis) ticks() (out []float64) {
	step := draw.Step((a.To - a.From) / gridLines)
	for n := int(math.Ceil(a.From/step - 1e-9)); float64(n)*step <= a.To+step*1e-9; n++ {
		out = append(out, float64(n)*step)
	}
	return out
}

func (a Axis) text(v float64) string {
	if a.Percent {
		return fmt.Sprintf("%.4g %%", 100*v)
	}
	return fmt.Sprintf("%.4g", v)
}

// bars draws the bars below each other; a few do not grow fat.
func (p Panel) bars(c draw.Canvas, x float64) {
	c.Text(draw.At(x, top-14), draw.Start, small, draw.Ink, p.Y)
	highest := 0.0
	for _, b := range p.Bars {
		sum := 0.0
		for _, v := range b.Parts {
			sum += v
		}
		highest = max(highest, sum)
	}
	row := float64(side) / float64(max(10, len(p.Bars)))
	const room = side - nameWidth - 36 // the number stands behind a bar
	for i, b := range p.Bars {
		y := top + row*float64(i)
		middle := y + row*barHeight/2 + 5
		c.Text(draw.At(x+nameWidth-8, middle), draw.End, small, draw.Ink, shortened(b.Name))
		at, sum := x+nameWidth, 0.0
		for s, v := range b.Parts {
			if v > 0 {
				next := at + room*v/highest
				c.Fill(draw.Box(draw.At(at, y), draw.At(next, y+row*barHeight)), series(s))
				at, sum = next, sum+v
			}
		}
		c.Text(draw.At(at+6, middle), draw.Start, small, draw.Ink, fmt.Sprintf("%.4g", sum))
	}
}

func shortened(name string) string {
	if utf8.RuneCountInString(name) <= maxBarLetter {
		return name
	}
	return string([]rune(name)[:maxBarLetter-1]) + "…"
}
