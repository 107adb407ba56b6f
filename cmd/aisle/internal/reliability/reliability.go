// Package reliability draws reliability diagrams: how often answers are right
// against how sure they are. What is calibrated lies on the diagonal.
//
// It draws what it is given and computes nothing.
package reliability

import (
	"fmt"
	"strings"

	"aisle.dev/aisle/internal/draw"
	"aisle.dev/aisle/internal/score"
)

// Diagram is what is drawn.
type Diagram struct {
	Title  string
	Series []Series
}

// Series is one line of points, least sure first.
type Series struct {
	Label string
	Bins  []score.Bin
}

// Known reports whether a file's name says PNG or SVG.
func Known(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".png") || strings.HasSuffix(name, ".svg")
}

const (
	width, height = 720, 784
	left, top     = 80, 84
	side          = 600 // of the square
)

// Draw returns the diagram as SVG or as PNG.
func (d Diagram) Draw(svg bool) ([]byte, error) {
	legend := len(d.Series)*22 + 20
	c, err := draw.New(svg, width, height+legend)
	if err != nil {
		return nil, err
	}
	at := func(x, y float64) draw.Point { return draw.At(left+x*side, top+(1-y)*side) }
	c.Text(draw.At(12, 30), draw.Start, 20, draw.Ink, d.Title)
	for i := range 6 {
		v := float64(i) / 5
		c.Line([]draw.Point{at(v, 0), at(v, 1)}, draw.Grey, 1)
		c.Line([]draw.Point{at(0, v), at(1, v)}, draw.Grey, 1)
		c.Text(draw.At(at(v, 0).X, top+side+22), draw.Middle, 14, draw.Ink, fmt.Sprintf("%.1f", v))
		c.Text(draw.At(left-10, at(0, v).Y+5), draw.End, 14, draw.Ink, fmt.Sprintf("%.1f", v))
	}
	c.Line([]draw.Point{at(0, 0), at(1, 1)}, draw.Dark, 1.5)
	c.Text(draw.At(left+side/2, top+side+50), draw.Middle, 16, draw.Ink, "how sure: mean confidence of a bin")
	c.Text(draw.At(12, top-18), draw.Start, 16, draw.Ink, "how often right")
	for i, s := range d.Series {
		colour := draw.Series[i%len(draw.Series)]
		var points []draw.Point
		for _, b := range s.Bins {
			points = append(points, at(b.Confidence, b.Accuracy))
		}
		c.Line(points, colour, 2.5)
		for _, p := range points {
			c.Dot(p, 4.5, colour)
		}
		y := float64(height + 22*i)
		c.Line([]draw.Point{draw.At(left, y), draw.At(left+36, y)}, colour, 3)
		c.Dot(draw.At(left+18, y), 5, colour)
		c.Text(draw.At(left+48, y+5), draw.Start, 15, draw.Ink, s.Label)
	}
	return c.Bytes()
}
