// Package reliability draws reliability diagrams: how often answers are right
// against how sure they are. What is calibrated lies on the diagonal.
//
// A diagram is drawn as PNG or as SVG from the same strokes. It draws what it
// is given and computes nothing.
package reliability

import (
	"fmt"
	"image/color"
	"strings"

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

// canvas is what a format can draw. Coordinates are pixels from the top left.
type canvas interface {
	line(points []point, c color.RGBA, width float64)
	dot(at point, radius float64, c color.RGBA)
	text(at point, anchor anchor, size float64, c color.RGBA, s string)
	bytes() ([]byte, error)
}

type point struct{ x, y float64 }

// anchor is which point of a text its place is.
type anchor int

const (
	start anchor = iota
	middle
	end
)

const (
	width, height = 720, 784
	left, top     = 80, 84
	side          = 600 // of the square
)

var (
	ink  = color.RGBA{0x22, 0x22, 0x22, 0xff}
	grey = color.RGBA{0xd8, 0xd8, 0xd8, 0xff}
	dark = color.RGBA{0x99, 0x99, 0x99, 0xff}
	// Told apart also by those who see few colours (Okabe and Ito).
	colours = []color.RGBA{{0x00, 0x72, 0xb2, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff}}
)

// Draw returns the diagram as SVG or as PNG.
func (d Diagram) Draw(svg bool) ([]byte, error) {
	legend := len(d.Series)*22 + 20
	var c canvas
	if svg {
		c = newVector(width, height+legend)
	} else {
		p, err := newPixels(width, height+legend)
		if err != nil {
			return nil, err
		}
		c = p
	}
	at := func(x, y float64) point { return point{left + x*side, top + (1-y)*side} }
	c.text(point{12, 30}, start, 20, ink, d.Title)
	for i := range 6 {
		v := float64(i) / 5
		c.line([]point{at(v, 0), at(v, 1)}, grey, 1)
		c.line([]point{at(0, v), at(1, v)}, grey, 1)
		c.text(point{at(v, 0).x, top + side + 22}, middle, 14, ink, fmt.Sprintf("%.1f", v))
		c.text(point{left - 10, at(0, v).y + 5}, end, 14, ink, fmt.Sprintf("%.1f", v))
	}
	c.line([]point{at(0, 0), at(1, 1)}, dark, 1.5)
	c.text(point{left + side/2, top + side + 50}, middle, 16, ink, "how sure: mean confidence of a bin")
	c.text(point{12, top - 18}, start, 16, ink, "how often right")
	for i, s := range d.Series {
		colour := colours[i%len(colours)]
		var points []point
		for _, b := range s.Bins {
			points = append(points, at(b.Confidence, b.Accuracy))
		}
		c.line(points, colour, 2.5)
		for _, p := range points {
			c.dot(p, 4.5, colour)
		}
		y := float64(height + 22*i)
		c.line([]point{{left, y}, {left + 36, y}}, colour, 3)
		c.dot(point{left + 18, y}, 5, colour)
		c.text(point{left + 48, y + 5}, start, 15, ink, s.Label)
	}
	return c.bytes()
}
