package main

import (
	"fmt"
	"math"

	"aisle.dev/aisle/internal/draw"
)

// Of the picture, in pixels.
const (
	width, height = 960, 470
	left, right   = 70, 20
	top, bottom   = 84, 70
)

// plot draws the GPU-seconds of each trace and mode. Their axis is logarithmic:
// always on is more than a hundred times what some others are.
func (r *result) plot(svg bool) ([]byte, error) {
	c, err := draw.New(svg, width, height)
	if err != nil {
		return nil, err
	}
	const low, high = 2, 6 // powers of ten
	y := func(v float64) float64 {
		part := (math.Log10(max(v, 1)) - low) / (high - low)
		return top + (height-top-bottom)*(1-min(1, max(0, part)))
	}
	c.Text(draw.At(12, 30), draw.Start, 20, draw.Ink, "GPU-seconds of three days")
	c.Text(draw.At(12, 54), draw.Start, 14, draw.Ink, "on a logarithmic axis; below each trace, the p95 that products waited for whom somebody waits")
	for p := low; p <= high; p++ {
		at := y(math.Pow(10, float64(p)))
		c.Line([]draw.Point{draw.At(left, at), draw.At(width-right, at)}, draw.Grey, 1)
		c.Text(draw.At(left-8, at+4), draw.End, 12, draw.Ink, fmt.Sprintf("%.0f", math.Pow(10, float64(p))))
	}
	place := float64(width-left-right) / float64(len(traces))
	perTrace := len(r.Rows) / len(traces)
	bar := place * 0.86 / float64(perTrace)
	for i, x := range r.Rows {
		trace, mode := i/perTrace, i%perTrace
		from := left + place*(float64(trace)+0.07) + bar*float64(mode)
		colour := draw.Series[mode%len(draw.Series)]
		c.Fill(draw.Box(draw.At(from+2, y(0)), draw.At(from+bar-2, y(x.GPUSeconds))), colour)
		c.Text(draw.At(from+bar/2, y(x.GPUSeconds)-5), draw.Middle, 11, draw.Ink, fmt.Sprintf("%.0f", x.GPUSeconds))
		if x.Requests != nil {
			c.Text(draw.At(from+bar/2, y(0)+16), draw.Middle, 11, draw.Ink, span(x.Requests.P95))
		}
		if mode == 0 {
			c.Text(draw.At(left+place*(float64(trace)+0.5), y(0)+36), draw.Middle, 14, draw.Ink, x.Trace)
		}
		if trace == 0 {
			at := left + float64(mode)*float64(width-left-right)/float64(perTrace)
			c.Fill(draw.Box(draw.At(at, height-22), draw.At(at+14, height-10)), colour)
			c.Text(draw.At(at+20, height-11), draw.Start, 13, draw.Ink, x.Mode)
		}
	}
	c.Line([]draw.Point{draw.At(left, y(0)), draw.At(width-right, y(0))}, draw.Ink, 1.5)
	return c.Bytes()
}
