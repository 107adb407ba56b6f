package draw

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// pixelCanvas draws into an image, with smooth edges.
type pixelCanvas struct {
	im    *image.RGBA
	font  *opentype.Font
	faces map[float64]font.Face
}

func newPixels(w, h int) (*pixelCanvas, error) {
	f, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return nil, fmt.Errorf("read the font: %w", err)
	}
	im := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(im, im.Bounds(), image.White, image.Point{}, draw.Src)
	return &pixelCanvas{im: im, font: f, faces: map[float64]font.Face{}}, nil
}

func (p *pixelCanvas) Fill(shape []Point, c color.RGBA) {
	// No larger than the shape: a picture has thousands of them.
	low, high := shape[0], shape[0]
	for _, q := range shape[1:] {
		low, high = At(min(low.X, q.X), min(low.Y, q.Y)), At(max(high.X, q.X), max(high.Y, q.Y))
	}
	box := image.Rect(int(math.Floor(low.X)), int(math.Floor(low.Y)), int(math.Ceil(high.X)), int(math.Ceil(high.Y))).Intersect(p.im.Bounds())
	if box.Empty() {
		return
	}
	z := vector.NewRasterizer(box.Dx(), box.Dy())
	at := func(q Point) (x, y float32) {
		return float32(q.X - float64(box.Min.X)), float32(q.Y - float64(box.Min.Y))
	}
	z.MoveTo(at(shape[0]))
	for _, q := range shape[1:] {
		z.LineTo(at(q))
	}
	z.ClosePath()
	z.Draw(p.im, box, image.NewUniform(c), image.Point{})
}

func (p *pixelCanvas) Line(points []Point, c color.RGBA, width float64) {
	for i := range len(points) - 1 {
		a, b := points[i], points[i+1]
		dx, dy := b.X-a.X, b.Y-a.Y
		length := math.Hypot(dx, dy)
		if length == 0 {
			continue
		}
		nx, ny := -dy/length*width/2, dx/length*width/2
		p.Fill([]Point{{a.X + nx, a.Y + ny}, {b.X + nx, b.Y + ny}, {b.X - nx, b.Y - ny}, {a.X - nx, a.Y - ny}}, c)
	}
}

func (p *pixelCanvas) Dot(at Point, radius float64, c color.RGBA) {
	const corners = 32
	shape := make([]Point, corners)
	for i := range shape {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / corners)
		shape[i] = Point{at.X + radius*cos, at.Y + radius*sin}
	}
	p.Fill(shape, c)
}

func (p *pixelCanvas) Text(at Point, a Anchor, size float64, c color.RGBA, s string) {
	face, ok := p.faces[size]
	if !ok {
		var err error
		if face, err = opentype.NewFace(p.font, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull}); err != nil {
			return // a size that the font cannot have: the sizes here are constants, and drawn in tests
		}
		p.faces[size] = face
	}
	x := fixed.Int26_6(at.X * 64)
	switch w := font.MeasureString(face, s); a {
	case Middle:
		x -= w / 2
	case End:
		x -= w
	}
	d := font.Drawer{Dst: p.im, Src: image.NewUniform(c), Face: face, Dot: fixed.Point26_6{X: x, Y: fixed.Int26_6(at.Y * 64)}}
	d.DrawString(s)
}

func (p *pixelCanvas) Bytes() ([]byte, error) {
	var buf bytes.Buffer
	err := png.Encode(&buf, p.im)
	return buf.Bytes(), err
}
