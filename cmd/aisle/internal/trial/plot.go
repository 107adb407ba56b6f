package trial

import (
	"fmt"
	"math"

	"aisle.dev/aisle/internal/draw"
)

// Of the picture, in pixels.
const (
	width, height    = 960, 520
	left, right      = 96, 24
	top, bottom      = 76, 76
	gridLines        = 4
	small, body, big = 12, 14, 20 // text
)

// Plot draws the rate over the batch size, a line for each number of threads.
func (f Figures) Plot(svg bool) ([]byte, error) {
	c, err := draw.New(svg, width, height)
	if err != nil {
		return nil, err
	}
	var sizes []int
	lines := map[int][]Point{}
	var threads []int
	highest := 0.0
	for _, p := range f.Points {
		if len(lines[p.Threads]) == 0 {
			threads = append(threads, p.Threads)
		}
		lines[p.Threads] = append(lines[p.Threads], p)
		highest = max(highest, p.Rate)
	}
	if len(threads) > 0 {
		for _, p := range lines[threads[0]] {
			sizes = append(sizes, p.Batch)
		}
	}
	step := draw.Step(highest / gridLines)
	ceiling := max(step, math.Ceil(highest/step)*step)
	const plotWidth, plotHeight = width - left - right, height - top - bottom
	y := func(rate float64) float64 { return top + plotHeight*(1-rate/ceiling) }
	x := func(i int) float64 { return left + plotWidth*(float64(i)+0.5)/float64(max(1, len(sizes))) }

	c.Text(draw.At(12, 30), draw.Start, big, draw.Ink, f.Model+" on "+f.Device)
	c.Text(draw.At(12, 54), draw.Start, body, draw.Ink, "rows a second over batch size, in process, ONNX Runtime "+f.Runtime)
	for v := 0.0; v <= ceiling*1.0001; v += step {
		c.Line([]draw.Point{draw.At(left, y(v)), draw.At(width-right, y(v))}, draw.Grey, 1)
		c.Text(draw.At(left-8, y(v)+4), draw.End, small, draw.Ink, fmt.Sprintf("%.6g", v))
	}
	for i, n := range sizes {
		c.Text(draw.At(x(i), y(0)+18), draw.Middle, small, draw.Ink, fmt.Sprint(n))
	}
	for k, n := range threads {
		shade := draw.Series[k%len(draw.Series)]
		var points []draw.Point
		for i, p := range lines[n] {
			points = append(points, draw.At(x(i), y(p.Rate)))
		}
		c.Line(points, shade, 2.5)
		for _, p := range points {
			c.Dot(p, 4, shade)
		}
		words := fmt.Sprintf("%d threads", n)
		if n == 1 {
			words = "1 thread"
		}
		at := draw.At(left+float64(k)*120, height-24)
		c.Dot(draw.At(at.X, at.Y-4), 5, shade)
		c.Text(draw.At(at.X+12, at.Y), draw.Start, small, draw.Ink, words)
	}
	c.Line([]draw.Point{draw.At(left, y(0)), draw.At(width-right, y(0))}, draw.Ink, 1.5)
	return c.Bytes()
}
