package main

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"strconv"
	"strings"

	"golang.org/x/image/vector"
)

// drawing is layers, painted in order.
type drawing struct {
	name   string
	layers []layer
}

// layer is one path: filled, or stroked where width > 0.
type layer struct {
	colour uint32 // 0xRRGGBB
	width  float64
	path   string // M L Q C Z with absolute coordinates, as in SVG
	mirror bool   // painted a second time, mirrored left to right
}

func fill(c uint32, path string) layer              { return layer{colour: c, path: path} }
func stroke(c uint32, w float64, path string) layer { return layer{colour: c, width: w, path: path} }

// both paints the layer and its mirror image.
func both(l layer) layer {
	l.mirror = true
	return l
}

func ellipse(cx, cy, rx, ry float64) string {
	const k = 0.5523 // of a circle's quarter as a cubic curve
	return fmt.Sprintf("M%g %g C%g %g %g %g %g %g C%g %g %g %g %g %g C%g %g %g %g %g %g C%g %g %g %g %g %g Z",
		cx-rx, cy, cx-rx, cy-k*ry, cx-k*rx, cy-ry, cx, cy-ry, cx+k*rx, cy-ry, cx+rx, cy-k*ry, cx+rx, cy,
		cx+rx, cy+k*ry, cx+k*rx, cy+ry, cx, cy+ry, cx-k*rx, cy+ry, cx-rx, cy+k*ry, cx-rx, cy)
}

type pt struct{ x, y float64 }

// segment is a verb with its points; a Z has none.
type segment struct {
	verb   byte
	points []pt
}

func parse(path string) ([]segment, error) {
	var segments []segment
	for _, token := range strings.Fields(strings.NewReplacer("M", " M ", "L", " L ", "Q", " Q ", "C", " C ", "Z", " Z ", ",", " ").Replace(path)) {
		if strings.ContainsAny(token, "MLQCZ") {
			segments = append(segments, segment{verb: token[0]})
			continue
		}
		v, err := strconv.ParseFloat(token, 64)
		if err != nil || len(segments) == 0 {
			return nil, fmt.Errorf("path %q: %q is neither a verb nor a coordinate of one", path, token)
		}
		s := &segments[len(segments)-1]
		if n := len(s.points); n > 0 && math.IsNaN(s.points[n-1].y) {
			s.points[n-1].y = v
		} else {
			s.points = append(s.points, pt{v, math.NaN()})
		}
	}
	for _, s := range segments {
		if want := map[byte]int{'M': 1, 'L': 1, 'Q': 2, 'C': 3}[s.verb]; len(s.points) != want || want > 0 && math.IsNaN(s.points[want-1].y) {
			return nil, fmt.Errorf("path %q: %c has %d points, want %d", path, s.verb, len(s.points), want)
		}
	}
	return segments, nil
}

// flatten returns the path's lines, curves as short straight pieces.
func flatten(segments []segment) [][]pt {
	var lines [][]pt
	var line []pt
	for _, s := range segments {
		switch s.verb {
		case 'M':
			if len(line) > 0 {
				lines = append(lines, line)
			}
			line = []pt{s.points[0]}
		case 'Z':
			line = append(line, line[0])
		default:
			control := append([]pt{line[len(line)-1]}, s.points...)
			steps := 1
			if len(control) > 2 {
				steps = 24
			}
			for i := 1; i <= steps; i++ {
				line = append(line, bezier(control, float64(i)/float64(steps)))
			}
		}
	}
	return append(lines, line)
}

// bezier is de Casteljau's point of a curve of any degree.
func bezier(control []pt, t float64) pt {
	p := append([]pt(nil), control...)
	for n := len(p) - 1; n > 0; n-- {
		for i := range n {
			p[i] = pt{p[i].x + t*(p[i+1].x-p[i].x), p[i].y + t*(p[i+1].y-p[i].y)}
		}
	}
	return p[0]
}

func render(d drawing) (*image.RGBA, error) {
	im := image.NewRGBA(image.Rect(0, 0, size, size))
	draw.Draw(im, im.Bounds(), image.White, image.Point{}, draw.Src)
	for _, l := range d.layers {
		segments, err := parse(l.path)
		if err != nil {
			return nil, fmt.Errorf("drawing %s: %w", d.name, err)
		}
		lines := flatten(segments)
		paint(im, l, lines)
		if l.mirror {
			for _, line := range lines {
				for i := range line {
					line[i].x = size - line[i].x
				}
			}
			paint(im, l, lines)
		}
	}
	return im, nil
}

func paint(im *image.RGBA, l layer, lines [][]pt) {
	c := image.NewUniform(color.RGBA{uint8(l.colour >> 16), uint8(l.colour >> 8), uint8(l.colour), 0xff})
	z := vector.NewRasterizer(size, size)
	outline := func(o []pt) {
		z.MoveTo(float32(o[0].x), float32(o[0].y))
		for _, p := range o[1:] {
			z.LineTo(float32(p.x), float32(p.y))
		}
		z.ClosePath()
	}
	for _, line := range lines {
		if l.width == 0 {
			outline(line)
			continue
		}
		// Pieces and round joints overlap, so all run the same way round: where
		// ways differ, what is painted twice would be blank.
		for i := range len(line) - 1 {
			a, b := line[i], line[i+1]
			length := math.Hypot(b.x-a.x, b.y-a.y)
			if length == 0 {
				continue
			}
			nx, ny := -(b.y-a.y)/length*l.width/2, (b.x-a.x)/length*l.width/2
			outline([]pt{{a.x - nx, a.y - ny}, {b.x - nx, b.y - ny}, {b.x + nx, b.y + ny}, {a.x + nx, a.y + ny}})
		}
		for _, p := range line {
			outline(disc(p, l.width/2))
		}
	}
	z.Draw(im, im.Bounds(), c, image.Point{})
}

func disc(centre pt, radius float64) []pt {
	const corners = 24
	o := make([]pt, corners)
	for i := range o {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / corners)
		o[i] = pt{centre.x + radius*cos, centre.y + radius*sin}
	}
	return o
}
