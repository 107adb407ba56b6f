// Package draw makes pictures of lines, areas, dots and words, as PNG or as SVG
// from the same strokes.
//
// It knows nothing of what it draws, lays nothing out, and makes no animation.
package draw

import (
	"image/color"
	"math"
)

// Canvas is a picture that is being drawn, of one format. Coordinates are
// pixels from the top left.
type Canvas interface {
	Line(points []Point, c color.RGBA, width float64)
	// Fill paints a closed shape of at least three points.
	Fill(shape []Point, c color.RGBA)
	Dot(at Point, radius float64, c color.RGBA)
	Text(at Point, a Anchor, size float64, c color.RGBA, s string)
	// Bytes are those of the picture's file.
	Bytes() ([]byte, error)
}

// Point is a place.
type Point struct{ X, Y float64 }

// At is the place at x and y.
func At(x, y float64) Point { return Point{x, y} }

// Anchor is which point of a text its place is.
type Anchor int

// The ends of a text's base line, and its middle.
const (
	Start Anchor = iota
	Middle
	End
)

// Colours of what is no data.
var (
	Ink  = color.RGBA{0x22, 0x22, 0x22, 0xff}
	Grey = color.RGBA{0xd8, 0xd8, 0xd8, 0xff}
	Dark = color.RGBA{0x99, 0x99, 0x99, 0xff}
)

// Series are colours of data, told apart also by those who see few colours
// (Okabe and Ito).
var Series = []color.RGBA{{0x00, 0x72, 0xb2, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff}}

// New begins a white picture of a width and height: SVG, or else PNG.
func New(svg bool, w, h int) (Canvas, error) {
	if svg {
		return newVector(w, h), nil
	}
	return newPixels(w, h)
}

// Step is how far a plot's grid lines are apart: the least of 1, 2 and 5 times
// a power of ten that is not below v.
func Step(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 5} {
		if n*power >= v {
			return n * power
		}
	}
	return 10 * power
}

// Box is the shape of a rectangle between two corners.
func Box(a, b Point) []Point {
	return []Point{a, {b.X, a.Y}, b, {a.X, b.Y}}
}
